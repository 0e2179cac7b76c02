#include "fdn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <zmq.h>

#include "wire.h"

#define CALL_MS 5000
#define GREETING_MS 5000
#define PING_MS 1000
#define LINGER_MS 1000 /* for BYE; a node that is gone keeps nobody waiting longer */
#define REDIAL_MS_MIN 50
#define REDIAL_MS_MAX 1000
#define QUEUE_MAX 64       /* items waiting for the connection's credit, until `fdn_item` says no */
#define RECEIVE_TURN 256   /* frames of one connection before another has its turn */
#define NEVER INT64_MAX
#define UNLIMITED UINT64_MAX
static const uint64_t REQUEST_WINDOW[2] = {256, 1 << 20};

enum { COORDINATION, DATA, EVENTS, CHANNELS };
static const char *const CHANNEL_NAMES[] = {"coordination", "data", "events"};
static const int SILENCE_MS[] = {5000, 30000, 30000};

/* An envelope on its way. Its deadline is written as it goes out. */
typedef struct outgoing {
    struct outgoing *next;
    fdn_call *call; /* that it goes with: cancelled means dropped */
    bool dropped;
    int64_t deadline_at;
    envelope envelope;
} outgoing;

typedef struct {
    outgoing *first, **last;
    size_t size;
} queue;

/* One connection: a DEALER for one attempt. */
typedef struct {
    fdn *client;
    int channel;
    enum { CLOSED, GREETING, OPEN } state;
    void *socket, *monitor;
    char *endpoint;
    int64_t greeting_until;
    uint64_t epoch;
    uint64_t granted[2], sent[2]; /* messages and bytes since HELLO */
    bool deaf;
    queue exempt, waiting; /* what does not need credit goes ahead */
} connection;

typedef struct item {
    struct item *next;
    mp_span value;
} item;

struct fdn_call_state {
    fdn_call call;
    struct fdn_call_state *next;
    int channel;
    int64_t deadline_at;
    bool over;   /* the far side expects and sends nothing more */
    bool dead;   /* swept at the end of the turn */
    bool quiet;  /* ours: a subscription made again at another node */
    bool windowed;
    /* What comes in: a reply's items, or a request's. */
    item *first, **last;
    uint64_t window[2], granted[2], received[2], read[2];
    bool ended;
    mp_span failure, taken;
    /* What goes out: a request's items, or a reply's. */
    bool sends, blocked;
    uint64_t allowed[2], sent[2];
};
typedef struct fdn_call_state call_state;

/* A subscription or a service: made again at each new node. */
typedef struct registration {
    struct registration *next;
    uint64_t id;
    int channel;
    char *to;
    mp_span body;
    bool service, takes_stream;
} registration;

struct fdn {
    void *context;
    const fdn_handlers *handlers;
    void *user;
    char *cluster, *name, *node;
    char **endpoints;
    size_t endpoint_count, next_endpoint, tried;
    int64_t redial_at, pause;
    bool up;
    mp_span identity; /* of the node */
    mp_span refusal;  /* the last failure of this round */
    connection connections[CHANNELS];
    call_state *calls;
    registration *registrations;
    uint64_t last_id, last_epoch, monitors;
};

static void lose(connection *lost, const char *why);
static void begin_quietly(fdn *client, const registration *made);

/* --- small things ----------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t chance(void)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        abort();
    return bits;
}

static char *text_copy(const char *text, size_t size)
{
    char *copy = mp_room(size + 1);
    memcpy(copy, text, size);
    return copy;
}

static mp_span text_span(const char *text)
{
    return (mp_span){(const uint8_t *)text, strlen(text)};
}

static void release(mp_span *span)
{
    free((void *)span->at);
    *span = (mp_span){0};
}

static int channel_of(const char *name)
{
    for (int i = 0; name && i < CHANNELS; i++)
        if (strcmp(name, CHANNEL_NAMES[i]) == 0)
            return i;
    return DATA;
}

/* The body of an ERROR; ends with free. */
static mp_span failure_body(const char *code, mp_span message, const char *hint, bool retryable)
{
    mp_writer writer = {0};
    mp_map(&writer, hint ? 4 : 3);
    mp_str(&writer, "code");
    mp_str(&writer, code);
    mp_str(&writer, "message");
    mp_text(&writer, message);
    mp_str(&writer, "retryable");
    mp_bool(&writer, retryable);
    if (hint) {
        mp_str(&writer, "hint");
        mp_str(&writer, hint);
    }
    return mp_written(&writer);
}

/* Two unsigned totals of an array, from its element `from` on. */
static bool read_pair(mp_span array, uint32_t from, uint64_t pair[2])
{
    mp_reader reader = mp_read(array);
    mp_head head;
    if (!mp_next(&reader, &head) || head.type != MP_ARRAY || head.count < from + 2)
        return false;
    for (uint32_t i = 0; i < from + 2; i++) {
        mp_span value;
        if (!mp_skip(&reader, &value))
            return false;
        if (i >= from)
            pair[i - from] = mp_number(value, 0);
    }
    return true;
}

static void raise_totals(uint64_t held[2], const uint64_t heard[2])
{
    for (int i = 0; i < 2; i++)
        if (heard[i] > held[i])
            held[i] = heard[i];
}

static bool within(const uint64_t used[2], const uint64_t allowed[2])
{
    return used[0] < allowed[0] && used[1] < allowed[1];
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

static void forget(outgoing *entry)
{
    release(&entry->envelope.to);
    release(&entry->envelope.meta);
    release(&entry->envelope.body);
    free(entry);
}

static outgoing *shift(queue *from)
{
    outgoing *entry = from->first;
    from->first = entry->next;
    from->size--;
    if (from->first == NULL)
        from->last = &from->first;
    return entry;
}

static void enqueue(connection *to, envelope sent, fdn_call *call, int64_t deadline_at)
{
    outgoing *entry = mp_room(sizeof *entry);
    queue *behind = needs_credit(sent.kind) ? &to->waiting : &to->exempt;
    sent.to = mp_copy(sent.to);
    sent.meta = mp_copy(sent.meta);
    sent.body = mp_copy(sent.body);
    *entry = (outgoing){.call = call, .deadline_at = deadline_at, .envelope = sent};
    if (behind->first == NULL)
        behind->last = &behind->first;
    *behind->last = entry;
    behind->last = &entry->next;
    behind->size++;
}

/* Hand one envelope to ZeroMQ; false when it does not take it now. */
static bool transmit(connection *to, const outgoing *entry)
{
    envelope sent = entry->envelope;
    mp_writer frame = {0};
    if (entry->deadline_at != NEVER)
        sent.deadline_ms = (uint64_t)(entry->deadline_at - now_ms());
    batch_write(&frame, 1);
    envelope_write(&frame, &sent);
    bool taken = zmq_send(to->socket, frame.at, frame.size, ZMQ_DONTWAIT) >= 0;
    if (taken && needs_credit(sent.kind)) {
        to->sent[0] += 1;
        to->sent[1] += frame.size;
    }
    mp_free(&frame);
    return taken;
}

static void pump(connection *to)
{
    while (to->state != CLOSED) {
        queue *from = to->exempt.first ? &to->exempt : &to->waiting;
        if (from->first == NULL)
            return;
        /* Before WELCOME nothing goes out but HELLO, which is always the first. */
        if (to->state == GREETING && from->first->envelope.kind != HELLO)
            return;
        if (from == &to->waiting && !within(to->sent, to->granted))
            return;
        bool late = from->first->deadline_at <= now_ms();
        if (!late && !from->first->dropped && !transmit(to, from->first))
            return;
        forget(shift(from));
    }
}

/* What still waits to be sent for this call: dropped, or sent without it. */
static void disown(call_state *call, bool drop)
{
    connection *through = &call->call.client->connections[call->channel];
    for (queue *line = &through->exempt;; line = &through->waiting) {
        for (outgoing *entry = line->first; entry; entry = entry->next)
            if (entry->call == &call->call) {
                entry->call = NULL;
                entry->dropped = drop;
            }
        if (line == &through->waiting)
            return;
    }
}

static void send_for(call_state *call, int64_t kind, const char *to, mp_span body)
{
    connection *through = &call->call.client->connections[call->channel];
    fdn_call *owner = kind == ITEM || (kind == END && !call->call.served) ? &call->call : NULL;
    enqueue(through, (envelope){.kind = kind, .to = text_span(to), .id = call->call.id, .body = body}, owner, NEVER);
}

/* --- calls ------------------------------------------------------------------------------------------------------ */

static call_state *new_call(fdn *client, int channel, bool served, uint64_t id, mp_span to)
{
    call_state *call = mp_room(sizeof *call);
    call->call = (fdn_call){.client = client, .id = id, .served = served, .to = mp_copy(to), .state = call};
    call->channel = channel;
    call->deadline_at = NEVER;
    call->last = &call->first;
    call->next = client->calls;
    client->calls = call;
    return call;
}

static call_state *find_call(fdn *client, int channel, bool served, uint64_t id)
{
    for (call_state *call = client->calls; call; call = call->next)
        if (call->channel == channel && call->call.served == served && call->call.id == id && !call->over && !call->dead)
            return call;
    return NULL;
}

static void free_call(call_state *call)
{
    while (call->first) {
        item *next = call->first->next;
        release(&call->first->value);
        free(call->first);
        call->first = next;
    }
    release(&call->failure);
    release(&call->taken);
    release(&call->call.to);
    release(&call->call.body);
    release(&call->call.headers);
    release(&call->call.origin);
    free(call);
}

static void sweep(fdn *client)
{
    for (call_state **at = &client->calls; *at;) {
        call_state *call = *at;
        if (!call->dead) {
            at = &call->next;
            continue;
        }
        *at = call->next;
        disown(call, false);
        free_call(call);
    }
}

static void arrived(call_state *call)
{
    const fdn_handlers *handlers = call->call.client->handlers;
    mp_span value;
    if (!call->quiet) {
        if (!call->dead)
            handlers->arrived(&call->call);
        return;
    }
    switch (fdn_take(&call->call, &value)) {
    case FDN_NOTHING:
        return;
    case FDN_FAILED:
        handlers->withdrawn(call->call.client->user, call->call.id, value);
        break;
    default:
        break;
    }
    fdn_done(&call->call);
}

/* The last that comes in for this call; `failure` is the body of an ERROR, or empty. */
static void finish(call_state *call, mp_span failure)
{
    if (call->ended)
        return;
    call->ended = true;
    call->failure = mp_copy(failure);
    if (!call->call.served) {
        call->over = true;
        disown(call, true);
    }
    arrived(call);
}

static void fail_with(call_state *call, const char *code, const char *message, bool retryable)
{
    mp_span body = failure_body(code, text_span(message), NULL, retryable);
    finish(call, body);
    release(&body);
}

/* Stop a call of ours, or one of the node's that will not be answered any more. */
static void cancel(call_state *call)
{
    if (call->over)
        return;
    call->over = true;
    disown(call, true);
    if (!call->call.served)
        send_for(call, CANCEL, "", (mp_span){0});
}

/* A served call has its answer, or nobody waits for it. */
static void leave(call_state *call, bool tell)
{
    if (call->dead)
        return;
    disown(call, tell);
    call->over = call->dead = true;
    if (tell)
        call->call.client->handlers->over(&call->call);
}

static void late(call_state *call)
{
    if (call->over)
        return;
    if (call->call.served) {
        fdn_call *served = &call->call;
        const fdn_handlers *handlers = served->client->handlers;
        handlers->over(served);
        if (!call->dead)
            fdn_fail(served, "deadline_exceeded", "the deadline of the call has passed", NULL);
        return;
    }
    cancel(call);
    fail_with(call, "deadline_exceeded", "no answer before the deadline", false);
}

static void came(call_state *call, mp_span body, bool counted)
{
    item *fresh = mp_room(sizeof *fresh);
    bool good = within(call->received, call->granted) || !counted;
    fresh->value = mp_copy(body);
    if (body.size == 0) { /* left out: nil */
        static const uint8_t nil = 0xc0;
        fresh->value = mp_copy((mp_span){&nil, 1});
    }
    call->received[0] += 1;
    call->received[1] += fresh->value.size;
    *call->last = fresh;
    call->last = &fresh->next;
    if (good) {
        arrived(call);
    } else if (call->call.served) {
        call->call.client->handlers->over(&call->call);
        fdn_fail(&call->call, "bad_request", "an item of the request beyond the window", NULL);
    } else {
        cancel(call);
        fail_with(call, "bad_request", "an item of the reply beyond the window", false);
    }
}

/* Grant more once half the window has been read. */
static void grant(call_state *call)
{
    bool due = false;
    uint64_t wanted[2];
    for (int i = 0; i < 2; i++) {
        if (call->window[i] == UNLIMITED || call->ended || call->over)
            return;
        wanted[i] = call->read[i] + call->window[i];
        due = due || 2 * (wanted[i] - call->granted[i]) >= call->window[i];
    }
    if (!due)
        return;
    mp_writer body = {0};
    memcpy(call->granted, wanted, sizeof wanted);
    mp_array(&body, 2);
    mp_uint(&body, wanted[0]);
    mp_uint(&body, wanted[1]);
    send_for(call, CREDIT, call->call.served ? "request" : "reply", mp_written(&body));
    mp_free(&body);
}

fdn_taken fdn_take(fdn_call *public_call, mp_span *value)
{
    call_state *call = public_call->state;
    if (call->call.served ? public_call->request_stream : call->windowed)
        grant(call);
    if (call->first) {
        item *taken = call->first;
        call->first = taken->next;
        if (call->first == NULL)
            call->last = &call->first;
        release(&call->taken);
        *value = call->taken = taken->value;
        call->read[0] += 1;
        call->read[1] += taken->value.size;
        free(taken);
        grant(call);
        return FDN_ITEM;
    }
    *value = call->failure;
    return !call->ended ? FDN_NOTHING : call->failure.size > 0 ? FDN_FAILED : FDN_END;
}

void fdn_done(fdn_call *call)
{
    cancel(call->state);
    call->state->dead = true;
}

static mp_span request_meta(mp_span headers, const uint64_t window[2], bool request_stream, mp_writer *writer)
{
    size_t keys = (size_t)(headers.size > 0) + (size_t)(window != NULL) + (size_t)request_stream;
    if (keys == 0)
        return (mp_span){0};
    mp_map(writer, keys);
    if (headers.size > 0) {
        mp_uint(writer, META_HEADERS);
        mp_raw(writer, headers);
    }
    if (window) {
        mp_uint(writer, META_WINDOW);
        mp_array(writer, 2);
        mp_uint(writer, window[0]);
        mp_uint(writer, window[1]);
    }
    if (request_stream) {
        mp_uint(writer, META_REQUEST_STREAM);
        mp_bool(writer, true);
    }
    return mp_written(writer);
}

fdn_call *fdn_begin(fdn *client, const fdn_request *request)
{
    uint64_t timeout_ms = request->timeout_ms ? request->timeout_ms : CALL_MS;
    call_state *call = new_call(client, channel_of(request->channel), false, ++client->last_id, text_span(request->to));
    mp_writer writer = {0};
    bool windowed = request->window[0] > 0;
    mp_span meta = request_meta(request->headers, windowed ? request->window : NULL, request->request_stream, &writer);
    for (int i = 0; i < 2; i++)
        call->window[i] = call->granted[i] = windowed ? request->window[i] : UNLIMITED;
    call->windowed = windowed;
    call->sends = request->request_stream; /* nothing is allowed before CREDIT */
    call->deadline_at = now_ms() + (int64_t)timeout_ms;
    envelope sent = {.kind = CALL, .to = call->call.to, .id = call->call.id, .meta = meta, .body = request->body};
    enqueue(&client->connections[call->channel], sent, &call->call, call->deadline_at);
    mp_free(&writer);
    return &call->call;
}

bool fdn_item(fdn_call *public_call, mp_span body)
{
    call_state *call = public_call->state;
    connection *through = &public_call->client->connections[call->channel];
    call->blocked = !within(call->sent, call->allowed) || through->waiting.size >= QUEUE_MAX;
    if (call->blocked || call->over)
        return false;
    call->sent[0] += 1;
    call->sent[1] += body.size > 0 ? body.size : 1;
    send_for(call, ITEM, public_call->served ? "" : "request", body);
    return true;
}

void fdn_end(fdn_call *call)
{
    if (!call->state->over)
        send_for(call->state, END, call->served ? "" : "request", (mp_span){0});
    call->state->sends = false;
    if (call->served)
        leave(call->state, false);
}

void fdn_fail(fdn_call *call, const char *code, const char *message, const char *hint)
{
    call_state *state = call->state;
    mp_span body = failure_body(code, text_span(message), hint, false);
    if (!call->served) {
        if (!state->over)
            send_for(state, END, "request", body);
        state->sends = false;
    } else {
        /* ERROR may overtake items, so it is only for a call that has sent none. */
        if (call->wants_answer)
            send_for(state, state->sent[0] > 0 ? END : ERROR, "", body);
        leave(state, false);
    }
    release(&body);
}

void fdn_reply(fdn_call *call, mp_span body)
{
    if (call->wants_answer)
        send_for(call->state, REPLY, "", body);
    leave(call->state, false);
}

static void send_once(fdn *client, int channel, int64_t kind, const char *to, mp_span body, mp_span headers)
{
    mp_writer writer = {0};
    mp_span meta = request_meta(headers, NULL, false, &writer);
    envelope sent = {.kind = kind, .to = text_span(to), .meta = meta, .body = body};
    enqueue(&client->connections[channel], sent, NULL, NEVER);
    mp_free(&writer);
}

void fdn_cast(fdn *client, const char *to, mp_span body, mp_span headers)
{
    send_once(client, DATA, CAST, to, body, headers);
}

void fdn_publish(fdn *client, const char *subject, mp_span body, mp_span headers)
{
    send_once(client, EVENTS, EVENT, subject, body, headers);
}

/* --- subscriptions and services --------------------------------------------------------------------------------- */

static call_state *send_registration(fdn *client, const registration *made)
{
    call_state *call = new_call(client, made->channel, false, made->id, text_span(made->to));
    for (int i = 0; i < 2; i++)
        call->window[i] = call->granted[i] = UNLIMITED;
    call->deadline_at = now_ms() + 2 * CALL_MS;
    envelope sent = {.kind = SUBSCRIBE, .to = text_span(made->to), .id = made->id, .body = made->body};
    enqueue(&client->connections[made->channel], sent, &call->call, NEVER);
    return call;
}

static fdn_call *add_registration(fdn *client, registration fresh)
{
    registration *made = mp_room(sizeof *made);
    *made = fresh;
    made->id = ++client->last_id;
    made->next = client->registrations;
    client->registrations = made;
    return &send_registration(client, made)->call;
}

fdn_call *fdn_subscribe(fdn *client, const char *pattern, mp_span options)
{
    char *to = text_copy(pattern, strlen(pattern));
    return add_registration(client, (registration){.channel = EVENTS, .to = to, .body = mp_copy(options)});
}

fdn_call *fdn_serve(fdn *client, const char *name, bool takes_stream, mp_span options)
{
    registration fresh = {.channel = DATA, .to = text_copy(name, strlen(name)), .body = mp_copy(options)};
    fresh.service = true;
    fresh.takes_stream = takes_stream;
    return add_registration(client, fresh);
}

static void begin_quietly(fdn *client, const registration *made)
{
    send_registration(client, made)->quiet = true;
}

static registration *find_registration(fdn *client, uint64_t id)
{
    registration *made = client->registrations;
    while (made && made->id != id)
        made = made->next;
    return made;
}

static void remove_registration(fdn *client, uint64_t id)
{
    for (registration **at = &client->registrations; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            registration *gone = *at;
            *at = gone->next;
            release(&gone->body);
            free(gone->to);
            free(gone);
            return;
        }
}

void fdn_withdraw(fdn *client, uint64_t id)
{
    registration *made = find_registration(client, id);
    if (made == NULL)
        return;
    enqueue(&client->connections[made->channel], (envelope){.kind = UNSUBSCRIBE, .id = id}, NULL, NEVER);
    remove_registration(client, id);
}

/* --- what comes in ---------------------------------------------------------------------------------------------- */

static void on_call(connection *from, const envelope *heard)
{
    fdn *client = from->client;
    registration *made = client->registrations;
    while (made && !(made->service && strlen(made->to) == heard->to.size && memcmp(made->to, heard->to.at, heard->to.size) == 0))
        made = made->next;
    call_state *call = new_call(client, from->channel, true, heard->id, heard->to);
    fdn_call *served = &call->call;
    served->wants_answer = heard->kind == CALL;
    served->body = mp_copy(heard->body);
    served->headers = mp_copy(mp_find_integer(heard->meta, META_HEADERS));
    served->origin = mp_copy(mp_find_integer(heard->meta, META_ORIGIN));
    served->deadline_ms = heard->deadline_ms;
    served->request_stream = mp_peek(mp_find_integer(heard->meta, META_REQUEST_STREAM)).truth;
    if (heard->deadline_ms > 0 && heard->deadline_ms < INT64_MAX / 2)
        call->deadline_at = now_ms() + (int64_t)heard->deadline_ms;
    memcpy(call->window, REQUEST_WINDOW, sizeof call->window);
    call->sends = true;
    call->allowed[0] = call->allowed[1] = UNLIMITED;
    read_pair(mp_find_integer(heard->meta, META_WINDOW), 0, call->allowed);
    if (made == NULL)
        fdn_fail(served, "not_found", "nobody serves this name here", NULL);
    else if (made->takes_stream != served->request_stream)
        fdn_fail(served, "bad_request", made->takes_stream ? "takes a request stream" : "takes no request stream", NULL);
    else
        client->handlers->called(client->user, made->id, served);
}

static void on_event(fdn *client, const envelope *heard)
{
    fdn_event event = {.subject = heard->to, .body = heard->body};
    event.headers = mp_find_integer(heard->meta, META_HEADERS);
    event.origin = mp_find_integer(heard->meta, META_ORIGIN);
    event.missed = mp_number(mp_find_integer(heard->meta, META_MISSED), 0);
    if (find_registration(client, heard->id))
        client->handlers->event(client->user, heard->id, &event);
}

static void on_stream_credit(call_state *call, mp_span body)
{
    uint64_t totals[2];
    if (call == NULL || !call->sends || !read_pair(body, 0, totals))
        return;
    raise_totals(call->allowed, totals);
    if (within(call->sent, call->allowed) && call->blocked) {
        call->blocked = false;
        call->call.client->handlers->room(&call->call);
    }
}

static void on_end(call_state *call, mp_span body)
{
    if (call == NULL)
        return;
    call->call.streamed = true;
    finish(call, mp_peek(body).type == MP_MAP ? body : (mp_span){0});
}

static void on_envelope(connection *from, const envelope *heard)
{
    fdn *client = from->client;
    static const char request[] = "request";
    bool of_request = heard->to.size == strlen(request) && memcmp(heard->to.at, request, heard->to.size) == 0;
    call_state *ours = find_call(client, from->channel, false, heard->id);
    call_state *served = find_call(client, from->channel, true, heard->id);
    call_state *reader = of_request ? served : ours;
    switch (heard->kind) {
    case CALL:
    case CAST:
        on_call(from, heard);
        break;
    case CANCEL:
        if (served)
            leave(served, true);
        break;
    case REPLY:
        if (ours) {
            ours->over = true;
            came(ours, heard->body, false);
            finish(ours, (mp_span){0});
        }
        break;
    case ERROR:
        if (ours)
            finish(ours, heard->body);
        else if (find_registration(client, heard->id)) {
            client->handlers->withdrawn(client->user, heard->id, heard->body);
            remove_registration(client, heard->id);
        }
        break;
    case ITEM:
        if (reader == NULL)
            break;
        if (ours == reader && !ours->windowed) { /* one answer was wanted */
            cancel(ours);
            fail_with(ours, "bad_request", "it answers with a stream", false);
            break;
        }
        reader->call.streamed = true;
        came(reader, heard->body, true);
        break;
    case END:
        on_end(reader, heard->body);
        break;
    case CREDIT:
        on_stream_credit(of_request ? ours : served, heard->body);
        break;
    case EVENT:
        on_event(client, heard);
        break;
    }
}

static void on_welcome(connection *from, mp_span body)
{
    fdn *client = from->client;
    static const uint64_t no_limit[2] = {0, 0};
    from->granted[0] = from->granted[1] = 0;
    read_pair(mp_find(body, "credit"), 0, from->granted);
    if (memcmp(from->granted, no_limit, sizeof no_limit) == 0)
        from->granted[0] = from->granted[1] = UNLIMITED;
    from->state = OPEN;
    if (from->channel != COORDINATION)
        return;
    release(&client->identity);
    client->identity = mp_copy(mp_find(body, "identity"));
    client->up = true;
    client->pause = REDIAL_MS_MIN;
    client->tried = 0;
    client->handlers->connected(client->user, client->identity);
}

static void on_greeting(connection *from, const envelope *heard)
{
    fdn *client = from->client;
    if (heard->kind == WELCOME && mp_number(mp_find(heard->body, "epoch"), 0) == from->epoch)
        on_welcome(from, heard->body);
    else if (heard->kind == REFUSED) {
        mp_span code = mp_peek(mp_find(heard->body, "code")).octets;
        char *text = text_copy(code.size ? (const char *)code.at : "", code.size);
        bool retry = mp_peek(mp_find(heard->body, "retry")).truth;
        release(&client->refusal);
        client->refusal = failure_body(text, mp_peek(mp_find(heard->body, "reason")).octets, NULL, retry);
        free(text);
        lose(from, "refused");
    }
}

static void on_frame(connection *from, mp_span frame)
{
    batch batch;
    envelope heard;
    uint64_t totals[2];
    if (batch_open(&batch, frame) != BATCH_GOOD)
        return; /* section 8: dropped, and nothing is answered */
    while (from->state != CLOSED && batch_next(&batch, &heard)) {
        if (from->state == GREETING)
            on_greeting(from, &heard);
        else if (heard.kind == BYE)
            lose(from, "it said goodbye");
        else if (heard.kind == CREDIT && heard.to.size == 0) {
            uint64_t epoch[2];
            if (read_pair(heard.body, 0, epoch) && epoch[0] == from->epoch && read_pair(heard.body, 1, totals))
                raise_totals(from->granted, totals);
        } else
            on_envelope(from, &heard);
    }
}

static void receive(connection *from)
{
    for (int i = 0; i < RECEIVE_TURN && from->state != CLOSED && !from->deaf; i++) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, from->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&message);
            return;
        }
        while (zmq_msg_more(&message)) { /* attachments: none that we asked for */
            zmq_msg_t attachment;
            zmq_msg_init(&attachment);
            zmq_msg_recv(&attachment, from->socket, 0);
            bool more = zmq_msg_more(&attachment);
            zmq_msg_close(&attachment);
            if (!more)
                break;
        }
        on_frame(from, (mp_span){zmq_msg_data(&message), zmq_msg_size(&message)});
        zmq_msg_close(&message);
    }
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static void greet(connection *to)
{
    fdn *client = to->client;
    mp_writer body = {0};
    mp_map(&body, 6);
    mp_str(&body, "versions");
    mp_array(&body, 2);
    mp_uint(&body, 1);
    mp_uint(&body, 1);
    mp_str(&body, "cluster");
    mp_str(&body, client->cluster);
    mp_str(&body, "identity");
    mp_map(&body, 2);
    mp_str(&body, "node");
    mp_str(&body, client->node);
    mp_str(&body, "name");
    mp_str(&body, client->name);
    mp_str(&body, "channel");
    mp_str(&body, CHANNEL_NAMES[to->channel]);
    mp_str(&body, "epoch");
    mp_uint(&body, to->epoch);
    mp_str(&body, "role");
    mp_str(&body, "client");
    enqueue(to, (envelope){.kind = HELLO, .body = mp_written(&body)}, NULL, NEVER);
    mp_free(&body);
    /* Ahead of what has been waiting for a connection. */
    queue *line = &to->exempt;
    outgoing **at = &line->first;
    while ((*at)->envelope.kind != HELLO)
        at = &(*at)->next;
    outgoing *hello = *at;
    *at = hello->next;
    hello->next = line->first;
    line->first = hello;
    for (line->last = &line->first; *line->last; line->last = &(*line->last)->next)
        ;
}

static void dial(connection *to, const char *endpoint, size_t size)
{
    fdn *client = to->client;
    char monitor[64];
    int none = -1, linger = 0, ping = PING_MS, silence = SILENCE_MS[to->channel];
    snprintf(monitor, sizeof monitor, "inproc://monitor-%" PRIu64, ++client->monitors);
    to->endpoint = text_copy(endpoint, size);
    to->state = GREETING;
    to->greeting_until = now_ms() + GREETING_MS;
    to->epoch = ++client->last_epoch;
    to->sent[0] = to->sent[1] = 0;
    to->deaf = false;
    to->socket = zmq_socket(client->context, ZMQ_DEALER);
    /* What is queued for this life of the node must never reach the next. */
    zmq_setsockopt(to->socket, ZMQ_RECONNECT_IVL, &none, sizeof none);
    zmq_setsockopt(to->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(to->socket, ZMQ_HEARTBEAT_IVL, &ping, sizeof ping);
    zmq_setsockopt(to->socket, ZMQ_HEARTBEAT_TIMEOUT, &silence, sizeof silence);
    zmq_socket_monitor(to->socket, monitor,
                       ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    to->monitor = zmq_socket(client->context, ZMQ_PAIR);
    zmq_setsockopt(to->monitor, ZMQ_LINGER, &linger, sizeof linger);
    zmq_connect(to->monitor, monitor);
    greet(to);
    if (zmq_connect(to->socket, to->endpoint) != 0)
        lose(to, zmq_strerror(errno));
}

static void shut(connection *gone)
{
    if (gone->state == CLOSED)
        return;
    gone->state = CLOSED;
    zmq_socket_monitor(gone->socket, NULL, 0);
    zmq_close(gone->monitor);
    zmq_close(gone->socket);
    free(gone->endpoint);
    while (gone->exempt.first)
        forget(shift(&gone->exempt));
    while (gone->waiting.first)
        forget(shift(&gone->waiting));
}

/* One connection is gone, so all of them are given up, and with them what was under way. */
static void lose(connection *lost, const char *why)
{
    fdn *client = lost->client;
    char text[256];
    if (lost->state == CLOSED)
        return;
    snprintf(text, sizeof text, "%s: %s", lost->endpoint, why);
    bool was_up = client->up;
    client->up = false;
    for (int i = 0; i < CHANNELS; i++)
        if (client->connections[i].state != CLOSED)
            shut(&client->connections[i]);
    client->next_endpoint = (client->next_endpoint + 1) % client->endpoint_count;
    if (!was_up) {
        if (client->refusal.size == 0)
            client->refusal = failure_body("unreachable", text_span(text), NULL, true);
        if (++client->tried == client->endpoint_count) {
            /* Many clients lose a node at the same moment; they do not come back at the same moment. */
            client->redial_at = now_ms() + client->pause / 2 + (int64_t)(chance() % (uint64_t)client->pause) / 2;
            client->pause = client->pause * 2 < REDIAL_MS_MAX ? client->pause * 2 : REDIAL_MS_MAX;
            client->tried = 0;
            client->handlers->unreachable(client->user, client->refusal);
            release(&client->refusal);
        }
        return;
    }
    client->redial_at = now_ms();
    client->handlers->lost(client->user, text);
    for (call_state *call = client->calls; call; call = call->next) {
        if (call->over || call->dead)
            continue;
        if (call->call.served)
            leave(call, true);
        else {
            call->over = true;
            if (call->quiet)
                call->dead = true;
            else
                fail_with(call, "unreachable", text, true);
        }
    }
    for (registration *made = client->registrations; made; made = made->next)
        begin_quietly(client, made);
}

static void watch(connection *watched)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, watched->monitor, ZMQ_DONTWAIT) >= 0)
        lose(watched, "the connection was closed"); /* all events that we asked for mean that */
    zmq_msg_close(&message);
}

/* Dial what is wanted and not yet there. */
static void see_to_connections(fdn *client)
{
    connection *first = &client->connections[COORDINATION];
    if (first->state == CLOSED && now_ms() >= client->redial_at) {
        const char *endpoint = client->endpoints[client->next_endpoint];
        dial(first, endpoint, strlen(endpoint));
    }
    for (int i = 0; i < CHANNELS; i++) {
        connection *other = &client->connections[i];
        if (other->state == GREETING && now_ms() >= other->greeting_until)
            lose(other, "did not answer HELLO");
        if (!client->up || other->state != CLOSED || (!other->exempt.first && !other->waiting.first))
            continue;
        mp_span endpoint = mp_peek(mp_find(mp_find(client->identity, "endpoints"), CHANNEL_NAMES[i])).octets;
        if (endpoint.size > 0)
            dial(other, (const char *)endpoint.at, endpoint.size);
    }
}

/* --- the client ------------------------------------------------------------------------------------------------- */

fdn *fdn_open(const char *cluster, const char *name, const char *const *endpoints, const fdn_handlers *handlers, void *user)
{
    fdn *client = mp_room(sizeof *client);
    size_t size = strlen(name) + 18;
    client->context = zmq_ctx_new();
    client->handlers = handlers;
    client->user = user;
    client->cluster = text_copy(cluster, strlen(cluster));
    client->name = text_copy(name, strlen(name));
    client->node = mp_room(size);
    snprintf(client->node, size, "%s-%016" PRIx64, name, chance());
    while (endpoints[client->endpoint_count])
        client->endpoint_count++;
    client->endpoints = mp_room((client->endpoint_count + 1) * sizeof *client->endpoints);
    for (size_t i = 0; i < client->endpoint_count; i++)
        client->endpoints[i] = text_copy(endpoints[i], strlen(endpoints[i]));
    client->pause = REDIAL_MS_MIN;
    client->last_id = chance() >> 16; /* a late answer to an earlier life meets nobody */
    client->last_epoch = (uint64_t)time(NULL) * 1000;
    for (int i = 0; i < CHANNELS; i++)
        client->connections[i] = (connection){.client = client, .channel = i};
    return client;
}

void fdn_close(fdn *client)
{
    mp_writer body = {0};
    int linger = LINGER_MS;
    mp_map(&body, 1);
    mp_str(&body, "reason");
    mp_str(&body, "done");
    for (int i = 0; i < CHANNELS; i++) {
        connection *open = &client->connections[i];
        if (open->state == OPEN) {
            outgoing bye = {.deadline_at = NEVER, .envelope = {.kind = BYE, .body = mp_written(&body)}};
            pump(open);
            zmq_setsockopt(open->socket, ZMQ_LINGER, &linger, sizeof linger);
            transmit(open, &bye);
        }
        shut(open);
    }
    mp_free(&body);
    zmq_ctx_term(client->context);
    while (client->calls) {
        client->calls->dead = true;
        sweep(client);
    }
    while (client->registrations)
        remove_registration(client, client->registrations->id);
    for (size_t i = 0; i < client->endpoint_count; i++)
        free(client->endpoints[i]);
    free(client->endpoints);
    free(client->cluster);
    free(client->name);
    free(client->node);
    release(&client->identity);
    release(&client->refusal);
    free(client);
}

void fdn_listen(fdn *client, const char *channel, bool listening)
{
    client->connections[channel_of(channel)].deaf = !listening;
}

static long until_next(const fdn *client, long timeout_ms)
{
    int64_t now = now_ms(), next = timeout_ms < 0 ? NEVER : now + timeout_ms;
    for (const call_state *call = client->calls; call; call = call->next)
        if (!call->over && call->deadline_at < next)
            next = call->deadline_at;
    for (int i = 0; i < CHANNELS; i++)
        if (client->connections[i].state == GREETING && client->connections[i].greeting_until < next)
            next = client->connections[i].greeting_until;
    if (client->connections[COORDINATION].state == CLOSED && client->redial_at < next)
        next = client->redial_at;
    return next == NEVER ? -1 : next <= now ? 0 : (long)(next - now);
}

/* Returns whether a call may have more to send. */
static bool see_to_calls(fdn *client)
{
    int64_t now = now_ms();
    bool more = false;
    for (call_state *call = client->calls; call; call = call->next) {
        connection *through = &client->connections[call->channel];
        if (!call->dead && call->deadline_at <= now)
            late(call);
        if (call->blocked && !call->over && within(call->sent, call->allowed) && through->waiting.size < QUEUE_MAX) {
            call->blocked = false;
            client->handlers->room(&call->call);
            more = true;
        }
    }
    sweep(client);
    return more;
}

/* Send what can be sent, and let calls that waited for room go on, until nothing moves. */
static void settle(fdn *client)
{
    do {
        see_to_connections(client);
        for (int i = 0; i < CHANNELS; i++)
            pump(&client->connections[i]);
    } while (see_to_calls(client));
}

bool fdn_poll(fdn *client, int fd, long timeout_ms)
{
    zmq_pollitem_t items[1 + 2 * CHANNELS] = {{.fd = fd, .events = ZMQ_POLLIN}};
    connection *polled[CHANNELS];
    int count = 0;
    settle(client);
    for (int i = 0; i < CHANNELS; i++) {
        connection *open = &client->connections[i];
        if (open->state == CLOSED)
            continue;
        /* A queue that only waits for credit must not keep us awake. */
        bool writes = open->exempt.first || (open->waiting.first && within(open->sent, open->granted));
        writes = writes && open->state == OPEN;
        short events = (short)((open->deaf ? 0 : ZMQ_POLLIN) | (writes ? ZMQ_POLLOUT : 0));
        items[1 + 2 * count] = (zmq_pollitem_t){.socket = open->socket, .events = events};
        items[2 + 2 * count] = (zmq_pollitem_t){.socket = open->monitor, .events = ZMQ_POLLIN};
        polled[count++] = open;
    }
    if (zmq_poll(items, 1 + 2 * count, until_next(client, timeout_ms)) < 0)
        return false;
    for (int i = 0; i < count; i++) {
        void *socket = items[1 + 2 * i].socket;
        /* First what it said, then that it is gone: the last words count. A handler may have closed it by now. */
        if (polled[i]->state != CLOSED && polled[i]->socket == socket)
            receive(polled[i]);
        if (polled[i]->state != CLOSED && polled[i]->socket == socket && items[2 + 2 * i].revents)
            watch(polled[i]);
    }
    settle(client);
    return items[0].revents & ZMQ_POLLIN;
}

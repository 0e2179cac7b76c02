#include "inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#define LINGER_MS 1000 /* for BYE; a node that is gone keeps nobody waiting longer */
#define REDIAL_MS_MAX 1000

static const uint64_t REQUEST_WINDOW[2] = {256, 1 << 20};

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

void on_envelope(connection *from, const envelope *heard)
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

/* --- connections ------------------------------------------------------------------------------------------------ */

/* One connection is gone, so all of them are given up, and with them what was under way. */
void lose(connection *lost, const char *why)
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
        send_registration(client, made)->quiet = true;
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

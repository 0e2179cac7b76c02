#include "inside.h"

#include <stdlib.h>
#include <string.h>

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

call_state *new_call(fdn *client, int channel, bool served, uint64_t id, mp_span to)
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

call_state *find_call(fdn *client, int channel, bool served, uint64_t id)
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

void sweep(fdn *client)
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
void finish(call_state *call, mp_span failure)
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

void fail_with(call_state *call, const char *code, const char *message, bool retryable)
{
    mp_span body = failure_body(code, text_span(message), NULL, retryable);
    finish(call, body);
    release(&body);
}

/* Stop a call of ours, or one of the node's that will not be answered any more. */
void cancel(call_state *call)
{
    if (call->over)
        return;
    call->over = true;
    disown(call, true);
    if (!call->call.served)
        send_for(call, CANCEL, "", (mp_span){0});
}

/* A served call has its answer, or nobody waits for it. */
void leave(call_state *call, bool tell)
{
    if (call->dead)
        return;
    disown(call, tell);
    call->over = call->dead = true;
    if (tell)
        call->call.client->handlers->over(&call->call);
}

void late(call_state *call)
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

void came(call_state *call, mp_span body, bool counted)
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

mp_span request_meta(mp_span headers, const uint64_t window[2], bool request_stream, mp_writer *writer)
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

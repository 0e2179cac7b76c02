#include "inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define GREETING_MS 5000
#define PING_MS 1000
#define RECEIVE_TURN 256 /* frames of one connection before another has its turn */

static const int SILENCE_MS[] = {5000, 30000, 30000};

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

void enqueue(connection *to, envelope sent, fdn_call *call, int64_t deadline_at)
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
bool transmit(connection *to, const outgoing *entry)
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

void pump(connection *to)
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

void dial(connection *to, const char *endpoint, size_t size)
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

void shut(connection *gone)
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

void receive(connection *from)
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

void watch(connection *watched)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, watched->monitor, ZMQ_DONTWAIT) >= 0)
        lose(watched, "the connection was closed"); /* all events that we asked for mean that */
    zmq_msg_close(&message);
}

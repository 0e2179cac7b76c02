/* Does what it is told, a JSON object a line on standard input, and says what happened, one a line on standard output.
 * The commands are described in ../README.md; ../node/peer.js has the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdn.h"
#include "notation.h"
#include "peer.h"
#include "wire.h"

#define LINE_MAX_SIZE (1 << 20)

typedef struct command {
    struct command *next;
    uint64_t id;          /* the tester's */
    enum { ONE_ANSWER, STREAM, SUBSCRIPTION, SERVICE } kind;
    fdn_call *call;       /* until it is over */
    uint64_t registered;  /* id of the subscription or service */
    uint64_t left, step;  /* items to read before the tester is asked; 0: all */
    mp_span items;        /* of the request stream, encoded one after the other */
    uint32_t item_count;
    const handler *handler;
} command;

static fdn *client;
static command *commands;
static uint64_t connecting; /* the command, until it is answered */

/* --- what the client tells --------------------------------------------------------------------------------------- */

static mp_span who(mp_span identity)
{
    mp_writer *writer = scratch();
    mp_map(writer, 2);
    mp_str(writer, "node");
    mp_raw(writer, mp_find(identity, "node"));
    mp_str(writer, "name");
    mp_raw(writer, mp_find(identity, "name"));
    return mp_written(writer);
}

static void on_connected(void *user, mp_span identity)
{
    (void)user;
    say("connected", who(identity), NULL);
    if (connecting)
        say("re", re(connecting), "ok", who(identity), NULL);
    connecting = 0;
}

static void on_unreachable(void *user, mp_span failure)
{
    (void)user;
    if (connecting)
        say("re", re(connecting), "error", failure, NULL);
    connecting = 0;
}

static void on_lost(void *user, const char *why)
{
    (void)user;
    say("lost", text(why), NULL);
}

static command *by_registration(uint64_t id)
{
    command *found = commands;
    while (found && found->registered != id)
        found = found->next;
    return found;
}

static void on_event(void *user, uint64_t subscription, const fdn_event *event)
{
    command *heard = by_registration(subscription);
    (void)user;
    if (heard)
        say("re", re(heard->id), "event", event->body, "to", text_of(event->subject), "origin", event->origin, "missed",
            number((int64_t)event->missed), "headers", event->headers, NULL);
}

static void on_withdrawn(void *user, uint64_t id, mp_span failure)
{
    command *gone = by_registration(id);
    (void)user;
    say("withdrawn", number(gone ? (int64_t)gone->id : 0), "error", failure, NULL);
}

static void on_called(void *user, uint64_t service, fdn_call *call)
{
    command *served = by_registration(service);
    (void)user;
    begin_work(call, served->handler);
}

static void done(command *asked)
{
    fdn_done(asked->call);
    asked->call = NULL;
    free((void *)asked->items.at);
    asked->items = NOTHING;
}

/* Read what has come, as far as the tester wants. */
static void read_on(command *asked)
{
    mp_span value;
    while (asked->call) {
        switch (fdn_take(asked->call, &value)) {
        case FDN_NOTHING:
            return;
        case FDN_ITEM:
            say("re", re(asked->id), asked->kind == STREAM ? "item" : "ok", value, NULL);
            if (asked->kind != STREAM)
                done(asked);
            else if (asked->step && --asked->left == 0) {
                say("re", re(asked->id), "read", number((int64_t)asked->step), NULL);
                return;
            }
            break;
        case FDN_END:
            say("re", re(asked->id), "ok", asked->kind == STREAM ? text("end") : NOTHING, NULL);
            done(asked);
            break;
        case FDN_FAILED:
            say("re", re(asked->id), "error", value, NULL);
            done(asked);
            break;
        }
    }
}

static void send_on(command *asked)
{
    while (asked->item_count > 0) {
        mp_reader reader = mp_read(asked->items);
        mp_span item;
        mp_skip(&reader, &item);
        if (!fdn_item(asked->call, item))
            return;
        mp_span rest = mp_copy((mp_span){reader.at, (size_t)(reader.end - reader.at)});
        free((void *)asked->items.at);
        asked->items = rest;
        asked->item_count--;
    }
    fdn_end(asked->call);
}

static void on_arrived(fdn_call *call)
{
    if (call->served) {
        go_on_with(call);
        return;
    }
    command *asked = call->user;
    if (asked && (asked->step == 0 || asked->left > 0))
        read_on(asked);
}

static void on_room(fdn_call *call)
{
    if (call->served)
        go_on_with(call);
    else
        send_on(call->user);
}

static const fdn_handlers CLIENT_HANDLERS = {
    .connected = on_connected, .unreachable = on_unreachable, .lost = on_lost,       .event = on_event,
    .called = on_called,       .withdrawn = on_withdrawn,     .arrived = on_arrived, .room = on_room,
    .over = drop_work,
};

/* --- the commands ------------------------------------------------------------------------------------------------ */

/* Text with a NUL behind it, or what stands in for it. Ends with free. */
static char *text_at(mp_span line, const char *key, const char *otherwise)
{
    mp_head head = mp_peek(mp_find(line, key));
    if (head.type != MP_STR)
        return otherwise ? strdup(otherwise) : NULL;
    return strndup((const char *)head.octets.at, head.octets.size);
}

static void connect_command(mp_span line, command *asked)
{
    mp_span list = mp_find(line, "endpoints");
    mp_reader reader = mp_read(list);
    mp_head head, one;
    mp_next(&reader, &head);
    char **endpoints = mp_room((head.count + 1) * sizeof *endpoints);
    for (uint32_t i = 0; i < head.count && mp_next(&reader, &one); i++)
        endpoints[i] = strndup((const char *)one.octets.at, one.octets.size);
    char *cluster = text_at(line, "cluster", "fdn"), *name = text_at(line, "name", "c");
    client = fdn_open(cluster, name, (const char *const *)endpoints, &CLIENT_HANDLERS, NULL);
    connecting = asked->id;
    for (uint32_t i = 0; i < head.count; i++)
        free(endpoints[i]);
    free(endpoints);
    free(cluster);
    free(name);
}

static void call_command(mp_span line, command *asked, const char *verb)
{
    mp_span items = mp_find(line, "items"), window = mp_find(line, "window");
    bool streams = strcmp(verb, "stream") == 0, flushes = strcmp(verb, "flush") == 0;
    char *to = text_at(line, "to", "fdn.node.ping");
    fdn_request request = {
        .to = to,
        .body = mp_find(line, "body"),
        .headers = mp_find(line, "headers"),
        .channel = flushes ? "events" : NULL,
        .timeout_ms = mp_number(mp_find(line, "timeout_ms"), streams ? 365 * UINT64_C(86400000) : 0),
        .request_stream = items.size > 0,
    };
    if (streams) {
        mp_reader reader = mp_read(window);
        mp_head head;
        request.window[0] = 256;
        request.window[1] = 1 << 20;
        if (window.size > 0 && mp_next(&reader, &head))
            for (uint32_t i = 0; i < 2 && mp_next(&reader, &head); i++)
                request.window[i] = head.integer;
    }
    asked->kind = streams ? STREAM : ONE_ANSWER;
    asked->left = asked->step = mp_number(mp_find(line, "read"), 0);
    asked->call = fdn_begin(client, &request);
    asked->call->user = asked;
    if (items.size > 0) {
        mp_reader reader = mp_read(items);
        mp_head head;
        mp_next(&reader, &head);
        asked->item_count = head.count;
        asked->items = mp_copy((mp_span){reader.at, (size_t)(reader.end - reader.at)});
        send_on(asked);
    }
    free(to);
}

/* The options of a SUBSCRIBE are those of the command that the wire knows, under the same names. */
static mp_span options_of(mp_span line)
{
    static const char *const keys[] = {"queue", "timeout_ms", "version", "capabilities", "concurrency"};
    mp_writer *writer = scratch();
    size_t held = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        held += mp_find(line, keys[i]).size > 0;
    mp_map(writer, held);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        mp_span value = mp_find(line, keys[i]);
        if (value.size > 0) {
            mp_str(writer, keys[i]);
            mp_raw(writer, value);
        }
    }
    return mp_written(writer);
}

static void register_command(mp_span line, command *asked, bool serves)
{
    char *to = text_at(line, "to", ""), *as = text_at(line, "as", "");
    asked->handler = serves ? find_handler(as) : NULL;
    if (serves && asked->handler == NULL) {
        say("re", re(asked->id), "error", failure("bad_request", "it cannot be told to do that"), NULL);
        free(to);
        free(as);
        return;
    }
    asked->kind = serves ? SERVICE : SUBSCRIPTION;
    asked->call = serves ? fdn_serve(client, to, asked->handler->takes_stream, options_of(line))
                         : fdn_subscribe(client, to, options_of(line));
    asked->call->user = asked;
    asked->registered = asked->call->id;
    free(to);
    free(as);
}

static command *command_at(mp_span line, const char *key)
{
    uint64_t id = mp_number(mp_find(line, key), 0);
    command *found = commands;
    while (found && found->id != id)
        found = found->next;
    return found;
}

static void read_command(mp_span line)
{
    command *stream = command_at(line, "of");
    if (!stream || !stream->call)
        return;
    stream->left = stream->step = mp_number(mp_find(line, "count"), 0);
    if (stream->step == 0) {
        say("re", re(stream->id), "ok", text("left"), NULL);
        done(stream);
    } else
        read_on(stream);
}

static void cancel_command(mp_span line)
{
    command *asked = command_at(line, "of");
    if (!asked || !asked->call)
        return;
    say("re", re(asked->id), "error", failure("cancelled", "the call was cancelled"), NULL);
    done(asked);
}

static void say_vector(uint64_t id, mp_span vector)
{
    mp_span frame = notation_bytes(mp_peek(mp_find(vector, "hex")).octets);
    mp_writer rewritten = {0};
    batch batch;
    envelope read;
    printf("{\"re\": %llu, \"vector\": ", (unsigned long long)id);
    notation_write(stdout, mp_find(vector, "name"));
    batch_outcome outcome = batch_open(&batch, frame);
    if (outcome != BATCH_GOOD) {
        printf(", \"refused\": \"%s\"}\n", outcome == BATCH_VERSION ? "version" : "malformed");
        free((void *)frame.at);
        return;
    }
    batch_write(&rewritten, batch.left - batch.malformed);
    printf(", \"malformed\": %u, \"envelopes\": [", batch.malformed);
    for (const char *separator = ""; batch_next(&batch, &read); separator = ", ") {
        printf("%s{\"kind\": %lld, \"to\": ", separator, (long long)read.kind);
        notation_write_text(stdout, read.to);
        fputs(", \"id\": ", stdout);
        mp_writer *writer = scratch();
        mp_uint(writer, read.id);
        notation_write(stdout, mp_written(writer));
        fputs(", \"deadline_ms\": ", stdout);
        notation_write(stdout, number((int64_t)read.deadline_ms));
        fputs(", \"meta\": ", stdout);
        notation_write(stdout, read.meta);
        fputs(", \"body\": ", stdout);
        notation_write(stdout, read.body);
        fputs("}", stdout);
        envelope_write(&rewritten, &read);
    }
    fputs("], \"rewritten\": ", stdout);
    notation_write_hex(stdout, mp_written(&rewritten));
    puts("}");
    mp_free(&rewritten);
    free((void *)frame.at);
}

static void vectors_command(mp_span line, command *asked)
{
    char *path = text_at(line, "file", ""), *json = NULL;
    size_t size = 0;
    mp_writer parsed = {0};
    FILE *file = fopen(path, "r");
    int64_t total = 0;
    if (!file || getdelim(&json, &size, '\0', file) < 0 || !notation_read(json, &parsed)) {
        say("re", re(asked->id), "error", failure("not_found", "no vectors can be read there"), NULL);
    } else {
        static const char *const parts[] = {"batches", "refused"};
        for (int part = 0; part < 2; part++) {
            mp_span vectors = mp_find(mp_written(&parsed), parts[part]);
            mp_reader reader = mp_read(vectors);
            mp_head head;
            mp_span vector;
            mp_next(&reader, &head);
            for (uint32_t i = 0; i < head.count && mp_skip(&reader, &vector); i++, total++)
                say_vector(asked->id, vector);
        }
        say("re", re(asked->id), "ok", number(total), NULL);
    }
    if (file)
        fclose(file);
    free(json);
    free(path);
    mp_free(&parsed);
}

/* Returns false after `bye`. */
static bool obey(mp_span line)
{
    char *verb = text_at(line, "do", "");
    command *asked = mp_room(sizeof *asked);
    bool answered = false, last = strcmp(verb, "bye") == 0;
    asked->id = mp_number(mp_find(line, "id"), 0);
    asked->next = commands;
    commands = asked;
    if (strcmp(verb, "vectors") == 0)
        vectors_command(line, asked);
    else if (strcmp(verb, "connect") == 0)
        connect_command(line, asked);
    else if (strcmp(verb, "call") == 0 || strcmp(verb, "stream") == 0 || strcmp(verb, "flush") == 0)
        call_command(line, asked, verb);
    else if (strcmp(verb, "subscribe") == 0 || strcmp(verb, "serve") == 0)
        register_command(line, asked, strcmp(verb, "serve") == 0);
    else {
        command *of = command_at(line, "of");
        char *to = text_at(line, "to", ""), *channel = text_at(line, "channel", "data");
        answered = true;
        if (strcmp(verb, "cast") == 0)
            fdn_cast(client, to, mp_find(line, "body"), mp_find(line, "headers"));
        else if (strcmp(verb, "publish") == 0)
            fdn_publish(client, to, mp_find(line, "body"), mp_find(line, "headers"));
        else if (strcmp(verb, "read") == 0)
            read_command(line);
        else if (strcmp(verb, "cancel") == 0)
            cancel_command(line);
        else if (strcmp(verb, "withdraw") == 0 && of)
            fdn_withdraw(client, of->registered);
        else if (strcmp(verb, "deaf") == 0 || strcmp(verb, "hear") == 0)
            fdn_listen(client, channel, verb[0] == 'h');
        else if (last)
            fdn_close(client);
        else
            answered = strcmp(verb, "nothing") == 0; /* whoever hears the answer has heard all before it */
        if (answered)
            say("re", re(asked->id), "ok", NOTHING, NULL);
        else
            say("re", re(asked->id), "error", failure("bad_request", "no such command"), NULL);
        free(to);
        free(channel);
    }
    free(verb);
    return !last;
}

/* Obey all whole lines of the buffer; returns false after `bye`. */
static bool obey_lines(char *buffer, size_t *size)
{
    char *begin = buffer, *end;
    while ((end = memchr(begin, '\n', *size - (size_t)(begin - buffer)))) {
        mp_writer line = {0};
        *end = '\0';
        bool good = notation_read(begin, &line);
        if (!good)
            say("error", failure("bad_request", "not a JSON object"), NULL);
        bool more = !good || obey(mp_written(&line));
        mp_free(&line);
        if (!more)
            return false;
        begin = end + 1;
    }
    *size -= (size_t)(begin - buffer);
    memmove(buffer, begin, *size);
    return true;
}

int main(void)
{
    char *buffer = mp_room(LINE_MAX_SIZE);
    size_t size = 0;
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    for (;;) {
        if (client && !fdn_poll(client, STDIN_FILENO, -1))
            continue;
        ssize_t got = read(STDIN_FILENO, buffer + size, LINE_MAX_SIZE - size);
        if (got <= 0)
            break;
        size += (size_t)got;
        if (!obey_lines(buffer, &size))
            break;
    }
    free(buffer);
    return 0;
}

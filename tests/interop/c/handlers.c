#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "notation.h"
#include "peer.h"

/* A call that we serve: its `user`. */
typedef struct work {
    const handler *handler;
    int64_t n, sent, total;
    bool held; /* an item is read and not yet sent on */
} work;

static int64_t integer_of(mp_span value)
{
    return (int64_t)mp_peek(value).integer;
}

static void finished(fdn_call *call)
{
    free(call->user);
    call->user = NULL;
}

static void echo(fdn_call *call, work *work)
{
    (void)work;
    finished(call);
    fdn_reply(call, call->body);
}

static void note(fdn_call *call, work *work)
{
    (void)work;
    say("noted", call->body, NULL);
    finished(call);
    fdn_reply(call, NOTHING);
}

static void out_of_stock(fdn_call *call, const char *format, mp_span what)
{
    char *name = NULL, *message = NULL;
    size_t size;
    FILE *stream = open_memstream(&name, &size);
    mp_head head = mp_peek(what);
    if (head.type == MP_STR)
        fwrite(head.octets.at, 1, head.octets.size, stream);
    else
        notation_write(stream, what);
    fclose(stream);
    stream = open_memstream(&message, &size);
    for (; *format; format++)
        *format == '*' ? fputs(name, stream) : fputc(*format, stream);
    fclose(stream);
    finished(call);
    fdn_fail(call, "out_of_stock", message, "order some");
    free(name);
    free(message);
}

static void fail(fdn_call *call, work *work)
{
    (void)work;
    out_of_stock(call, "no * left", call->body);
}

static void headers(fdn_call *call, work *work)
{
    mp_writer *writer = scratch();
    (void)work;
    mp_map(writer, 3);
    mp_str(writer, "headers");
    mp_raw(writer, call->headers);
    mp_str(writer, "origin");
    mp_raw(writer, call->origin);
    mp_str(writer, "deadline_ms");
    mp_uint(writer, call->deadline_ms);
    finished(call);
    fdn_reply(call, mp_written(writer));
}

static void wait(fdn_call *call, work *work)
{
    (void)call;
    (void)work;
}

static void wait_over(fdn_call *call, work *work)
{
    (void)work;
    say("cancelled", text_of(call->to), NULL);
}

static void count_over(fdn_call *call, work *work)
{
    (void)call;
    say("produced", number(work->sent), "stopped", truth(work->sent < work->n), NULL);
}

static bool send_numbers(fdn_call *call, work *work)
{
    for (; work->sent < work->n; work->sent++)
        if (!fdn_item(call, number(work->sent)))
            return false;
    return true;
}

static void count(fdn_call *call, work *work)
{
    if (!send_numbers(call, work))
        return;
    count_over(call, work);
    finished(call);
    fdn_end(call);
}

static void break_off(fdn_call *call, work *work)
{
    if (send_numbers(call, work))
        out_of_stock(call, "only * left", call->body);
}

static void sum(fdn_call *call, work *work)
{
    mp_span value;
    fdn_taken taken;
    while ((taken = fdn_take(call, &value)) == FDN_ITEM)
        work->total += integer_of(value);
    if (taken == FDN_NOTHING)
        return;
    int64_t total = work->total + work->n;
    finished(call);
    fdn_reply(call, number(total));
}

static void twice(fdn_call *call, work *work)
{
    mp_span value;
    fdn_taken taken = FDN_ITEM;
    do {
        if (work->held && !fdn_item(call, number(2 * work->total)))
            return;
        taken = fdn_take(call, &value);
        work->held = taken == FDN_ITEM;
        work->total = integer_of(value);
    } while (work->held);
    if (taken == FDN_NOTHING)
        return;
    finished(call);
    fdn_end(call);
}

static const handler HANDLERS[] = {
    {"echo", false, echo, NULL},      {"note", false, note, NULL},          {"fail", false, fail, NULL},
    {"headers", false, headers, NULL}, {"forever", false, wait, wait_over}, {"count", false, count, count_over},
    {"break", false, break_off, NULL}, {"sum", true, sum, NULL},            {"double", true, twice, NULL},
};

const handler *find_handler(const char *name)
{
    for (size_t i = 0; i < sizeof HANDLERS / sizeof *HANDLERS; i++)
        if (strcmp(HANDLERS[i].name, name) == 0)
            return &HANDLERS[i];
    return NULL;
}

void begin_work(fdn_call *call, const handler *handler)
{
    work *fresh = mp_room(sizeof *fresh);
    *fresh = (work){.handler = handler, .n = integer_of(call->body)};
    call->user = fresh;
    go_on_with(call);
}

void go_on_with(fdn_call *call)
{
    work *held = call->user;
    if (held)
        held->handler->go_on(call, held);
}

void drop_work(fdn_call *call)
{
    work *gone = call->user;
    if (gone && gone->handler->over)
        gone->handler->over(call, gone);
    finished(call);
}

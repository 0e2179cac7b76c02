/* A client of fdn: calls and is called, streams, publishes and subscribes, and finds another node when its own is lost.
 *
 * One thread, no locks: everything happens inside `fdn_poll`, which tells what happened through `fdn_handlers`.
 * Bodies are spans of encoded MessagePack; an empty span is nil. What a function takes it copies; what a handler is
 * given lives until the handler returns. */
#ifndef FDN_H
#define FDN_H

#include "msgpack.h"

typedef struct fdn fdn;
typedef struct fdn_call fdn_call;

typedef struct {
    mp_span subject, body, headers, origin; /* subject: text; origin: a str, or empty */
    uint64_t missed;                        /* dropped before this one, because we read too slowly */
} fdn_event;

typedef struct {
    void (*connected)(void *user, mp_span identity);
    void (*unreachable)(void *user, mp_span failure); /* every endpoint was tried; after a pause, they are again */
    void (*lost)(void *user, const char *why);
    void (*event)(void *user, uint64_t subscription, const fdn_event *event);
    void (*called)(void *user, uint64_t service, fdn_call *call); /* a service of ours */
    void (*withdrawn)(void *user, uint64_t id, mp_span failure);  /* a service or subscription, by the node */
    void (*arrived)(fdn_call *call);                              /* `fdn_take` has news */
    void (*room)(fdn_call *call); /* `fdn_item` said no; now it may say yes */
    void (*over)(fdn_call *call); /* nobody waits for this answer of ours any more; the call is gone after this */
} fdn_handlers;

/* One call: of ours, from `fdn_begin` until `fdn_done`; or to a service of ours, from `called` until it is answered
 * with `fdn_reply`, `fdn_fail` or `fdn_end`, or `over`. Either side may have a stream of items to read and one to
 * send. The fields in front are for reading, but for `user`, which is yours. */
struct fdn_call {
    void *user;
    fdn *client;
    uint64_t id;
    mp_span to; /* text */
    bool served, wants_answer, streamed, request_stream;
    mp_span body, headers, origin; /* of a served call */
    uint64_t deadline_ms;
    struct fdn_call_state *state;
};

typedef struct {
    const char *to;
    mp_span body, headers;
    const char *channel; /* NULL: data */
    uint64_t timeout_ms; /* 0: 5 s */
    uint64_t window[2];  /* items and bytes of a streamed reply; 0: one answer is wanted */
    bool request_stream; /* `fdn_item` and `fdn_end` follow */
} fdn_request;

typedef enum { FDN_NOTHING, FDN_ITEM, FDN_END, FDN_FAILED } fdn_taken;

fdn *fdn_open(const char *cluster, const char *name, const char *const *endpoints, const fdn_handlers *, void *user);
void fdn_close(fdn *client); /* says goodbye */

/* Wait, at most so long (-1: for ever), until something has happened or `fd` can be read; returns whether it can. */
bool fdn_poll(fdn *client, int fd, long timeout_ms);

fdn_call *fdn_begin(fdn *client, const fdn_request *request);
fdn_taken fdn_take(fdn_call *call, mp_span *value); /* the next item, or the failure; both live until the next take */
void fdn_done(fdn_call *call);                      /* if it is under way: stops it */

bool fdn_item(fdn_call *call, mp_span body); /* false: no room, wait for `room` */
void fdn_end(fdn_call *call);
void fdn_fail(fdn_call *call, const char *code, const char *message, const char *hint);
void fdn_reply(fdn_call *call, mp_span body);

void fdn_cast(fdn *client, const char *to, mp_span body, mp_span headers);
void fdn_publish(fdn *client, const char *subject, mp_span body, mp_span headers);

/* Both are answered like a call, whose id is then the subscription's. `options`: a map of section 4.5 or 4.7. */
fdn_call *fdn_subscribe(fdn *client, const char *pattern, mp_span options);
fdn_call *fdn_serve(fdn *client, const char *name, bool takes_stream, mp_span options);
void fdn_withdraw(fdn *client, uint64_t id);

void fdn_listen(fdn *client, const char *channel, bool listening); /* stop reading a channel, or go on */

#endif

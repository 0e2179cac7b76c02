/* What the files of the client share. Users include fdn.h. */
#ifndef INSIDE_H
#define INSIDE_H

#include "fdn.h"
#include "wire.h"

#define CALL_MS 5000
#define QUEUE_MAX 64 /* items waiting for the connection's credit, until `fdn_item` says no */
#define REDIAL_MS_MIN 50
#define NEVER INT64_MAX
#define UNLIMITED UINT64_MAX
enum { COORDINATION, DATA, EVENTS, CHANNELS };
extern const char *const CHANNEL_NAMES[CHANNELS];

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

/* values.c */
int64_t now_ms(void);
uint64_t chance(void);
char *text_copy(const char *text, size_t size);
mp_span text_span(const char *text);
void release(mp_span *span);
int channel_of(const char *name);
/* The body of an ERROR; ends with `release`. */
mp_span failure_body(const char *code, mp_span message, const char *hint, bool retryable);
/* Two unsigned totals of an array, from its element `from` on. */
bool read_pair(mp_span array, uint32_t from, uint64_t pair[2]);
void raise_totals(uint64_t held[2], const uint64_t heard[2]);
bool within(const uint64_t used[2], const uint64_t allowed[2]);

/* connection.c: one connection, its handshake, its credit and what waits to be sent on it */
void dial(connection *to, const char *endpoint, size_t size);
void shut(connection *gone);
void enqueue(connection *to, envelope sent, fdn_call *call, int64_t deadline_at);
bool transmit(connection *to, const outgoing *entry); /* false when ZeroMQ does not take it now */
void pump(connection *to);
void receive(connection *from);
void watch(connection *watched);

/* calls.c: calls of both directions and their streams */
call_state *new_call(fdn *client, int channel, bool served, uint64_t id, mp_span to);
call_state *find_call(fdn *client, int channel, bool served, uint64_t id);
/* `failure` is the body of an ERROR, or empty. */
void finish(call_state *call, mp_span failure);
void fail_with(call_state *call, const char *code, const char *message, bool retryable);
void cancel(call_state *call);
void leave(call_state *call, bool tell);
void late(call_state *call);
void came(call_state *call, mp_span body, bool counted);
void sweep(fdn *client);
mp_span request_meta(mp_span headers, const uint64_t window[2], bool request_stream, mp_writer *writer);

/* fdn.c: the client as a whole */
void lose(connection *lost, const char *why);
void on_envelope(connection *from, const envelope *heard);

#endif

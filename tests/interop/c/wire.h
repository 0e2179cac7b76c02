/* Batches and envelopes: sections 4 and 8 of docs/spec/0001-wire.md. Nothing here waits or talks. */
#ifndef WIRE_H
#define WIRE_H

#include "msgpack.h"

enum {
    HELLO = 1, WELCOME, REFUSED, BYE, CALL, REPLY, ERROR, ITEM, END, CANCEL, CAST, SUBSCRIBE, UNSUBSCRIBE, EVENT, ACK,
    CREDIT, CHUNK, CORE
};
enum { META_ORIGIN = 7, META_HEADERS = 11, META_MISSED = 17, META_WINDOW = 18, META_REQUEST_STREAM = 19 };

typedef struct {
    int64_t kind;
    mp_span to; /* text */
    uint64_t id, deadline_ms;
    mp_span meta, body; /* encoded; empty: nil */
} envelope;

typedef enum { BATCH_GOOD, BATCH_MALFORMED, BATCH_VERSION } batch_outcome;

typedef struct {
    mp_reader reader;
    uint32_t left, malformed;
} batch;

/* Look a frame over. BATCH_GOOD: `batch_next` gives its envelopes; `malformed` counts those that cannot be read. */
batch_outcome batch_open(batch *batch, mp_span frame);
bool batch_next(batch *batch, envelope *envelope);

/* The beginning of a batch frame, to be followed by so many envelopes. */
void batch_write(mp_writer *writer, size_t count);
void envelope_write(mp_writer *writer, const envelope *envelope);

/* Whether envelopes of this kind wait for the connection's credit. Kinds that nobody knows yet do. */
bool needs_credit(int64_t kind);

#endif

/* What the files of the driven program share. */
#ifndef PEER_H
#define PEER_H

#include "fdn.h"

/* say.c: {"KEY": VALUE, ...} on standard output; pairs of a key and a span of MessagePack, ended by NULL. */
void say(const char *key, ...);

/* Encoded values that live until the next few of these. */
extern const mp_span NOTHING;
mp_writer *scratch(void);
mp_span number(int64_t value);
mp_span text(const char *value);
mp_span text_of(mp_span octets);
mp_span truth(bool value);
mp_span failure(const char *code, const char *message);
mp_span re(uint64_t id); /* of a command */

/* handlers.c: what `serve` can be told to do */
struct work;
typedef struct {
    const char *name;
    bool takes_stream;
    void (*go_on)(fdn_call *call, struct work *work);
    void (*over)(fdn_call *call, struct work *work); /* NULL: nothing to say */
} handler;

const handler *find_handler(const char *name);
void begin_work(fdn_call *call, const handler *handler);
void go_on_with(fdn_call *call); /* there is room, or something has arrived */
void drop_work(fdn_call *call);  /* nobody waits any more */

#endif

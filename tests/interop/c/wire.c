#include "wire.h"

#define VERSION 1
#define TO_CHARACTERS_MAX 1024
#define META_KEYS_MAX 64

static bool unsigned_integer(mp_span value, uint64_t most, uint64_t *integer)
{
    mp_head head = mp_peek(value);
    *integer = head.integer;
    return head.type == MP_INT && !head.negative && head.integer <= most;
}

static bool good_meta(mp_span value)
{
    mp_reader reader = mp_read(value);
    mp_head head, key;
    mp_span ignored;
    mp_next(&reader, &head);
    if (head.type == MP_NIL)
        return true;
    if (head.type != MP_MAP || head.count > META_KEYS_MAX)
        return false;
    for (uint32_t i = 0; i < head.count; i++) {
        mp_next(&reader, &key);
        if (key.type != MP_INT)
            return false;
        mp_skip(&reader, &ignored);
    }
    return true;
}

/* Of one whole value. */
static bool read_envelope(mp_span value, envelope *read)
{
    mp_reader reader = mp_read(value);
    mp_head head;
    mp_span fields[6] = {{0}};
    mp_next(&reader, &head);
    if (head.type != MP_ARRAY || head.count == 0)
        return false;
    for (uint32_t i = 0; i < head.count && i < 6; i++) /* later versions may have more */
        mp_skip(&reader, &fields[i]);
    *read = (envelope){.meta = fields[4], .body = fields[5]};

    head = mp_peek(fields[0]);
    /* A kind beyond 2^63 is as unknown as any. */
    read->kind = !head.negative && head.integer > INT64_MAX ? INT64_MAX : (int64_t)head.integer;
    if (head.type != MP_INT)
        return false;
    head = mp_peek(fields[1]);
    read->to = head.octets;
    long characters = utf8_characters(head.octets);
    if (fields[1].size > 0 && (head.type != MP_STR || characters < 0 || characters > TO_CHARACTERS_MAX))
        return false;
    if (fields[2].size > 0 && !unsigned_integer(fields[2], UINT64_MAX, &read->id))
        return false;
    if (fields[3].size > 0 && !unsigned_integer(fields[3], INT64_MAX, &read->deadline_ms))
        return false;
    if (mp_peek(read->meta).type == MP_NIL)
        read->meta = (mp_span){0};
    return read->meta.size == 0 || good_meta(read->meta);
}

batch_outcome batch_open(batch *opened, mp_span frame)
{
    mp_head head;
    if (frame.size == 0)
        return BATCH_MALFORMED;
    if (frame.at[0] != VERSION)
        return BATCH_VERSION;
    *opened = (batch){.reader = {frame.at + 1, frame.at + frame.size}};
    /* Only a fixarray or an array16: a wider header could announce more than a batch may hold. */
    if (frame.size < 2 || ((frame.at[1] & 0xf0) != 0x90 && frame.at[1] != 0xdc) || !mp_next(&opened->reader, &head))
        return BATCH_MALFORMED;
    opened->left = head.count;

    mp_reader look = opened->reader;
    for (uint32_t i = 0; i < head.count; i++) {
        mp_span value;
        envelope ignored;
        if (!mp_skip(&look, &value))
            return BATCH_MALFORMED;
        opened->malformed += !read_envelope(value, &ignored);
    }
    return look.at == look.end && opened->malformed < head.count ? BATCH_GOOD : BATCH_MALFORMED;
}

bool batch_next(batch *opened, envelope *next)
{
    mp_span value;
    while (opened->left > 0) {
        opened->left--;
        if (mp_skip(&opened->reader, &value) && read_envelope(value, next))
            return true;
    }
    return false;
}

void batch_write(mp_writer *writer, size_t count)
{
    static const uint8_t version[] = {VERSION};
    mp_raw(writer, (mp_span){version, 1});
    mp_array(writer, count);
}

void envelope_write(mp_writer *writer, const envelope *written)
{
    mp_array(writer, 6);
    mp_int(writer, written->kind);
    mp_text(writer, written->to);
    mp_uint(writer, written->id);
    mp_uint(writer, written->deadline_ms);
    mp_raw(writer, written->meta);
    mp_raw(writer, written->body);
}

bool needs_credit(int64_t kind)
{
    switch (kind) {
    case HELLO:
    case WELCOME:
    case REFUSED:
    case BYE:
    case REPLY:
    case ERROR:
    case CANCEL:
    case SUBSCRIBE:
    case UNSUBSCRIBE:
    case ACK:
    case CREDIT:
    case CORE:
        return false;
    }
    return true;
}

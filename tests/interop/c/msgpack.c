#include "msgpack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mp_reader mp_read(mp_span span)
{
    return (mp_reader){span.at, span.at + span.size};
}

static bool big_endian(mp_reader *reader, int octets, uint64_t *value)
{
    if (reader->end - reader->at < octets)
        return false;
    *value = 0;
    for (int i = 0; i < octets; i++)
        *value = *value << 8 | *reader->at++;
    return true;
}

static bool octets(mp_reader *reader, mp_head *head, mp_type type, uint64_t size)
{
    if (size > (uint64_t)(reader->end - reader->at))
        return false;
    head->type = type;
    head->octets = (mp_span){reader->at, size};
    reader->at += size;
    return true;
}

static bool counted(mp_head *head, mp_type type, uint64_t count)
{
    head->type = type;
    head->count = (uint32_t)count;
    return true;
}

static bool integer(mp_head *head, uint64_t value, int width)
{
    head->type = MP_INT;
    head->integer = value;
    if (width > 0) { /* signed, so many bits wide */
        uint64_t sign = (uint64_t)1 << (width - 1);
        head->integer = (value ^ sign) - sign;
        head->negative = (value & sign) != 0;
    }
    return true;
}

static bool extension(mp_reader *reader, mp_head *head, uint64_t size)
{
    return big_endian(reader, 1, &head->integer) && octets(reader, head, MP_EXT, size);
}

bool mp_next(mp_reader *reader, mp_head *head)
{
    uint64_t first, value;
    memset(head, 0, sizeof *head);
    if (!big_endian(reader, 1, &first))
        return false;
    if (first < 0x80)
        return integer(head, first, 0);
    if (first < 0x90)
        return counted(head, MP_MAP, first & 0x0f);
    if (first < 0xa0)
        return counted(head, MP_ARRAY, first & 0x0f);
    if (first < 0xc0)
        return octets(reader, head, MP_STR, first & 0x1f);
    if (first >= 0xe0)
        return integer(head, first, 8);
    switch (first) {
    case 0xc0:
        head->type = MP_NIL;
        return true;
    case 0xc2:
    case 0xc3:
        head->type = MP_BOOL;
        head->truth = first == 0xc3;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return big_endian(reader, 1 << (first - 0xc4), &value) && octets(reader, head, MP_BIN, value);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return big_endian(reader, 1 << (first - 0xc7), &value) && extension(reader, head, value);
    case 0xca: {
        float number;
        uint32_t bits;
        if (!big_endian(reader, 4, &value))
            return false;
        bits = (uint32_t)value;
        memcpy(&number, &bits, sizeof number);
        head->type = MP_FLOAT;
        head->number = number;
        return true;
    }
    case 0xcb:
        if (!big_endian(reader, 8, &value))
            return false;
        head->type = MP_FLOAT;
        memcpy(&head->number, &value, sizeof head->number);
        return true;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return big_endian(reader, 1 << (first - 0xcc), &value) && integer(head, value, 0);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return big_endian(reader, 1 << (first - 0xd0), &value) && integer(head, value, 8 << (first - 0xd0));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return extension(reader, head, (uint64_t)1 << (first - 0xd4));
    case 0xd9:
    case 0xda:
    case 0xdb:
        return big_endian(reader, 1 << (first - 0xd9), &value) && octets(reader, head, MP_STR, value);
    case 0xdc:
    case 0xdd:
        return big_endian(reader, 2 << (first - 0xdc), &value) && counted(head, MP_ARRAY, value);
    case 0xde:
    case 0xdf:
        return big_endian(reader, 2 << (first - 0xde), &value) && counted(head, MP_MAP, value);
    }
    return false; /* 0xc1 is never used */
}

static bool skip(mp_reader *reader, int depth)
{
    mp_head head;
    if (depth > MP_DEPTH_MAX || !mp_next(reader, &head))
        return false;
    uint64_t values = head.type == MP_MAP ? 2 * (uint64_t)head.count : head.count;
    for (; values > 0; values--)
        if (!skip(reader, depth + 1))
            return false;
    return true;
}

bool mp_skip(mp_reader *reader, mp_span *value)
{
    const uint8_t *begin = reader->at;
    if (!skip(reader, 0))
        return false;
    *value = (mp_span){begin, (size_t)(reader->at - begin)};
    return true;
}

mp_head mp_peek(mp_span value)
{
    mp_reader reader = mp_read(value);
    mp_head head;
    if (!mp_next(&reader, &head))
        memset(&head, 0, sizeof head);
    return head;
}

static mp_span find(mp_span map, const char *text, uint64_t number)
{
    mp_reader reader = mp_read(map);
    mp_head head;
    mp_span key, value;
    if (!mp_next(&reader, &head) || head.type != MP_MAP)
        return (mp_span){0};
    for (uint32_t i = 0; i < head.count && mp_skip(&reader, &key) && mp_skip(&reader, &value); i++) {
        mp_head held = mp_peek(key);
        if (text ? mp_is(key, text) : held.type == MP_INT && !held.negative && held.integer == number)
            return value;
    }
    return (mp_span){0};
}

mp_span mp_find(mp_span map, const char *key)
{
    return find(map, key, 0);
}

mp_span mp_find_integer(mp_span map, uint64_t key)
{
    return find(map, NULL, key);
}

uint64_t mp_number(mp_span value, uint64_t otherwise)
{
    mp_head head = mp_peek(value);
    return head.type == MP_INT && !head.negative ? head.integer : otherwise;
}

bool mp_is(mp_span value, const char *text)
{
    mp_head head = mp_peek(value);
    return head.type == MP_STR && head.octets.size == strlen(text) && memcmp(head.octets.at, text, strlen(text)) == 0;
}

long utf8_characters(mp_span text)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    long count = 0;
    for (size_t i = 0; i < text.size; count++) {
        uint8_t first = text.at[i++];
        int more = first < 0x80 ? 0 : (first & 0xe0) == 0xc0 ? 1 : (first & 0xf0) == 0xe0 ? 2 : (first & 0xf8) == 0xf0 ? 3 : -1;
        if (more < 0 || (size_t)more > text.size - i)
            return -1;
        uint32_t character = more == 0 ? first : first & (0x3fu >> more);
        for (int j = 0; j < more; j++, i++) {
            if ((text.at[i] & 0xc0) != 0x80)
                return -1;
            character = character << 6 | (text.at[i] & 0x3f);
        }
        if (character < least[more] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
            return -1;
    }
    return count;
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

mp_span mp_written(const mp_writer *writer)
{
    return (mp_span){writer->at, writer->size};
}

void mp_free(mp_writer *writer)
{
    free(writer->at);
    *writer = (mp_writer){0};
}

static void append(mp_writer *writer, const void *at, size_t size)
{
    if (size == 0)
        return;
    if (writer->size + size > writer->room) {
        writer->room = 2 * writer->room + size + 64;
        writer->at = realloc(writer->at, writer->room);
        if (writer->at == NULL) {
            fputs("out of memory\n", stderr);
            abort();
        }
    }
    memcpy(writer->at + writer->size, at, size);
    writer->size += size;
}

static void put(mp_writer *writer, uint8_t first, int octets, uint64_t value)
{
    uint8_t bytes[9] = {first};
    for (int i = octets; i > 0; i--, value >>= 8)
        bytes[i] = (uint8_t)value;
    append(writer, bytes, 1 + (size_t)octets);
}

/* The header of a size: in the first octet below `limit`, else in 8 bits (if there is such a header), 16 or 32. */
static void header(mp_writer *writer, size_t size, uint8_t small, size_t limit, uint8_t in8, uint8_t in16)
{
    if (size < limit)
        put(writer, (uint8_t)(small | size), 0, 0);
    else if (in8 && size < 0x100)
        put(writer, in8, 1, size);
    else if (size < 0x10000)
        put(writer, in16, 2, size);
    else
        put(writer, in16 + 1, 4, size);
}

void mp_raw(mp_writer *writer, mp_span value)
{
    if (value.size == 0)
        mp_nil(writer);
    append(writer, value.at, value.size);
}

void mp_nil(mp_writer *writer)
{
    put(writer, 0xc0, 0, 0);
}

void mp_bool(mp_writer *writer, bool truth)
{
    put(writer, truth ? 0xc3 : 0xc2, 0, 0);
}

void mp_uint(mp_writer *writer, uint64_t integer)
{
    if (integer < 0x80)
        put(writer, (uint8_t)integer, 0, 0);
    else if (integer < 0x100)
        put(writer, 0xcc, 1, integer);
    else if (integer < 0x10000)
        put(writer, 0xcd, 2, integer);
    else if (integer < 0x100000000)
        put(writer, 0xce, 4, integer);
    else
        put(writer, 0xcf, 8, integer);
}

void mp_int(mp_writer *writer, int64_t integer)
{
    if (integer >= 0)
        mp_uint(writer, (uint64_t)integer);
    else if (integer >= -0x20)
        put(writer, (uint8_t)integer, 0, 0);
    else if (integer >= -0x80)
        put(writer, 0xd0, 1, (uint64_t)integer);
    else if (integer >= -0x8000)
        put(writer, 0xd1, 2, (uint64_t)integer);
    else if (integer >= -INT64_C(0x80000000))
        put(writer, 0xd2, 4, (uint64_t)integer);
    else
        put(writer, 0xd3, 8, (uint64_t)integer);
}

void mp_float(mp_writer *writer, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    put(writer, 0xcb, 8, bits);
}

void mp_str(mp_writer *writer, const char *text)
{
    mp_text(writer, (mp_span){(const uint8_t *)text, strlen(text)});
}

void mp_text(mp_writer *writer, mp_span text)
{
    header(writer, text.size, 0xa0, 32, 0xd9, 0xda);
    append(writer, text.at, text.size);
}

void mp_bin(mp_writer *writer, mp_span octets)
{
    header(writer, octets.size, 0, 0, 0xc4, 0xc5);
    append(writer, octets.at, octets.size);
}

void mp_array(mp_writer *writer, size_t count)
{
    header(writer, count, 0x90, 16, 0, 0xdc);
}

void mp_map(mp_writer *writer, size_t count)
{
    header(writer, count, 0x80, 16, 0, 0xde);
}

mp_span mp_copy(mp_span span)
{
    if (span.size == 0)
        return (mp_span){0};
    uint8_t *copy = mp_room(span.size);
    memcpy(copy, span.at, span.size);
    return (mp_span){copy, span.size};
}

void *mp_room(size_t size)
{
    void *room = calloc(1, size);
    if (room == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return room;
}

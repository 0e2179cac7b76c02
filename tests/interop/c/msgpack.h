/* MessagePack: a reader that believes no length before its octets are there and bounds nesting, and a writer of the
 * shortest forms. A value that nobody looks into stays as it came: a span of encoded octets. */
#ifndef MSGPACK_H
#define MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_DEPTH_MAX 128

typedef struct {
    const uint8_t *at;
    size_t size; /* 0: nothing there */
} mp_span;

typedef enum { MP_NIL, MP_BOOL, MP_INT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT } mp_type;

/* What a value begins with; all there is of it, but for arrays and maps. */
typedef struct {
    mp_type type;
    bool truth;
    bool negative;    /* then the integer is an int64_t */
    uint64_t integer; /* of an ext: its type */
    double number;
    mp_span octets; /* of a str, bin or ext */
    uint32_t count; /* of an array, or pairs of a map */
} mp_head;

typedef struct {
    const uint8_t *at, *end;
} mp_reader;

mp_reader mp_read(mp_span span);
bool mp_next(mp_reader *reader, mp_head *head);  /* false: there is no value here */
bool mp_skip(mp_reader *reader, mp_span *value); /* one whole value, arrays and maps with all that is in them */

/* Of a whole value: its head (MP_NIL for an empty span), and what a map with text keys holds under one of them. */
mp_head mp_peek(mp_span value);
mp_span mp_find(mp_span map, const char *key);
mp_span mp_find_integer(mp_span map, uint64_t key);
uint64_t mp_number(mp_span value, uint64_t otherwise);
bool mp_is(mp_span value, const char *text);
long utf8_characters(mp_span text); /* -1: not UTF-8 */

typedef struct {
    uint8_t *at;
    size_t size, room;
} mp_writer; /* begins as {0}, ends with mp_free */

mp_span mp_written(const mp_writer *writer);
void mp_free(mp_writer *writer);
void mp_raw(mp_writer *writer, mp_span value); /* encoded octets; an empty span is nil */
void mp_nil(mp_writer *writer);
void mp_bool(mp_writer *writer, bool truth);
void mp_uint(mp_writer *writer, uint64_t integer);
void mp_int(mp_writer *writer, int64_t integer);
void mp_float(mp_writer *writer, double number);
void mp_str(mp_writer *writer, const char *text);
void mp_text(mp_writer *writer, mp_span text);
void mp_bin(mp_writer *writer, mp_span octets);
void mp_array(mp_writer *writer, size_t count);
void mp_map(mp_writer *writer, size_t count);

mp_span mp_copy(mp_span span); /* ends with free((void *)copy.at) */
void *mp_room(size_t size);    /* zeroed; a machine without memory ends the program */

#endif

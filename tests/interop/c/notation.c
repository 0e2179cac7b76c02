#include "notation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MAX 64
#define JSON_INTEGER_MAX (UINT64_C(1) << 53)

static bool read_value(const char **at, mp_writer *writer, int depth);

static void blanks(const char **at)
{
    *at += strspn(*at, " \t\r\n");
}

static bool punctuation(const char **at, char wanted)
{
    blanks(at);
    if (**at != wanted)
        return false;
    ++*at;
    return true;
}

static void put_utf8(mp_writer *text, uint32_t character)
{
    uint8_t bytes[4];
    size_t size = 0;
    if (character < 0x80)
        bytes[size++] = (uint8_t)character;
    else {
        int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
        static const uint8_t heads[] = {0, 0xc0, 0xe0, 0xf0};
        bytes[size++] = (uint8_t)(heads[more] | character >> (6 * more));
        while (more-- > 0)
            bytes[size++] = (uint8_t)(0x80 | ((character >> (6 * more)) & 0x3f));
    }
    mp_raw(text, (mp_span){bytes, size});
}

static bool read_hex4(const char **at, uint32_t *unit)
{
    char digits[5] = {0};
    char *end;
    strncpy(digits, *at, 4);
    *unit = (uint32_t)strtoul(digits, &end, 16);
    *at += 4;
    return end == digits + 4;
}

static bool read_text(const char **at, mp_writer *writer)
{
    mp_writer text = {0};
    if (!punctuation(at, '"'))
        return false;
    while (**at && **at != '"') {
        uint32_t character = (uint8_t)*(*at)++;
        if (character != '\\') { /* UTF-8 goes through as it is */
            mp_raw(&text, (mp_span){(const uint8_t *)*at - 1, 1});
            continue;
        }
        static const char names[] = "bfnrt\"\\/", meant[] = "\b\f\n\r\t\"\\/";
        const char *name = **at ? strchr(names, **at) : NULL;
        uint32_t low;
        if (name) {
            character = (uint8_t)meant[name - names];
            ++*at;
        } else if (*(*at)++ != 'u' || !read_hex4(at, &character))
            return false;
        if (character >= 0xd800 && character < 0xdc00) {
            if ((*at)[0] != '\\' || (*at)[1] != 'u' || (*at += 2, !read_hex4(at, &low)))
                return false;
            character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
        }
        put_utf8(&text, character);
    }
    mp_text(writer, mp_written(&text));
    mp_free(&text);
    return *(*at)++ == '"';
}

static bool read_number(const char **at, mp_writer *writer)
{
    size_t size = strspn(*at, "+-0123456789.eE");
    bool whole = size > 0 && strcspn(*at, ".eE") >= size;
    char *end;
    if (!whole)
        mp_float(writer, strtod(*at, &end));
    else if (**at == '-')
        mp_int(writer, strtoll(*at, &end, 10));
    else
        mp_uint(writer, strtoull(*at, &end, 10));
    bool good = size > 0 && end == *at + size;
    *at += size;
    return good;
}

mp_span notation_bytes(mp_span hex)
{
    uint8_t *bytes = mp_room(hex.size / 2 + 1);
    for (size_t i = 0; i < hex.size / 2; i++) {
        char digits[3] = {(char)hex.at[2 * i], (char)hex.at[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return (mp_span){bytes, hex.size / 2};
}

/* What a JSON object stands for, given its keys and values one after the other. */
static void write_object(mp_writer *writer, mp_span pairs, size_t count)
{
    mp_reader reader = mp_read(pairs);
    mp_span key, value = {0};
    if (count == 1 && mp_skip(&reader, &key) && mp_skip(&reader, &value)) {
        mp_head held = mp_peek(value);
        if (mp_is(key, "bin") && held.type == MP_STR) {
            mp_span bytes = notation_bytes(held.octets);
            mp_bin(writer, bytes);
            free((void *)bytes.at);
            return;
        }
        if (mp_is(key, "int") && held.type == MP_STR) {
            char digits[32] = {0};
            const char *at = digits;
            memcpy(digits, held.octets.at, held.octets.size < 31 ? held.octets.size : 31);
            read_number(&at, writer);
            return;
        }
        if (mp_is(key, "map") && held.type == MP_ARRAY) {
            mp_map(writer, held.count);
            reader = mp_read(value);
            mp_next(&reader, &held);
            for (uint32_t i = 0; i < held.count; i++) {
                mp_head pair;
                mp_next(&reader, &pair);
                for (uint32_t j = 0; j < 2 && mp_skip(&reader, &value); j++)
                    mp_raw(writer, value);
            }
            return;
        }
    }
    mp_map(writer, count);
    if (count > 0)
        mp_raw(writer, pairs);
}

/* Arrays and objects: what is between the brackets goes aside first, because MessagePack wants the count before it. */
static bool read_many(const char **at, mp_writer *writer, char close, int depth)
{
    mp_writer inside = {0};
    size_t count = 0;
    bool good = true;
    blanks(at);
    if (!punctuation(at, close)) {
        do {
            if (close == '}')
                good = read_text(at, &inside) && punctuation(at, ':');
            good = good && read_value(at, &inside, depth + 1);
            count++;
        } while (good && punctuation(at, ','));
        good = good && punctuation(at, close);
    }
    if (good && close == '}')
        write_object(writer, mp_written(&inside), count);
    else if (good) {
        mp_array(writer, count);
        if (count > 0)
            mp_raw(writer, mp_written(&inside));
    }
    mp_free(&inside);
    return good;
}

static bool word(const char **at, const char *wanted)
{
    bool good = strncmp(*at, wanted, strlen(wanted)) == 0;
    *at += strlen(wanted);
    return good;
}

static bool read_value(const char **at, mp_writer *writer, int depth)
{
    blanks(at);
    if (depth > NESTING_MAX)
        return false;
    switch (**at) {
    case '{':
        ++*at;
        return read_many(at, writer, '}', depth);
    case '[':
        ++*at;
        return read_many(at, writer, ']', depth);
    case '"':
        return read_text(at, writer);
    case 'n':
        mp_nil(writer);
        return word(at, "null");
    case 't':
        mp_bool(writer, true);
        return word(at, "true");
    case 'f':
        mp_bool(writer, false);
        return word(at, "false");
    }
    return read_number(at, writer);
}

bool notation_read(const char *json, mp_writer *writer)
{
    bool good = read_value(&json, writer, 0);
    blanks(&json);
    return good && *json == '\0';
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

void notation_write_hex(FILE *stream, mp_span octets)
{
    fputc('"', stream);
    for (size_t i = 0; i < octets.size; i++)
        fprintf(stream, "%02x", octets.at[i]);
    fputc('"', stream);
}

void notation_write_text(FILE *stream, mp_span text)
{
    fputc('"', stream);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t octet = text.at[i];
        if (octet < 0x20 || octet == '"' || octet == '\\' || octet == 0x7f)
            fprintf(stream, "\\u%04x", octet);
        else
            fputc(octet, stream);
    }
    fputc('"', stream);
}

static void write_one(FILE *stream, mp_reader *reader);

static void write_many(FILE *stream, mp_reader *reader, mp_head head)
{
    fputc('[', stream);
    for (uint32_t i = 0; i < head.count; i++) {
        fputs(i > 0 ? ", " : "", stream);
        if (head.type == MP_MAP) {
            fputc('[', stream);
            write_one(stream, reader);
            fputs(", ", stream);
        }
        write_one(stream, reader);
        fputs(head.type == MP_MAP ? "]" : "", stream);
    }
    fputc(']', stream);
}

static void write_one(FILE *stream, mp_reader *reader)
{
    mp_head head;
    mp_next(reader, &head);
    switch (head.type) {
    case MP_NIL:
        fputs("null", stream);
        break;
    case MP_BOOL:
        fputs(head.truth ? "true" : "false", stream);
        break;
    case MP_INT:
        if (head.negative && (int64_t)head.integer > -(int64_t)JSON_INTEGER_MAX)
            fprintf(stream, "%" PRId64, (int64_t)head.integer);
        else if (head.negative)
            fprintf(stream, "{\"int\": \"%" PRId64 "\"}", (int64_t)head.integer);
        else
            fprintf(stream, head.integer < JSON_INTEGER_MAX ? "%" PRIu64 : "{\"int\": \"%" PRIu64 "\"}", head.integer);
        break;
    case MP_FLOAT:
        fprintf(stream, "%.17g", head.number);
        break;
    case MP_STR:
        if (utf8_characters(head.octets) >= 0) {
            notation_write_text(stream, head.octets);
            break;
        } /* else JSON has no way to write it */
        /* fall through */
    case MP_BIN:
    case MP_EXT:
        fputs("{\"bin\": ", stream);
        notation_write_hex(stream, head.octets);
        fputc('}', stream);
        break;
    case MP_ARRAY:
        write_many(stream, reader, head);
        break;
    case MP_MAP:
        fputs("{\"map\": ", stream);
        write_many(stream, reader, head);
        fputc('}', stream);
        break;
    }
}

void notation_write(FILE *stream, mp_span value)
{
    mp_reader reader = mp_read(value);
    if (value.size == 0)
        fputs("null", stream);
    else
        write_one(stream, &reader);
}

#include <stdarg.h>
#include <stdio.h>

#include "notation.h"
#include "peer.h"

/* {"KEY": VALUE, ...}: pairs of a key and a span of MessagePack, ended by NULL. */
void say(const char *key, ...)
{
    va_list more;
    va_start(more, key);
    for (const char *separator = "{"; key; separator = ", ", key = va_arg(more, const char *)) {
        printf("%s\"%s\": ", separator, key);
        notation_write(stdout, va_arg(more, mp_span));
    }
    va_end(more);
    puts("}");
}

/* Encoded values that live until the next few of these. */
mp_writer *scratch(void)
{
    static mp_writer ring[8];
    static unsigned turn;
    mp_writer *writer = &ring[turn++ % 8];
    writer->size = 0;
    return writer;
}

mp_span number(int64_t value)
{
    mp_writer *writer = scratch();
    mp_int(writer, value);
    return mp_written(writer);
}

mp_span text(const char *value)
{
    mp_writer *writer = scratch();
    mp_str(writer, value);
    return mp_written(writer);
}

mp_span text_of(mp_span octets)
{
    mp_writer *writer = scratch();
    mp_text(writer, octets);
    return mp_written(writer);
}

mp_span truth(bool value)
{
    mp_writer *writer = scratch();
    mp_bool(writer, value);
    return mp_written(writer);
}

mp_span failure(const char *code, const char *message)
{
    mp_writer *writer = scratch();
    mp_map(writer, 2);
    mp_str(writer, "code");
    mp_str(writer, code);
    mp_str(writer, "message");
    mp_str(writer, message);
    return mp_written(writer);
}

const mp_span NOTHING = {0};

mp_span re(uint64_t id)
{
    return number((int64_t)id);
}

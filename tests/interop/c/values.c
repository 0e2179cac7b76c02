#include "inside.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const char *const CHANNEL_NAMES[] = {"coordination", "data", "events"};

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t chance(void)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        abort();
    return bits;
}

char *text_copy(const char *text, size_t size)
{
    char *copy = mp_room(size + 1);
    memcpy(copy, text, size);
    return copy;
}

mp_span text_span(const char *text)
{
    return (mp_span){(const uint8_t *)text, strlen(text)};
}

void release(mp_span *span)
{
    free((void *)span->at);
    *span = (mp_span){0};
}

int channel_of(const char *name)
{
    for (int i = 0; name && i < CHANNELS; i++)
        if (strcmp(name, CHANNEL_NAMES[i]) == 0)
            return i;
    return DATA;
}

/* The body of an ERROR; ends with free. */
mp_span failure_body(const char *code, mp_span message, const char *hint, bool retryable)
{
    mp_writer writer = {0};
    mp_map(&writer, hint ? 4 : 3);
    mp_str(&writer, "code");
    mp_str(&writer, code);
    mp_str(&writer, "message");
    mp_text(&writer, message);
    mp_str(&writer, "retryable");
    mp_bool(&writer, retryable);
    if (hint) {
        mp_str(&writer, "hint");
        mp_str(&writer, hint);
    }
    return mp_written(&writer);
}

/* Two unsigned totals of an array, from its element `from` on. */
bool read_pair(mp_span array, uint32_t from, uint64_t pair[2])
{
    mp_reader reader = mp_read(array);
    mp_head head;
    if (!mp_next(&reader, &head) || head.type != MP_ARRAY || head.count < from + 2)
        return false;
    for (uint32_t i = 0; i < from + 2; i++) {
        mp_span value;
        if (!mp_skip(&reader, &value))
            return false;
        if (i >= from)
            pair[i - from] = mp_number(value, 0);
    }
    return true;
}

void raise_totals(uint64_t held[2], const uint64_t heard[2])
{
    for (int i = 0; i < 2; i++)
        if (heard[i] > held[i])
            held[i] = heard[i];
}

bool within(const uint64_t used[2], const uint64_t allowed[2])
{
    return used[0] < allowed[0] && used[1] < allowed[1];
}

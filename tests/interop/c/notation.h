/* MessagePack as JSON writes it, in the notation of vectors.json: {"bin": hex}, {"map": [[key, value], ...]} and
 * {"int": decimal} for what JSON has not. */
#ifndef NOTATION_H
#define NOTATION_H

#include <stdio.h>

#include "msgpack.h"

bool notation_read(const char *json, mp_writer *writer); /* false: not JSON */
void notation_write(FILE *stream, mp_span value);
void notation_write_hex(FILE *stream, mp_span octets);
void notation_write_text(FILE *stream, mp_span text);
mp_span notation_bytes(mp_span hex); /* ends with free((void *)at) */

#endif

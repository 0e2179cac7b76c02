// Batches and envelopes: sections 4 and 8 of docs/spec/0001-wire.md. Nothing here waits or talks.

import { Reader, encode } from "./msgpack.js";

const VERSION = 1;
const TO_CHARACTERS_MAX = 1024;
const META_KEYS_MAX = 64;

export const Kind = Object.freeze({
  HELLO: 1, WELCOME: 2, REFUSED: 3, BYE: 4, CALL: 5, REPLY: 6, ERROR: 7, ITEM: 8, END: 9, CANCEL: 10, CAST: 11,
  SUBSCRIBE: 12, UNSUBSCRIBE: 13, EVENT: 14, ACK: 15, CREDIT: 16, CHUNK: 17, CORE: 18,
});

export const Meta = Object.freeze({ ORIGIN: 7, HEADERS: 11, MISSED: 17, WINDOW: 18, REQUEST_STREAM: 19 });

const EXEMPT = new Set([
  Kind.HELLO, Kind.WELCOME, Kind.REFUSED, Kind.BYE, Kind.REPLY, Kind.ERROR, Kind.CANCEL, Kind.SUBSCRIBE,
  Kind.UNSUBSCRIBE, Kind.ACK, Kind.CREDIT, Kind.CORE,
]);

/** Whether envelopes of this kind wait for the connection's credit. Kinds that nobody knows yet do. */
export const needsCredit = (kind) => !EXEMPT.has(kind);

/** The batch cannot be split into envelopes, or has an unknown version: it is dropped whole. */
export class Malformed extends Error {
  constructor(code, message) {
    super(message);
    this.code = code; // "malformed" or "version"
  }
}

/** One batch frame. Envelopes are objects of kind, to, id, deadlineMs, meta (null, or a Map), body. */
export function encodeBatch(envelopes) {
  const array = encode(
    envelopes.map(({ kind, to = "", id = 0, deadlineMs = 0, meta = null, body = null }) => [
      kind, to, id, deadlineMs, meta, body,
    ]),
  );
  const frame = new Uint8Array(1 + array.length);
  frame[0] = VERSION;
  frame.set(array, 1);
  return frame;
}

/** Returns [envelopes, how many could not be read]. Throws Malformed. */
export function decodeBatch(frame) {
  if (frame.length === 0) throw new Malformed("malformed", "the frame is empty");
  if (frame[0] !== VERSION) throw new Malformed("version", `version octet ${frame[0]}, expected ${VERSION}`);
  // Only a fixarray or an array16: a wider header could announce more than a batch may hold.
  if ((frame[1] & 0xf0) !== 0x90 && frame[1] !== 0xdc) throw new Malformed("malformed", "not an array of envelopes");
  const reader = new Reader(frame.subarray(1));
  const envelopes = [];
  let count;
  try {
    count = reader.arraySize();
    for (let i = 0; i < count; i++) {
      const envelope = readEnvelope(reader);
      if (envelope !== null) envelopes.push(envelope);
    }
  } catch (error) {
    throw new Malformed("malformed", error.message);
  }
  if (reader.at !== frame.length - 1) throw new Malformed("malformed", "octets after the last envelope");
  if (envelopes.length === 0) throw new Malformed("malformed", "no envelope that can be read");
  return [envelopes, count - envelopes.length];
}

function readEnvelope(reader) {
  const size = reader.arraySize();
  if (size < 0) reader.value();
  const fields = [];
  let bodySize = 1; // a nil that was left out
  for (let i = 0; i < size; i++) {
    const before = reader.at;
    const value = reader.value();
    if (i === 5) bodySize = reader.at - before;
    if (i < 6) fields.push(value); // later versions may have more
  }
  if (fields.length === 0) return null;
  const [kind, to = "", id = 0, deadlineMs = 0, meta = null, body = null] = fields;
  const good =
    isInteger(kind) &&
    typeof to === "string" && (to.length <= TO_CHARACTERS_MAX || [...to].length <= TO_CHARACTERS_MAX) &&
    isInteger(id) && id >= 0 &&
    isInteger(deadlineMs) && deadlineMs >= 0 && deadlineMs <= 0x7fffffffffffffffn &&
    isMeta(meta);
  return good ? { kind, to, id, deadlineMs, meta: asMap(meta), body, bodySize } : null;
}

const isInteger = (value) => typeof value === "bigint" || Number.isInteger(value);

function isMeta(meta) {
  if (meta instanceof Map) return meta.size <= META_KEYS_MAX && [...meta.keys()].every(isInteger);
  if (meta === null) return true;
  return Object.getPrototypeOf(meta) === Object.prototype && Object.keys(meta).length === 0;
}

const asMap = (meta) => (meta === null || meta instanceof Map ? meta : new Map());

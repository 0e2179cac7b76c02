// Values as JSON writes them, in the notation of vectors.json: {"bin": hex}, {"map": [[key, value], ...]} and
// {"int": decimal} for what JSON has not.

import { Extension, NotText } from "./msgpack.js";

/** From JSON to what the client takes. */
export function read(json) {
  if (Array.isArray(json)) return json.map(read);
  if (json === null || typeof json !== "object") return json;
  const keys = Object.keys(json);
  if (keys.length === 1) {
    if (typeof json.bin === "string") return Uint8Array.from(Buffer.from(json.bin, "hex"));
    if (typeof json.int === "string") return BigInt(json.int);
    if (Array.isArray(json.map)) {
      const items = json.map.map(([key, value]) => [read(key), read(value)]);
      return items.length === 0 || items.some(([key]) => typeof key !== "string") ? new Map(items) : Object.fromEntries(items);
    }
  }
  return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, read(value)]));
}

/** From what the client gives to JSON. */
export function write(value) {
  if (typeof value === "bigint") return { int: String(value) };
  if (value instanceof NotText || value instanceof Extension) return write(value.bytes);
  if (value instanceof Uint8Array) return { bin: Buffer.from(value).toString("hex") };
  if (value instanceof Map) return { map: [...value].map(([key, item]) => [write(key), write(item)]) };
  if (Array.isArray(value)) return value.map(write);
  if (value === null || typeof value !== "object") return value;
  return { map: Object.entries(value).map(([key, item]) => [key, write(item)]) };
}

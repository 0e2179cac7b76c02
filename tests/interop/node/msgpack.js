// MessagePack, as much of it as the wire needs, and as strict as section 8 wants it: nesting is bounded, no length
// is believed before its octets are there, and a string that is not UTF-8 never passes for text.
//
// Values: null, booleans, numbers (a BigInt from 2^53 on), strings, Uint8Array (bin), arrays, plain objects. A map with
// a key that is no string becomes a Map. `NotText` stands for a str that is not UTF-8, `Extension` for an ext.

const DEPTH_MAX = 128;
const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class NotText {
  constructor(bytes) {
    this.bytes = bytes;
  }
}

export class Extension {
  constructor(type, bytes) {
    this.type = type;
    this.bytes = bytes;
  }
}

/** One value that is encoded already. */
export class Raw {
  constructor(bytes) {
    this.bytes = bytes;
  }
}

/** Reads value after value. Throws when the octets are none; `at` is how far it has come. */
export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  take(size) {
    if (size > this.bytes.length - this.at) throw new Error(`${size} octets announced beyond the end`);
    this.at += size;
    return this.at - size;
  }

  length(octets) {
    const at = this.take(octets);
    return octets === 1 ? this.view.getUint8(at) : octets === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  /** The size of the array that begins here, or -1 (and nothing read) when something else does. */
  arraySize() {
    const head = this.bytes[this.at];
    if ((head & 0xf0) === 0x90) return this.view.getUint8(this.take(1)) & 0x0f;
    if (head !== 0xdc && head !== 0xdd) return -1;
    this.take(1);
    return this.length(2 << (head - 0xdc));
  }

  value(depth = 0) {
    if (depth > DEPTH_MAX) throw new Error(`nested deeper than ${DEPTH_MAX}`);
    const { view } = this;
    const head = view.getUint8(this.take(1));
    if (head < 0x80) return head;
    if (head < 0x90) return this.map(head & 0x0f, depth);
    if (head < 0xa0) return this.array(head & 0x0f, depth);
    if (head < 0xc0) return this.string(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    switch (head) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.binary(this.length(1 << (head - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return this.extension(this.length(1 << (head - 0xc7)));
      case 0xca: return view.getFloat32(this.take(4));
      case 0xcb: return view.getFloat64(this.take(8));
      case 0xcc: return view.getUint8(this.take(1));
      case 0xcd: return view.getUint16(this.take(2));
      case 0xce: return view.getUint32(this.take(4));
      case 0xcf: return narrow(view.getBigUint64(this.take(8)));
      case 0xd0: return view.getInt8(this.take(1));
      case 0xd1: return view.getInt16(this.take(2));
      case 0xd2: return view.getInt32(this.take(4));
      case 0xd3: return narrow(view.getBigInt64(this.take(8)));
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return this.extension(1 << (head - 0xd4));
      case 0xd9: case 0xda: case 0xdb: return this.string(this.length(1 << (head - 0xd9)));
      case 0xdc: case 0xdd: return this.array(this.length(2 << (head - 0xdc)), depth);
      case 0xde: case 0xdf: return this.map(this.length(2 << (head - 0xde)), depth);
    }
    throw new Error("octet 0xc1 is never used");
  }

  binary(size) {
    const at = this.take(size);
    return this.bytes.slice(at, at + size);
  }

  extension(size) {
    const type = this.view.getInt8(this.take(1));
    return new Extension(type, this.binary(size));
  }

  string(size) {
    const at = this.take(size);
    const bytes = this.bytes.subarray(at, at + size);
    try {
      return strict.decode(bytes);
    } catch {
      return new NotText(bytes.slice());
    }
  }

  array(size, depth) {
    const items = [];
    for (let i = 0; i < size; i++) items.push(this.value(depth + 1));
    return items;
  }

  map(size, depth) {
    const items = [];
    for (let i = 0; i < size; i++) items.push([this.value(depth + 1), this.value(depth + 1)]);
    return items.every(([key]) => typeof key === "string") ? Object.fromEntries(items) : new Map(items);
  }
}

const narrow = (big) => (big >= Number.MIN_SAFE_INTEGER && big <= Number.MAX_SAFE_INTEGER ? Number(big) : big);

/** Write one value in its shortest form. What `undefined` is in an object is left out. */
export function encode(value) {
  const writer = new Writer();
  writer.value(value);
  return writer.bytes.slice(0, writer.at);
}

class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
  }

  room(size) {
    if (this.at + size > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.at + size));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    this.at += size;
    return this.at - size;
  }

  octet(value) {
    const at = this.room(1);
    this.bytes[at] = value;
  }

  /** One octet that says what follows, and what follows as a number of `size` octets. */
  tagged(head, size, method, value) {
    const at = this.room(1 + size);
    this.view.setUint8(at, head);
    this.view[method](at + 1, value);
  }

  /** `first` is the header for sizes of 8 bits, those of 16 and 32 follow it; arrays and maps have none of 8. */
  header(size, { small, limit, first, next }) {
    if (size < limit) this.octet(small | size);
    else if (first !== undefined && size < 0x100) this.tagged(first, 1, "setUint8", size);
    else if (size < 0x10000) this.tagged(next, 2, "setUint16", size);
    else this.tagged(next + 1, 4, "setUint32", size);
  }

  raw(bytes) {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  value(value) {
    if (value === null || value === undefined) this.octet(0xc0);
    else if (typeof value === "boolean") this.octet(value ? 0xc3 : 0xc2);
    else if (typeof value === "bigint" || Number.isSafeInteger(value)) this.integer(value);
    else if (typeof value === "number") this.tagged(0xcb, 8, "setFloat64", value);
    else if (typeof value === "string") {
      const bytes = utf8.encode(value);
      this.header(bytes.length, { small: 0xa0, limit: 32, first: 0xd9, next: 0xda });
      this.raw(bytes);
    } else if (value instanceof Uint8Array) {
      this.header(value.length, { small: 0, limit: 0, first: 0xc4, next: 0xc5 });
      this.raw(value);
    } else if (Array.isArray(value)) {
      this.header(value.length, { small: 0x90, limit: 16, next: 0xdc });
      for (const item of value) this.value(item);
    } else if (value instanceof Raw) this.raw(value.bytes);
    else if (value instanceof NotText) {
      this.header(value.bytes.length, { small: 0xa0, limit: 32, first: 0xd9, next: 0xda });
      this.raw(value.bytes);
    } else if (value instanceof Extension) {
      const fixed = [1, 2, 4, 8, 16].indexOf(value.bytes.length);
      if (fixed >= 0) this.octet(0xd4 + fixed);
      else this.header(value.bytes.length, { small: 0, limit: 0, first: 0xc7, next: 0xc8 });
      this.octet(value.type);
      this.raw(value.bytes);
    } else {
      const items = value instanceof Map ? [...value] : Object.entries(value).filter(([, item]) => item !== undefined);
      this.header(items.length, { small: 0x80, limit: 16, next: 0xde });
      for (const [key, item] of items) {
        this.value(key);
        this.value(item);
      }
    }
  }

  integer(value) {
    const [small, big] = [Number(value), BigInt(value)];
    if (value >= -0x20 && value < 0x80) this.octet(small);
    else if (value >= 0 && value < 0x100) this.tagged(0xcc, 1, "setUint8", small);
    else if (value >= 0 && value < 0x10000) this.tagged(0xcd, 2, "setUint16", small);
    else if (value >= 0 && value < 0x100000000) this.tagged(0xce, 4, "setUint32", small);
    else if (value >= 0) this.tagged(0xcf, 8, "setBigUint64", big);
    else if (value >= -0x80) this.tagged(0xd0, 1, "setInt8", small);
    else if (value >= -0x8000) this.tagged(0xd1, 2, "setInt16", small);
    else if (value >= -0x80000000) this.tagged(0xd2, 4, "setInt32", small);
    else this.tagged(0xd3, 8, "setBigInt64", big);
  }
}

// The two ends of a stream (section 4.6): one counts what it may send, the other what it has room for.

import { FdnError } from "./errors.js";
import { encode, Raw } from "./msgpack.js";
import { Kind } from "./wire.js";

/** Sends ITEMs as far as the window reaches, and the one END. `to` is "" for a reply, "request" for a caller's. */
export class Outflow {
  constructor(link, id, to, window) {
    Object.assign(this, { link, id, to, window, sent: [0, 0], over: false, raised: () => {} });
  }

  grant([items, bytes]) {
    this.window = [Math.max(this.window[0], items), Math.max(this.window[1], bytes)];
    this.raised();
  }

  /** Nobody reads any more. */
  close() {
    this.over = true;
    this.raised();
  }

  /** Resolves to false once nobody reads any more. */
  async item(value) {
    while (!this.over && !(this.sent[0] < this.window[0] && this.sent[1] < this.window[1])) {
      await new Promise((resolve) => (this.raised = resolve));
    }
    const bytes = encode(value);
    this.sent[0] += 1;
    this.sent[1] += bytes.length;
    return !this.over && this.send(Kind.ITEM, new Raw(bytes));
  }

  /** `error` says why there is no more, when that is a failure. */
  end(error = null) {
    return this.send(Kind.END, error && FdnError.body(error));
  }

  send(kind, body) {
    return this.link.send({ kind, to: this.to, id: this.id, body }, { wanted: () => !this.over });
  }
}

/** Keeps ITEMs until they are read, never more than the window, and grants more. An async iterator. */
export class Inflow {
  /** `direction` is "reply" or "request"; a reply's window was granted by the CALL, a request's is as it is read. */
  constructor(link, id, direction, window) {
    Object.assign(this, { link, id, direction, window, items: [], over: null, arrived: () => {} });
    this.received = [0, 0];
    this.read = [0, 0];
    this.granted = direction === "reply" ? [...window] : [0, 0];
  }

  /** Returns false when the sender did not keep to the window. */
  push(value, size) {
    const within = this.received[0] < this.granted[0] && this.received[1] < this.granted[1];
    this.received[0] += 1;
    this.received[1] += size;
    this.items.push({ value, size });
    this.arrived();
    return within;
  }

  /** No more follow. With an error, reading raises it after what has come. */
  end(error = null) {
    this.over ??= { error };
    this.arrived();
  }

  /** Forget what has come, too. */
  abort(error) {
    this.items = [];
    this.over = { error };
    this.arrived();
  }

  async next() {
    this.grant();
    while (this.items.length === 0) {
      if (this.over?.error) throw this.over.error;
      if (this.over) return { done: true, value: undefined };
      await new Promise((resolve) => (this.arrived = resolve));
    }
    const { value, size } = this.items.shift();
    this.read[0] += 1;
    this.read[1] += size;
    this.grant();
    return { done: false, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** More, once half the window has been read. */
  grant() {
    const wanted = this.read.map((total, i) => total + this.window[i]);
    if (this.over || !wanted.some((total, i) => 2 * (total - this.granted[i]) >= this.window[i])) return;
    this.granted = wanted;
    this.link.send({ kind: Kind.CREDIT, to: this.direction, id: this.id, body: wanted });
  }
}

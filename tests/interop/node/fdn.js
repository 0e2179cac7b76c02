// A client of fdn: calls and is called, streams, publishes and subscribes, and finds another node when its own is lost.
//
//   const client = await Client.connect(["tcp://127.0.0.1:7400"]);
//   await client.call("math.add", { a: 2, b: 3 });
//   for await (const item of client.stream("log.tail", { lines: 10 })) console.log(item);
//   await client.subscribe("orders.>", (event) => console.log(event.subject, event.body));
//   await client.serve("text.upper", (body) => body.toUpperCase());

import { randomBytes, randomInt } from "node:crypto";
import { EventEmitter } from "node:events";

import { FdnError, cancelled, deadlineExceeded } from "./errors.js";
import { Inflow, Outflow } from "./flow.js";
import { Link } from "./link.js";
import { Kind, Meta } from "./wire.js";

export { FdnError };

const CALL_MS = 5000;
const STREAM_MS = 365 * 24 * 3600 * 1000; // what has no end in sight is written as a year
const TIMER_MS_MAX = 2 ** 31 - 1;
const WINDOW = [256, 1 << 20]; // items and bytes
const UNLIMITED = [Infinity, Infinity];
const REDIAL_MS = [50, 1000]; // first and longest pause between rounds

/** Emits "connected" (the node's identity) and "lost" (the error). */
export class Client extends EventEmitter {
  /** Dial the first of these that answers. Rejects with what the last of them said. */
  static async connect(endpoints, options = {}) {
    const client = new Client(endpoints, options);
    client.session = client.dialAny();
    await client.session;
    return client;
  }

  constructor(endpoints, { cluster = "fdn", name = "node-js" } = {}) {
    super();
    this.endpoints = [...endpoints];
    this.cluster = cluster;
    this.identity = { node: `${name}-${randomBytes(8).toString("hex")}`, name };
    this.lastId = randomInt(2 ** 47); // a late answer to an earlier life meets nobody
    this.session = null; // a promise; while it is pending, what is sent waits
    this.registrations = new Map(); // by id: subscriptions and services, made again at each new node
    this.closed = false;
  }

  /**
   * Call `service.method`, or a plain function.
   *
   * @param options timeoutMs, headers, items (an iterable: the request stream), signal (an AbortSignal), channel
   */
  async call(to, body = null, options = {}) {
    const call = await this.begin(to, body, { timeoutMs: CALL_MS, ...options });
    try {
      const { done, value } = await call.reply.next();
      if (call.streamed) {
        throw new FdnError({ code: "bad_request", message: `${to} answers with a stream; use stream()` });
      }
      return done ? null : value;
    } finally {
      call.finish();
    }
  }

  /** The streamed reply, as an async generator. Leaving the loop early stops the far side. `window`: items, bytes. */
  async *stream(to, body = null, options = {}) {
    const call = await this.begin(to, body, { timeoutMs: STREAM_MS, window: WINDOW, ...options });
    try {
      yield* { [Symbol.asyncIterator]: () => call.reply };
    } finally {
      call.finish();
    }
  }

  /** Like a call that nobody answers. Resolves once it is handed to ZeroMQ. */
  async cast(to, body = null, { headers } = {}) {
    await this.send("data", { kind: Kind.CAST, to, meta: metaOf({ headers }), body });
  }

  async publish(subject, body = null, { headers } = {}) {
    await this.send("events", { kind: Kind.EVENT, to: subject, meta: metaOf({ headers }), body });
  }

  /** Resolves when the node has received all events published before. */
  async flush() {
    await this.call("fdn.node.ping", null, { channel: "events" });
  }

  /**
   * Hear the events of a pattern: `onEvent({ subject, body, origin, missed, headers })`.
   *
   * Resolves to { id, unaware }: the names of members that do not know yet, and publish past us so far.
   */
  async subscribe(pattern, onEvent, { queue = "", timeoutMs = CALL_MS } = {}) {
    const body = { queue, timeout_ms: timeoutMs };
    const [id, unaware] = await this.register({ channel: "events", to: pattern, body, onEvent });
    return { id, unaware };
  }

  /**
   * Serve a name. `handler(body, call)` returns the result or a promise of it, or is an async generator: a streamed
   * reply. `call` has name, headers, origin, deadlineMs, signal (aborted when nobody waits any more) and, if the
   * options say `takesStream`, items: the request stream. Resolves to { id }.
   *
   * @param options takesStream, version, capabilities, concurrency
   */
  async serve(name, handler, { takesStream = false, ...body } = {}) {
    const [id] = await this.register({ channel: "data", to: name, body, handler, takesStream });
    return { id };
  }

  /** End a subscription or a service. */
  async withdraw(id) {
    const registration = this.registrations.get(id);
    if (this.registrations.delete(id)) await this.send(registration.channel, { kind: Kind.UNSUBSCRIBE, id });
  }

  /** Say goodbye, and close. */
  async close(reason = "done") {
    this.closed = true;
    const session = await this.session.catch(() => null);
    await session?.goodbye(reason);
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  newId() {
    return ++this.lastId;
  }

  async send(channel, envelope, options) {
    const link = await (await this.session).link(channel);
    return link.send(envelope, options);
  }

  /** Send a CALL, or a SUBSCRIBE, which is answered like one. */
  async begin(to, body, { timeoutMs, headers, items, signal, window, channel = "data", kind = Kind.CALL, id }) {
    const deadlineAt = performance.now() + timeoutMs;
    const call = new Call(id ?? this.newId(), to);
    call.limit(timeoutMs, signal);
    try {
      const session = await Promise.race([this.session, call.broken]);
      const link = await Promise.race([session.link(channel), call.broken]);
      call.start(session, link, { kind, body, deadlineAt, window, meta: metaOf({ headers, window, items }) }, items);
      return call;
    } catch (error) {
      call.finish();
      throw error;
    }
  }

  async register({ channel, to, body, ...rest }) {
    const id = this.newId();
    this.registrations.set(id, { channel, to, body, ...rest });
    try {
      return [id, await this.subscribeAgain(id)];
    } catch (error) {
      this.registrations.delete(id);
      throw error;
    }
  }

  async subscribeAgain(id) {
    const { channel, to, body } = this.registrations.get(id);
    const call = await this.begin(to, body, { kind: Kind.SUBSCRIBE, channel, id, timeoutMs: 2 * CALL_MS });
    try {
      return (await call.reply.next()).value;
    } finally {
      call.finish();
    }
  }

  /** One round. Whoever refused us for good is not asked again in it. */
  async dialAny() {
    let failure;
    for (const endpoint of this.endpoints) {
      try {
        const session = await Session.open(this, endpoint);
        this.emit("connected", session.identity);
        return session;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  onLost(error) {
    if (this.closed) return;
    this.emit("lost", error);
    this.endpoints.push(this.endpoints.shift()); // the next node first
    this.session = this.redial();
    this.session.catch(() => {});
  }

  async redial() {
    let [pause, longest] = REDIAL_MS;
    while (!this.closed) {
      try {
        const session = await this.dialAny();
        for (const id of this.registrations.keys()) {
          queueMicrotask(() => this.subscribeAgain(id).catch((error) => this.emit("withdrawn", { id, error })));
        }
        return session;
      } catch {
        // Many clients lose a node at the same moment; they do not come back at the same moment.
        await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
        pause = Math.min(2 * pause, longest);
      }
    }
    throw new FdnError({ code: "unreachable", message: "the client is closed" });
  }
}

function metaOf({ headers, window, items }) {
  const meta = new Map();
  if (headers) meta.set(Meta.HEADERS, headers);
  if (window) meta.set(Meta.WINDOW, window);
  if (items) meta.set(Meta.REQUEST_STREAM, true);
  return meta.size > 0 ? meta : null;
}

/** The connections to one node, and what is under way on them. When one is lost, so are all. */
class Session {
  static async open(client, endpoint) {
    const session = new Session(client);
    const link = await session.dial(endpoint, "coordination");
    session.identity = link.welcome.identity;
    return session;
  }

  constructor(client) {
    this.client = client;
    this.links = new Map(); // channel to promise
    this.calls = new Map(); // ours, by channel and id
    this.served = new Map(); // the node's, by id
    this.over = false;
  }

  link(channel) {
    return this.links.get(channel) ?? this.dial(this.identity.endpoints[channel], channel);
  }

  dial(endpoint, channel) {
    const events = {
      onEnvelope: (link, envelope) => this.onEnvelope(link, envelope),
      onLost: (error) => this.end(error),
    };
    const link = Link.dial(endpoint, channel, this.client, events);
    this.links.set(channel, link);
    if (channel !== "coordination") link.catch((error) => this.end(error));
    return link;
  }

  async goodbye(reason) {
    for (const promise of this.links.values()) {
      const link = await promise.catch(() => null);
      await link?.goodbye(reason);
    }
    this.end(new FdnError({ code: "unreachable", message: "the client is closed" }));
  }

  end(error) {
    if (this.over) return;
    this.over = true;
    for (const link of this.links.values()) link.then((it) => it.close(), () => {});
    for (const call of this.calls.values()) call.fail(error);
    for (const served of this.served.values()) served.stop();
    this.client.onLost(error);
  }

  onEnvelope(link, envelope) {
    const { kind, to, id, body, meta, bodySize } = envelope;
    const call = this.calls.get(`${link.channel} ${id}`);
    const served = this.served.get(id);
    switch (kind) {
      case Kind.CALL:
      case Kind.CAST:
        return this.onCall(link, envelope);
      case Kind.CANCEL:
        return served?.stop();
      case Kind.ITEM:
        return to === "request" ? served?.onItem(body, bodySize) : call?.onItem(body, bodySize);
      case Kind.END:
        return to === "request" ? served?.onEnd(body) : call?.onEnd(body);
      case Kind.CREDIT:
        return to === "request" ? call?.request?.grant(body) : served?.reply?.grant(body);
      case Kind.REPLY:
        return call?.onReply(body);
      case Kind.ERROR:
        return call ? call.fail(new FdnError(body)) : this.onWithdrawn(id, new FdnError(body));
      case Kind.EVENT: {
        const [origin, headers, missed] = [Meta.ORIGIN, Meta.HEADERS, Meta.MISSED].map((key) => meta?.get(key));
        const event = { subject: to, body, origin, headers: headers ?? {}, missed: missed ?? 0 };
        const { onEvent } = this.client.registrations.get(id) ?? {};
        return queueMicrotask(() => onEvent?.(event)); // what it throws is not the wire's
      }
    }
  }

  /** The node ended a subscription or a service. */
  onWithdrawn(id, error) {
    if (this.client.registrations.delete(id)) this.client.emit("withdrawn", { id, error });
  }

  onCall(link, envelope) {
    const registrations = [...this.client.registrations.values()];
    const service = registrations.find(({ handler, to }) => handler && to === envelope.to);
    new Served(this, link, envelope).run(service);
  }
}

/** One call of ours. Its reply is a stream, if only of one. */
class Call {
  constructor(id, to) {
    Object.assign(this, { id, to, streamed: false, over: false, link: null, request: null });
    // Until the call is under way, its end is the rejection of this; then, that of its reply.
    this.broken = new Promise((_, reject) => (this.breakOff = reject));
    this.broken.catch(() => {});
  }

  limit(timeoutMs, signal) {
    const late = () => this.abandon(deadlineExceeded(this.to, timeoutMs));
    this.timer = setTimeout(late, Math.min(timeoutMs, TIMER_MS_MAX));
    if (signal?.aborted) this.abandon(cancelled());
    signal?.addEventListener("abort", () => this.abandon(cancelled()));
  }

  start(session, link, { kind, body, deadlineAt, window, meta }, items) {
    Object.assign(this, { session, link, key: `${link.channel} ${this.id}`, windowed: window !== undefined });
    this.reply = new Inflow(link, this.id, "reply", window ?? UNLIMITED);
    session.calls.set(this.key, this);
    link.send({ kind, to: this.to, id: this.id, meta, body }, { deadlineAt, wanted: () => !this.over });
    if (items) this.upload(items);
  }

  async upload(items) {
    this.request = new Outflow(this.link, this.id, "request", [0, 0]);
    try {
      for await (const item of items) if (!(await this.request.item(item))) return;
      this.request.end();
    } catch (error) {
      this.request.end(error);
    }
  }

  onReply(body) {
    this.answered();
    this.reply.push(body, 0);
    this.reply.end();
  }

  onItem(body, size) {
    this.streamed = true;
    if (!this.reply.push(body, size)) {
      this.abandon(new FdnError({ code: "bad_request", message: `${this.to} sent an item beyond the window` }));
    } else if (!this.windowed) this.abandon(null); // one answer was wanted; `call` says so
  }

  onEnd(body) {
    this.streamed = true;
    this.answered();
    this.reply.end(body && new FdnError(body));
  }

  /** ERROR, or the connection was lost. */
  fail(error) {
    this.answered();
    this.reply.end(error);
  }

  /** We no longer wait: tell the far side. */
  abandon(error) {
    if (this.over) return;
    if (this.link) this.link.send({ kind: Kind.CANCEL, id: this.id });
    this.answered();
    if (error) {
      this.breakOff(error);
      this.reply?.abort(error);
    }
  }

  /** The far side expects and sends nothing more. */
  answered() {
    this.over = true;
    clearTimeout(this.timer);
    this.session?.calls.delete(this.key);
    this.request?.close();
  }

  /** The caller has gone on; a stream that it left early is cancelled. */
  finish() {
    this.abandon(cancelled());
  }
}

/** One call of the node's to a service of ours. */
class Served {
  constructor(session, link, { kind, id, to, deadlineMs, meta, body }) {
    Object.assign(this, { session, link, id, to, deadlineMs, body, over: false, items: null, reply: null });
    this.wantsAnswer = kind === Kind.CALL;
    this.origin = meta?.get(Meta.ORIGIN) ?? "";
    this.headers = meta?.get(Meta.HEADERS) ?? {};
    this.window = meta?.get(Meta.WINDOW) ?? UNLIMITED;
    this.streams = meta?.get(Meta.REQUEST_STREAM) ?? false;
    this.aborter = new AbortController();
  }

  async run(service) {
    if (this.wantsAnswer) this.session.served.set(this.id, this);
    try {
      const result = this.invoke(service);
      if (result?.[Symbol.asyncIterator]) await this.stream(result);
      else this.answer(Kind.REPLY, await result);
    } catch (error) {
      this.answer(Kind.ERROR, FdnError.body(error));
    }
  }

  invoke(service) {
    if (!service) throw new FdnError({ code: "not_found", message: `nobody serves ${this.to} here`, retryable: true });
    if (service.takesStream !== this.streams) {
      const message = `${this.to} takes ${service.takesStream ? "a" : "no"} request stream`;
      throw new FdnError({ code: "bad_request", message });
    }
    if (this.streams) this.items = new Inflow(this.link, this.id, "request", WINDOW);
    if (this.deadlineMs) this.timer = setTimeout(() => this.late(), Math.min(Number(this.deadlineMs), TIMER_MS_MAX));
    const { to: name, headers, origin, deadlineMs, items } = this;
    return service.handler(this.body, { name, headers, origin, deadlineMs, items, signal: this.aborter.signal });
  }

  /** Before the first ITEM a failure is an ERROR, after it an END that says why. */
  async stream(items) {
    this.reply = new Outflow(this.link, this.id, "", this.window);
    try {
      for await (const item of items) if (!(await this.reply.item(item))) return;
    } catch (error) {
      if (this.reply.sent[0] === 0) throw error;
      return this.answer(Kind.END, FdnError.body(error));
    }
    this.answer(Kind.END, null);
  }

  answer(kind, body) {
    if (this.over) return;
    if (this.wantsAnswer) this.link.send({ kind, id: this.id, body });
    this.stop();
  }

  late() {
    const error = deadlineExceeded(this.to, this.deadlineMs);
    this.answer(this.reply?.sent[0] > 0 ? Kind.END : Kind.ERROR, FdnError.body(error));
  }

  onItem(body, size) {
    if (!this.items?.push(body, size)) {
      this.answer(Kind.ERROR, { code: "bad_request", message: `an item of ${this.to}'s request beyond the window` });
    }
  }

  onEnd(body) {
    this.items?.end(body && new FdnError(body));
  }

  /** Answered, or nobody waits any more. */
  stop() {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    this.session.served.delete(this.id);
    this.aborter.abort();
    this.reply?.close();
    this.items?.abort(cancelled());
  }
}

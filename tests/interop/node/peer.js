// Does what it is told, a JSON object a line on standard input, and says what happened, one a line on standard output.
// The commands are described in ../README.md; ../c/peer.c has the same.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { Client, FdnError } from "./fdn.js";
import { read, write } from "./notation.js";
import { decodeBatch, encodeBatch } from "./wire.js";

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (frame) => Buffer.from(frame).toString("hex");

let client = null;
const under_way = new Map(); // command id to { aborter, more, id }

/** What `serve` can be told to do. Streams are async generators. */
const HANDLERS = {
  echo: (body) => body,
  note: (body) => say({ noted: write(body) }),
  fail: (body) => {
    throw new FdnError({ code: "out_of_stock", message: `no ${body} left`, hint: "order some" });
  },
  headers: (body, call) => ({ headers: call.headers, origin: call.origin, deadline_ms: call.deadlineMs }),
  /** Answers when the caller has given up, and then nobody hears it. */
  forever: (body, call) =>
    new Promise((resolve) => {
      call.signal.addEventListener("abort", () => resolve(say({ cancelled: call.name })));
    }),
  async *count(n, call) {
    let sent = 0;
    try {
      for (; sent < n; sent++) yield sent;
    } finally {
      say({ produced: sent, stopped: sent < n || call.signal.aborted });
    }
  },
  async *break(n) {
    for (let i = 0; i < n; i++) yield i;
    throw new FdnError({ code: "out_of_stock", message: `only ${n} left` });
  },
  async sum(body, call) {
    let total = body;
    for await (const item of call.items) total += item;
    return total;
  },
  async *double(body, call) {
    for await (const item of call.items) yield 2 * item;
  },
};
const TAKE_STREAMS = new Set(["sum", "double"]);

const COMMANDS = {
  vectors({ id, file }) {
    const { batches, refused } = JSON.parse(readFileSync(file, "utf8"));
    for (const { name, hex } of [...batches, ...refused]) say({ re: id, vector: name, ...reading(bytes(hex)) });
    return batches.length + refused.length;
  },
  async connect({ endpoints, cluster, name }) {
    client = new Client(endpoints, { cluster, name });
    client.on("connected", ({ node, name }) => say({ connected: { node, name } }));
    client.on("lost", ({ message }) => say({ lost: message }));
    client.on("withdrawn", ({ id, error }) => say({ withdrawn: id, error: FdnError.body(error) }));
    client.session = client.dialAny();
    const { identity } = await client.session;
    return { node: identity.node, name: identity.name };
  },
  call: ({ to, body, signal, ...options }) => client.call(to, read(body), { signal, ...optionsOf(options) }),
  cast: ({ to, body, ...options }) => client.cast(to, read(body), optionsOf(options)),
  publish: ({ to, body, ...options }) => client.publish(to, read(body), optionsOf(options)),
  flush: () => client.flush(),
  async stream({ id, to, body, window, read: count = Infinity, signal, ...options }) {
    const items = client.stream(to, read(body), { signal, ...(window && { window }), ...optionsOf(options) });
    for (let left = count; ; ) {
      if (left === 0) {
        say({ re: id, read: count });
        left = count = await new Promise((resolve) => {
          under_way.get(id).more = resolve;
          signal.addEventListener("abort", () => resolve(1)); // and the next read tells
        });
        if (left === 0) return items.return().then(() => "left");
      }
      const { done, value } = await items.next();
      if (done) return "end";
      say({ re: id, item: write(value) });
      left -= 1;
    }
  },
  read: ({ of, count }) => under_way.get(of).more(count),
  cancel: ({ of }) => under_way.get(of).aborter.abort(),
  async subscribe({ id, to, queue, timeout_ms: timeoutMs }) {
    const heard = ({ subject, body, ...rest }) => say({ re: id, event: write(body), to: subject, ...rest });
    const subscription = await client.subscribe(to, heard, { queue, timeoutMs });
    under_way.get(id).id = subscription.id;
    return subscription.unaware;
  },
  async serve({ id, to, as, ...options }) {
    const { version, capabilities, concurrency } = options;
    const takesStream = TAKE_STREAMS.has(as);
    const service = await client.serve(to, HANDLERS[as], { takesStream, version, capabilities, concurrency });
    under_way.get(id).id = service.id;
    return null;
  },
  withdraw: ({ of }) => client.withdraw(under_way.get(of).id),
  /** Stop reading a channel, as a program does that is busy; `hear` goes on. */
  async deaf({ channel }) {
    const link = await (await client.session).link(channel);
    link.listening = new Promise((resolve) => (link.hear = resolve));
  },
  async hear({ channel }) {
    const link = await (await client.session).link(channel);
    link.hear();
  },
  nothing: () => null, // whoever hears the answer has heard all before it
  bye: () => client.close(),
};

function reading(frame) {
  try {
    const [envelopes, malformed] = decodeBatch(frame);
    const meanings = envelopes.map(({ kind, to, id, deadlineMs, meta, body }) =>
      Object.fromEntries(
        Object.entries({ kind, to, id, deadline_ms: deadlineMs, meta, body }).map(([key, value]) => [key, write(value)]),
      ),
    );
    return { envelopes: meanings, malformed, rewritten: hex(encodeBatch(envelopes)) };
  } catch (error) {
    return { refused: error.code };
  }
}

const optionsOf = ({ headers, items, timeout_ms: timeoutMs }) => ({
  ...(headers && { headers }),
  ...(items && { items: items.map(read) }),
  ...(timeoutMs && { timeoutMs }),
});

async function obey(line) {
  const command = JSON.parse(line);
  const { id, do: verb } = command;
  const aborter = new AbortController();
  under_way.set(id, { aborter });
  try {
    const ok = await COMMANDS[verb]({ ...command, signal: aborter.signal });
    say({ re: id, ok: write(ok ?? null) });
  } catch (error) {
    say({ re: id, error: FdnError.body(error), ...(error.code === undefined && { stack: error.stack }) });
  }
  if (verb === "bye") process.exit(0);
}

createInterface({ input: process.stdin })
  .on("line", obey)
  .on("close", () => process.exit(0));

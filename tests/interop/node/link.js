// One connection: a DEALER for one attempt, its handshake and its credit (sections 3, 5 and 6).

import { Dealer } from "zeromq";

import { FdnError } from "./errors.js";
import { Kind, decodeBatch, encodeBatch, needsCredit } from "./wire.js";

const HANDSHAKE_MS = 5000;
const PING_MS = 1000;
const SILENCE_MS = { coordination: 5000, data: 30_000, events: 30_000 };
// Larger than any that an earlier life of this process used, if clocks go forward.
let lastEpoch = Date.now();

export class Link {
  /** Dial, and say HELLO. Resolves to a link whose `welcome` tells what the node said; rejects when it refused. */
  static async dial(endpoint, channel, { cluster, identity }, { onEnvelope, onLost }) {
    const link = new Link(endpoint, channel, onEnvelope, onLost);
    const answer = new Promise((resolve, reject) => Object.assign(link.answer, { resolve, reject }));
    const timer = setTimeout(() => link.lose("did not answer HELLO"), HANDSHAKE_MS);
    try {
      link.socket.connect(endpoint);
      link.receive();
      const versions = [1, 1];
      const hello = { versions, cluster, identity, channel, epoch: link.epoch, role: "client" };
      link.send({ kind: Kind.HELLO, body: hello });
      await answer;
      return link;
    } catch (error) {
      link.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  constructor(endpoint, channel, onEnvelope, onLost) {
    this.endpoint = endpoint;
    this.channel = channel;
    this.onEnvelope = onEnvelope;
    this.onLost = onLost;
    this.answer = {};
    this.welcome = null;
    this.epoch = ++lastEpoch;
    this.granted = [0, 0]; // messages and bytes, since HELLO
    this.sent = [0, 0];
    this.exempt = [];
    this.waiting = []; // for credit
    this.dropped = 0;
    this.sending = false;
    this.closed = false;
    this.listening = Promise.resolve(); // a test takes its time by putting another promise here
    this.socket = new Dealer({
      reconnectInterval: -1, // what is queued for this life of the node must never reach the next
      linger: 1000, // for BYE; a node that is gone keeps nobody waiting longer
      heartbeatInterval: PING_MS,
      heartbeatTimeout: SILENCE_MS[channel],
    });
    for (const type of ["disconnect", "close", "handshake:error:protocol", "handshake:error:other"]) {
      this.socket.events.on(type, () => this.lose("the connection was closed"));
    }
  }

  /**
   * Queue an envelope; resolves once it is handed to ZeroMQ, to false when it was dropped instead.
   *
   * @param envelope kind, to, id, meta, body
   * @param deadlineAt performance.now() after which nobody wants it; what is left then is written as it goes out
   * @param wanted asked as it goes out: whoever waits for credit may have been cancelled meanwhile
   */
  send(envelope, { deadlineAt = Infinity, wanted = () => true } = {}) {
    return new Promise((resolve) => {
      (needsCredit(envelope.kind) ? this.waiting : this.exempt).push({ envelope, deadlineAt, wanted, resolve });
      this.pump();
    });
  }

  /** BYE, then the end. */
  async goodbye(reason) {
    if (this.closed) return;
    await this.send({ kind: Kind.BYE, body: { reason } });
    this.close();
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.socket.close();
    for (const { resolve } of [...this.exempt.splice(0), ...this.waiting.splice(0)]) resolve(false);
  }

  lose(reason) {
    if (this.closed) return;
    this.close();
    const error = new FdnError({ code: "unreachable", message: `${this.endpoint} ${reason}`, retryable: true });
    this.answer.reject(error);
    if (this.welcome) this.onLost(error);
  }

  async pump() {
    if (this.sending) return;
    this.sending = true;
    try {
      for (let next = this.next(); next && !this.closed; next = this.next()) {
        const left = next.deadlineAt - performance.now();
        if (left <= 0 || !next.wanted()) {
          next.resolve(false);
          continue;
        }
        const deadlineMs = left === Infinity ? 0 : Math.ceil(left);
        const frame = encodeBatch([{ ...next.envelope, deadlineMs }]);
        if (needsCredit(next.envelope.kind)) {
          this.sent[0] += 1;
          this.sent[1] += frame.length;
        }
        await this.socket.send(frame);
        next.resolve(true);
      }
    } catch (error) {
      this.lose(`took no message: ${error.message}`);
    } finally {
      this.sending = false;
    }
  }

  /** What does not need credit goes ahead of what waits for it. */
  next() {
    if (this.exempt.length > 0) return this.exempt.shift();
    return this.sent[0] < this.granted[0] && this.sent[1] < this.granted[1] ? this.waiting.shift() : undefined;
  }

  async receive() {
    try {
      for await (const [frame] of this.socket) {
        await this.listening;
        let envelopes = [];
        try {
          [envelopes] = decodeBatch(frame);
        } catch {
          this.dropped += 1; // and nothing is answered
        }
        for (const envelope of envelopes) {
          try {
            if (!this.closed) this.dispatch(envelope);
          } catch {
            this.dropped += 1; // a body of another shape than its kind's
          }
        }
      }
    } catch (error) {
      this.lose(`could not be read: ${error.message}`);
    }
  }

  dispatch(envelope) {
    const { kind, to, body } = envelope;
    if (!this.welcome) {
      // Until the handshake is over, nothing else counts.
      if (kind === Kind.WELCOME && body?.epoch === this.epoch) {
        const credit = body.credit ?? [0, 0];
        this.granted = credit[0] === 0 && credit[1] === 0 ? [Infinity, Infinity] : credit;
        this.welcome = body;
        this.answer.resolve();
      } else if (kind === Kind.REFUSED) {
        this.answer.reject(new FdnError({ code: body.code, message: body.reason, retryable: body.retry ?? false }));
      }
    } else if (kind === Kind.BYE) this.lose(`said goodbye: ${body?.reason}`);
    else if (kind === Kind.CREDIT && to === "") this.grant(body);
    else this.onEnvelope(this, envelope);
  }

  grant([epoch, messages, bytes]) {
    if (epoch !== this.epoch) return;
    this.granted = [Math.max(this.granted[0], messages), Math.max(this.granted[1], bytes)];
    this.pump();
  }
}

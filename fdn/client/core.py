"""The client's protocol, without sockets, clocks or threads: what is under way, and where what comes in goes.

The driver's duties, in this order, whenever something happened:

1. Hand in what has happened: `on_frame`, and what a socket tells (`connection.on_lost`, `.on_undialled`).
2. Call `tick`.
3. Carry out `take_effects()`, until there are none: `Dial`, `Hang` and `Sweep` sockets, `Tell` the log, `Run` a
   handler, `Stop` one.
4. For each open socket, send `link.next_frame(now)` until there is none; what it does not take, `link.hold`.
5. Be back at `next_deadline()`, or when a socket has something.

Signals fire while it does so; whoever they wake looks at the core afterwards. One thread at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fdn.client.addresses import Addresses
from fdn.client.codec import Kind, Meta, Received, encode
from fdn.client.connection import Connection, Dial, Hang, Owner, Sweep, Tell
from fdn.client.inbox import ClientEvent, Inbox
from fdn.client.outbox import Outgoing
from fdn.client.pending import Pending, ReplyStream
from fdn.client.serving import Job, Service
from fdn.errors import BadRequest, Conflict, Error, NotFound, Overloaded, Unreachable, from_wire, to_wire

__all__ = ("Core", "Effect", "Run", "Stop")

_MEMBERS: Final = "fdn.node.members"
_MEMBERS_EVERY_S: Final = 30.0
_MEMBERS_TIMEOUT_S: Final = 5.0
_DRAINING: Final = "fdn.draining"
_REST_S: Final = 1.0  # how long new work is kept back from a node that drains, while what is under way comes to its end
_TO_CALLEE: Final = "request"  # `to` of what belongs to a request stream
_TO_CALLER: Final = "reply"


class Run(NamedTuple):
    """Begin this job's handler; its end is `Core.reply`, `.fail` or `.end_reply`."""

    job: Job


class Stop(NamedTuple):
    """Nobody waits for this job any more: cancel its handler, if it can be."""

    job: Job


Effect = Dial | Hang | Sweep | Tell | Run | Stop


class Core(Owner):
    """See the module.

    Args:
        seeds: Coordination endpoints of nodes.
        cluster: The cluster's name.
        node: Our id.
        name: Ours, for people.
        timeout_s: For handshakes.
        reconnect: Whether to go on at another node when ours is lost.
        chance: A random number from 0 to 1.
        number: Where ids begin; at random, so that a late answer to an earlier life meets nobody.

    Attributes:
        node: Our id.
        connection: To the node.
        events_unconfirmed: Events sent on this connection since the last flush.
        lost_events: Whether events may have been lost since `flush` last looked.
    """

    def __init__(
        self,
        seeds: Sequence[str],
        *,
        cluster: str,
        node: str,
        name: str,
        timeout_s: float,
        reconnect: bool,
        chance: Callable[[], float],
        number: int,
    ) -> None:
        self._effects: list[Effect] = []
        self._reconnect = reconnect
        self._chance = chance
        self._number = number
        self.node = node
        self.connection = Connection(
            Addresses(seeds, chance),
            cluster=cluster,
            identity={"node": node, "name": name},
            timeout_s=timeout_s,
            reconnect=reconnect,
            epoch=number & 0xFFFFFFFF,
            owner=self,
            emit=self._effects.append,
        )
        self._calls: dict[int, Pending] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._services: dict[str, Service] = {}
        self._jobs: dict[int, Job] = {}
        self._members_at = 0.0  # when to ask for the members again
        self._members_asked: Pending | None = None
        self._rests_until = 0.0  # while our node drains, and may be left as soon as nothing is under way
        self.events_unconfirmed = 0
        self.lost_events = False

    @property
    def reconnects(self) -> bool:
        """Whether it goes on at another node when ours is lost."""
        return self._reconnect

    def new_number(self) -> int:
        """An id that nothing of ours has."""
        self._number += 1
        return self._number

    # -- the driver

    @property
    def has_effects(self) -> bool:
        """Whether there is something to carry out."""
        return bool(self._effects)

    def take_effects(self) -> list[Effect]:
        """What to carry out."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def on_frame(self, channel: str, frame: bytes, now: float, attachments: Sequence[bytes] = ()) -> None:
        """A message came in."""
        self.connection.on_frame(channel, frame, now, attachments)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.connection.tick(now)
        if self._members_at and now >= self._members_at:
            self._ask_members(now)
        if self._rests_until:
            self._move_on(now)

    def next_deadline(self) -> float | None:
        """When to `tick` at the latest."""
        times = [at for at in (self.connection.next_deadline(), self._members_at, self._rests_until) if at]
        return min(times, default=None)

    def close(self) -> None:
        """Give up everything, and say goodbye. It can be used again."""
        error = Error("this client was closed meanwhile", hint="close it when nothing is under way")
        for pending in list(self._calls.values()):
            pending.fail(error)
        self._calls.clear()
        for inbox in self._inboxes.values():
            inbox.close()
        self._inboxes.clear()
        self._end_jobs()
        for service in self._services.values():
            service.end(error)
        self._services.clear()
        for link in self.connection.links.values():
            link.outbox.clear()
        self._members_at = self._rests_until = 0.0
        self.connection.hang_up()

    # -- calls, casts and events

    def call(
        self,
        pending: Pending,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        streams: bool = False,
        deadline_at: float | None = None,
        wishes: Mapping[int, Any] | None = None,
    ) -> None:
        """Send a CALL, and let its answer come to `pending`.

        Args:
            pending: Freshly made.
            body: Encoded.
            headers: The user's own.
            streams: Whether items will follow.
            deadline_at: For the callee; None takes the caller's.
            wishes: Further meta.
        """
        meta: dict[int, Any] = {**(wishes or {})}
        if headers:
            meta[Meta.HEADERS] = dict(headers)
        if isinstance(pending, ReplyStream):
            meta[Meta.WINDOW] = pending.reply.window
        if streams:
            meta[Meta.REQUEST_STREAM] = True
        pending.outgoing = Outgoing(
            Kind.CALL,
            pending.target,
            pending.number,
            body,
            deadline_at=pending.deadline_at if deadline_at is None else deadline_at,
            meta=meta,
            on_sent=pending.on_sent,
        )
        self._calls[pending.number] = pending
        self._put(pending.channel, pending.outgoing)

    def forget(self, pending: Pending) -> None:
        """Nobody waits for it any more: the other side is told, unless it has answered. Idempotent."""
        if self._calls.pop(pending.number, None) is None or pending.over:
            return
        if not pending.sent and pending.outgoing is not None:
            pending.outgoing.dropped = True
        elif self.connection.links[pending.channel].ready:
            self._put(pending.channel, Outgoing(Kind.CANCEL, "", pending.number))
        pending.fail(Error("this call was given up"))  # for those who still produce its items

    def send_item(self, pending: Pending, body: bytes) -> None:
        """One item of the caller."""
        pending.request.sent(len(body))
        self._put(pending.channel, Outgoing(Kind.ITEM, _TO_CALLEE, pending.number, body))

    def end_items(self, pending: Pending, error: BaseException | None = None) -> None:
        """No more items of the caller; because of an error, if there is one."""
        if not pending.over:
            body = encode(None if error is None else to_wire(error))
            self._put(pending.channel, Outgoing(Kind.END, _TO_CALLEE, pending.number, body))

    def take_item(self, stream: ReplyStream) -> Any:
        """The oldest item; there must be one."""
        item = stream.reply.take()
        granted = stream.reply.grant()
        if granted is not None and not stream.over:
            self._put(stream.channel, Outgoing(Kind.CREDIT, _TO_CALLER, stream.number, encode(granted)))
        return item

    def cast(
        self,
        target: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        wishes: Mapping[int, Any] | None = None,
    ) -> None:
        """Send a CAST."""
        self._put("data", Outgoing(Kind.CAST, target, 0, body, meta=_meta(headers, wishes)))

    def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        wishes: Mapping[int, Any] | None = None,
    ) -> None:
        """Send an EVENT."""
        meta = _meta(headers, wishes)
        self._put("events", Outgoing(Kind.EVENT, subject, 0, body, meta=meta, on_sent=self._on_event_sent))

    def publish_surely(
        self,
        pending: Pending,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        wishes: Mapping[int, Any] | None = None,
    ) -> None:
        """Send an EVENT, and let the node's word that it has taken it over come to `pending`."""
        meta = _meta(headers, {**(wishes or {}), Meta.DELIVERY: [0]})
        pending.outgoing = Outgoing(
            Kind.EVENT, pending.target, pending.number, body, meta=meta, on_sent=pending.on_sent
        )
        self._calls[pending.number] = pending
        self._put(pending.channel, pending.outgoing)

    # -- subscriptions and services

    def subscribe(self, inbox: Inbox) -> None:
        """Want its events, now and on every later connection."""
        self._inboxes[inbox.number] = inbox
        if self.connection.links["events"].ready:
            self._say_subscribe(inbox)

    def unsubscribe(self, inbox: Inbox) -> None:
        """Want no more. Idempotent."""
        if self._inboxes.pop(inbox.number, None) is not None and self.connection.links["events"].ready:
            self._put("events", Outgoing(Kind.UNSUBSCRIBE, "", inbox.number))
        inbox.close()

    def take_event(self, inbox: Inbox) -> ClientEvent:
        """The oldest event; there must be one."""
        return inbox.take()

    def serve(self, service: Service) -> None:
        """Serve it, now and on every later connection.

        Raises:
            Conflict: It is served already.
        """
        if service.name in self._services:
            raise Conflict(f"this client serves {service.name!r} already", hint="withdraw it first")
        self._services[service.name] = service
        if self.connection.links["data"].ready:
            self._say_serve(service)

    def withdraw(self, service: Service) -> None:
        """Serve it no more; jobs under way go on. Idempotent."""
        if self._services.get(service.name) is service:
            del self._services[service.name]
            if self.connection.links["data"].ready:
                self._put("data", Outgoing(Kind.UNSUBSCRIBE, "", service.number))
        service.withdrawn = service.withdrawn or service.error is None
        service.end(Error(f"{service.name} was withdrawn"))

    # -- jobs

    def begin_items(self, job: Job) -> None:
        """The handler is ready for the caller's items."""
        self._grant_items(job)

    def take_request(self, job: Job) -> Any:
        """The oldest item of the caller; there must be one."""
        assert job.request is not None
        item = job.request.take()
        self._grant_items(job)
        return item

    def reply(self, job: Job, value: Any, now: float) -> None:
        """The handler has returned."""
        try:
            body = encode(value)
        except BadRequest as error:
            self.fail(job, error, now)
            return
        self._answer(job, Kind.REPLY, body, now)

    def fail(self, job: Job, error: BaseException, now: float) -> None:
        """The handler has raised."""
        body = encode(to_wire(error))
        # Behind items it must not be an ERROR, which needs no credit and would overtake them.
        self._answer(job, Kind.END if job.streamed else Kind.ERROR, body, now)

    def reply_item(self, job: Job, body: bytes) -> None:
        """The handler has yielded."""
        job.streamed = True
        job.reply.sent(len(body))
        self._put("data", Outgoing(Kind.ITEM, "", job.number, body))

    def end_reply(self, job: Job, now: float) -> None:
        """The handler, a generator, has ended."""
        self._answer(job, Kind.END, encode(None), now)

    # -- the connection tells

    def on_ready(self, channel: str, now: float) -> None:
        """Say again what is to outlive connections."""
        match channel:
            case "coordination":
                if self._reconnect:
                    self._ask_members(now)
                if self._services or len(self.connection.links["data"].outbox):
                    self.connection.want("data", now)
                if self._inboxes or len(self.connection.links["events"].outbox):
                    self.connection.want("events", now)
            case "data":
                for service in self._services.values():
                    self._say_serve(service)
            case "events":
                for inbox in self._inboxes.values():
                    self._say_subscribe(inbox)

    def awaits_answers(self) -> bool:
        """Whether something that was sent is not answered yet."""
        return any(pending.sent and pending.channel == "data" for pending in self._calls.values())

    def on_lost(self, error: Error, now: float) -> None:
        """What has been sent is lost; what has not been, or wants to last, waits for the next connection."""
        self._members_at = self._rests_until = 0.0
        for pending in [each for each in self._calls.values() if each.sent or not self._reconnect]:
            del self._calls[pending.number]
            pending.fail(
                Unreachable(
                    f"{error.message} before it answered {pending.target}",
                    hint="whether it was carried out is not known" if pending.sent else "it was not sent; try again",
                    maybe_carried_out=pending.sent,
                )
            )
        for link in self.connection.links.values():
            link.outbox.on_lost()
        if self.events_unconfirmed:
            self.events_unconfirmed, self.lost_events = 0, True
        self._end_jobs()
        for service in self._services.values():
            service.on_lost()
        for inbox in self._inboxes.values():
            inbox.on_lost()
        if not self._reconnect:
            self._end_for_good(error)

    def on_envelope(self, channel: str, received: Received, now: float) -> None:
        """One came in."""
        match received.kind:
            case Kind.REPLY | Kind.ERROR | Kind.ITEM | Kind.END if received.to != _TO_CALLEE:
                self._on_answer(channel, received)
            case Kind.EVENT:
                inbox = self._inboxes.get(received.id)
                if inbox is not None:
                    origin, missed = received.meta.get(Meta.ORIGIN), received.meta.get(Meta.MISSED)
                    headers = received.meta.get(Meta.HEADERS)
                    inbox.put(
                        ClientEvent(
                            received.to,
                            received.body,
                            origin if isinstance(origin, str) else "",
                            missed if isinstance(missed, int) else 0,
                            headers if isinstance(headers, dict) else {},
                            bool(received.meta.get(Meta.ATTEMPT)),
                        )
                    )
            case Kind.CALL | Kind.CAST if channel == "data":
                self._on_call(received, now)
            case Kind.ACK if channel == "events" and received.id in self._calls:
                self._calls.pop(received.id).finish(None)
            case Kind.CREDIT if received.to == _TO_CALLEE and received.id in self._calls:
                self._calls[received.id].on_request_credit(received.body)
            case Kind.CREDIT if received.to == _TO_CALLER and received.id in self._jobs:
                job = self._jobs[received.id]
                job.reply.on_credit(received.body)
                job.signal.fire()
            case Kind.ITEM | Kind.END if received.id in self._jobs:
                self._on_item(self._jobs[received.id], received, now)
            case Kind.CANCEL if received.id in self._jobs:
                self._stop(self._jobs.pop(received.id))
            case Kind.CORE if received.to == _DRAINING and channel == "coordination" and self._reconnect:
                self._rest(now)

    # -- answers

    def _on_answer(self, channel: str, received: Received) -> None:
        pending = self._calls.get(received.id)
        if pending is not None and pending.channel == channel:
            cancels = pending.on_answer(received)
            if pending.over:
                del self._calls[pending.number]
            if cancels:
                self._put(channel, Outgoing(Kind.CANCEL, "", pending.number))
        elif channel == "events" and received.id in self._inboxes:
            inbox = self._inboxes[received.id]
            if received.kind == Kind.REPLY:
                inbox.on_confirmed(received.body)
            elif received.kind == Kind.ERROR:
                del self._inboxes[received.id]
                inbox.on_ended(received.body)
        elif channel == "data":
            for service in [each for each in self._services.values() if each.number == received.id]:
                if received.kind == Kind.REPLY:
                    service.on_confirmed()
                elif received.kind == Kind.ERROR:
                    del self._services[service.name]
                    service.end(from_wire(received.body))

    # -- jobs

    def _on_call(self, received: Received, now: float) -> None:
        service = self._services.get(received.to)
        if service is None:
            if received.kind == Kind.CALL:
                self._refuse(received.id, NotFound(f"this client does not serve {received.to!r} any more"))
            return
        job = Job(service, received, self.connection.links["data"].epoch, now)
        misfit = service.misfit(job)
        if misfit is None and service.admit(job):
            if job.number:
                self._jobs[job.number] = job
            self._run_next(service, now)
        elif job.number:
            self._refuse(job.number, misfit or Overloaded(f"{service.name} has too much waiting", hint="call it less"))
        else:
            service.dropped += 1

    def _on_item(self, job: Job, received: Received, now: float) -> None:
        if job.request is None:
            return
        if received.kind == Kind.END:
            job.request.end(None if received.body is None else from_wire(received.body))
        elif not job.request.ended and not job.request.put(received.body, received.size):
            self._refuse(job.number, BadRequest(f"more items for {job.service.name} than were asked for"))
            self._stop(self._jobs.pop(job.number))
        job.signal.fire()

    def _run_next(self, service: Service, now: float) -> None:
        while (job := service.next_job(now)) is not None:
            self._effects.append(Run(job))

    def _answer(self, job: Job, kind: int, body: bytes, now: float) -> None:
        """The job has come to its end, whoever still wants to know. Idempotent."""
        if job.done:
            return
        job.done = True
        known = self._jobs.pop(job.number, None)
        if known is job and not job.over and job.epoch == self.connection.links["data"].epoch:
            self._put("data", Outgoing(kind, "", job.number, body))
        job.end()
        job.service.on_done()
        self._run_next(job.service, now)

    def _stop(self, job: Job) -> None:
        job.end()
        self._effects.append(Stop(job))

    def _end_jobs(self) -> None:
        for job in self._jobs.values():
            self._stop(job)
        self._jobs.clear()

    def _refuse(self, number: int, error: Error) -> None:
        self._put("data", Outgoing(Kind.ERROR, "", number, encode(to_wire(error))))

    def _grant_items(self, job: Job) -> None:
        granted = job.request.grant() if job.request is not None and not job.over else None
        if granted is not None:
            self._put("data", Outgoing(Kind.CREDIT, _TO_CALLEE, job.number, encode(granted)))

    # -- a node that drains

    def _rest(self, now: float) -> None:
        """Our node will stop: begin nothing new there, and go to another once nothing is under way."""
        if not self.connection.addresses.beside(self.connection.endpoint):
            return
        self._rests_until = now + _REST_S
        for link in self.connection.links.values():
            link.outbox.rest()

    def _move_on(self, now: float) -> None:
        under_way = any(each.sent and each.channel != "coordination" for each in self._calls.values())
        if not under_way and not self._jobs:
            self.connection.move_on(f"the node at {self.connection.endpoint} drains", now)
        elif now >= self._rests_until:  # something takes its time; the node waits for it, and for what is new too
            self._rests_until = 0.0
            for link in self.connection.links.values():
                link.outbox.go_on()

    # -- what is said on a fresh connection

    def _say_subscribe(self, inbox: Inbox) -> None:
        body = encode({"queue": inbox.queue, "timeout_ms": inbox.timeout_ms})
        self._put("events", Outgoing(Kind.SUBSCRIBE, inbox.pattern, inbox.number, body))

    def _say_serve(self, service: Service) -> None:
        self._put("data", Outgoing(Kind.SUBSCRIBE, service.name, service.number, encode(service.wish)))

    def _ask_members(self, now: float) -> None:
        if self._members_asked is not None:
            self.forget(self._members_asked)
        asked = Pending(_MEMBERS, "coordination", self.new_number(), now + _MEMBERS_TIMEOUT_S)
        asked.signal.add(lambda: self._on_members(asked))
        self.call(asked, encode(None))
        self._members_asked = asked
        self._members_at = now + _MEMBERS_EVERY_S * (0.5 + self._chance())

    def _on_members(self, asked: Pending) -> None:
        if asked.over and asked.error is None:
            self.connection.addresses.on_members(asked.result())

    # -- the rest

    def _on_event_sent(self) -> None:
        self.events_unconfirmed += 1

    def _end_for_good(self, error: Error) -> None:
        """The connection is lost, and there will be no other."""
        for inbox in self._inboxes.values():
            inbox.end(Unreachable(f"{error.message} while events were waited for", hint="subscribe again, elsewhere"))
        self._inboxes.clear()
        for service in self._services.values():
            service.end(Unreachable(f"{error.message}: {service.name} is not served any more", hint="serve it again"))
        self._services.clear()
        for link in self.connection.links.values():
            link.outbox.clear()

    def _put(self, channel: str, outgoing: Outgoing) -> None:
        self.connection.links[channel].outbox.put(outgoing)


def _meta(headers: Mapping[str, str] | None, wishes: Mapping[int, Any] | None) -> dict[int, Any] | None:
    meta = {**(wishes or {}), **({Meta.HEADERS: dict(headers)} if headers else {})}
    return meta or None

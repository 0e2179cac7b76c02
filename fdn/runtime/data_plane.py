"""The data plane: links and sessions of the `data` and `events` channels, on the user's own loop.

It moves envelopes between nodes and hands each to whoever registered for its kind; what an envelope means is
messaging's
business. It learns of the cluster only from the control plane's immutable views.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from fdn.errors import BadRequest, Error, Overloaded, Unreachable, to_wire
from fdn.runtime.bulk_intake import BULK, BulkIntake, read_bulk_credit
from fdn.runtime.data_routes import DataRoutes, Relays
from fdn.runtime.facts import Fact, HandshakeRefused, LinkDown, LinkUp, PeerOverdrew
from fdn.runtime.governor import PROBE, FlowStats, Governor
from fdn.runtime.greeting import Greeter
from fdn.runtime.lanes import Lanes
from fdn.runtime.link import Link, LinkState
from fdn.runtime.outlets import ClientOutlet, LinkOutlet, Outlet, send_to_client
from fdn.runtime.relayed import RelayedListener
from fdn.runtime.relaying import Relaying, RelayingStats
from fdn.runtime.sessions import Session, Sessions, SessionsStats
from fdn.runtime.view import EMPTY_VIEW, View
from fdn.settings import Settings
from transports.assembly import AssemblyStats
from transports.channel import Channel
from transports.credit import EXEMPT_KINDS
from transports.limits import Limits
from transports.packing import ZLIB
from transports.shm.handles import Lender
from transports.transport import (
    ATTACHMENTS,
    CHUNKS,
    SENT,
    SHARED_MEMORY,
    Batch,
    ConnectionEvent,
    ConnectionStats,
    EventKind,
    Listener,
    ListenerStats,
    Transport,
)
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Refused, Welcome

__all__ = ("DATA_CHANNELS", "DATA_FEATURES", "DataPlane", "DataPlaneStats", "Handler", "NoTicket", "Origin", "Ticket")

_log = logging.getLogger(__name__)
_LAST_WORDS_S = 1.0  # for the answers of a member that has left, which the word of it may have overtaken
_OVERDREW_S = 1.0  # between two facts about a peer that sends without credit
DATA_CHANNELS = (Channel.DATA, Channel.EVENTS)
_SENT = int(Kind.SENT)
_AGED_S = 0.02  # on the way, beyond the shortest: until then nothing is looked at
_ANSWER_S = 0.005  # an answer takes so long, too
DATA_FEATURES = (ATTACHMENTS, CHUNKS, ZLIB, SENT)  # optional parts of the protocol that we speak there
_credit_decoder = msgspec.msgpack.Decoder(tuple[int, int, int])
_encode = msgspec.msgpack.Encoder().encode


class Origin(Protocol):
    """Where a message came from, and how to answer it."""

    @property
    def peer(self) -> str:
        """The node id (or client id) of the sender."""

    @property
    def is_client(self) -> bool:
        """Whether it is no member."""

    answer: Callable[[Envelope], None]

    outlet: Callable[[], Outlet]
    """Makes a way out for the items of one stream."""

    def withdraw(self, call_id: int) -> None:
        """What is still on its way out of a large answer to this call is of no use any more."""


class Ticket(Protocol):
    """The credit that a batch holds until all its messages have been taken up.

    Attributes:
        held: Raise it by one for each message of the batch that waits in a queue.
    """

    held: int

    def release(self) -> None:
        """A message was taken from its queue."""


class NoTicket:
    """For messages that never were on a link, or need no credit."""

    held = 0

    def release(self) -> None:
        pass


class _BatchTicket:
    __slots__ = ("_bytes", "_messages", "_plane", "_session", "held")

    def __init__(self, plane: "DataPlane", session: Session, messages: int, size: int) -> None:
        self._plane = plane
        self._session = session
        self._messages = messages
        self._bytes = size
        self.held = 1  # the plane's own hold, until the batch is dispatched

    def release(self) -> None:
        self.held -= 1
        if not self.held:
            self._plane.consumed(self._session, self._messages, self._bytes)


_NO_TICKET = NoTicket()
Handler = Callable[[Origin, Envelope, Ticket], None]


@dataclasses.dataclass(frozen=True, slots=True)
class DataPlaneStats:
    """Counters since the start, and the state of each link now."""

    sessions: SessionsStats
    listeners: Mapping[str, ListenerStats]  # by channel
    links: Mapping[str, ConnectionStats]  # by "node channel", open ones; behind it the lane, unless it is 0
    unknown_kinds: int  # envelopes of kinds that nobody registered for
    expired: int  # messages dropped because they were so long on their way that an answer would have come too late
    malformed: int  # CREDITs that could not be read
    unanswerable: int  # answers dropped because the asker cannot be reached
    bulk: AssemblyStats  # large messages, as they come in
    handler_faults: int  # our own handlers that raised: bugs
    flows: Mapping[str, FlowStats]  # by the keys of `links`: what is made of each
    overdrawn: int  # messages that were sent without the credit that they need
    relaying: RelayingStats


class _Late:
    """What comes in was long on its way: which of it would still be of use?"""

    __slots__ = ("_age_s", "_began", "_now")

    def __init__(self, age_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._age_s = age_s
        self._now = loop.time
        self._began = loop.time()

    def judge(self, envelope: Envelope) -> bool:
        """Take the time that it was on its way from what it has left; True if that is too little to be answered in."""
        gone_s = self._age_s + self._now() - self._began  # those before it in the batch took their time, too
        left_s = envelope.deadline_ms / 1000 - gone_s
        if left_s <= _ANSWER_S + gone_s / 32:  # who has waited for long is measured less precisely
            return True
        envelope.deadline_ms = int(left_s * 1000) or 1
        return False


class DataPlane:
    """See the module. All methods belong to the user's loop.

    Attributes:
        handlers: By kind; filled in by messaging before `listen`.
        protocols: Of CORE, by the protocol that `to` names.
        on_peer_lost: Called with a node id and a reason when calls in flight to it cannot be answered any more.
        on_caller_gone: Called with a node id when nobody waits there for answers any more.
        on_client_session_closed: Called with the session of a client that has ended. Its id would not do: that is the
            client's own word, and may be another's.
        on_refused: Called with a node id, the CALL, CAST, EVENT or ITEM (of a request stream) that it did not take
            because it had no room for large messages, and an error.
        on_stream_credit: Called with a CREDIT that is about one stream.
        map_shared: Called with the messages of a batch among which there are handles to shared memory; returns those
            that can be handled.
        lender: Called with the node id of a peer on this host; makes what lends it shared memory by one connection.
        on_rerouted: Called with a node id when links to it that were handed out are not those to use any more.
        on_reached: Called with (node, relays) when a member has reached us over relays; see `Relaying`.
        on_undeliverable: Called with (node, relays) when relays do not pass on to a member.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        greeter: Greeter,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        publish: Callable[[Fact], None],
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._transport = transport
        self._greeter = greeter
        self._settings = settings
        self._loop = loop
        self._rng = rng
        self._publish = publish
        self._listeners: dict[Channel, Listener] = {}
        self._links: dict[tuple[str, Channel], Link] = {}  # lane 0 of each
        self._lanes: dict[tuple[str, Channel], Lanes] = {}  # of those that may have, or have, more
        self._compresses = {
            Channel.DATA: settings.data.compression == "on",
            Channel.EVENTS: settings.events.compression == "on",
        }
        self._parallelism = {Channel.DATA: settings.data.parallelism, Channel.EVENTS: settings.events.parallelism}
        self._sent_before: dict[Link, int] = {}  # messages sent at the last sweep, to find idle links
        self._view = EMPTY_VIEW
        self._sweep: asyncio.TimerHandle | None = None
        self._unknown_kinds = self._malformed = self._unanswerable = self._handler_faults = self._overdrawn = 0
        self._expired = 0
        self._closed = False
        self._leaving: dict[str, tuple[asyncio.TimerHandle, str]] = {}
        self._overdrawing: dict[Session, int] = {}  # messages that are not in a fact yet
        self._governor = Governor(
            self._every_link,
            lambda link: self._lanes.get((link.peer, link.channel)),
            settings.data,
            loop,
            publish,
        )
        self.handlers: dict[int, Handler] = {
            Kind.CREDIT: self._on_credit,
            Kind.CHUNK: self._on_chunk,
            Kind.CORE: self._on_core,
        }
        self.protocols: dict[str, Handler] = {PROBE: self._on_probe}
        self._bulk = BulkIntake(limits, self.handlers)
        self.on_refused: Callable[[str, Envelope, Error], None] = lambda node, envelope, error: None
        self.on_peer_lost: Callable[[str, str], None] = lambda node, reason: None
        self.on_caller_gone: Callable[[str], None] = lambda caller: None
        self.on_client_session_closed: Callable[[Session], None] = lambda session: None
        self.on_stream_credit: Callable[[Origin, Envelope], None] = lambda origin, envelope: None
        self.map_shared: Callable[[Session, list[Envelope]], list[Envelope]] = lambda session, envelopes: envelopes
        self.lender: Callable[[str], Lender | None] = lambda peer: None
        self.on_rerouted: Callable[[str], None] = lambda node: None
        self.on_reached: Callable[[str, Relays], None] = lambda node, relays: None
        self.on_undeliverable: Callable[[str, Relays], None] = lambda node, relays: None
        self._routes = DataRoutes(loop)
        self._retired: set[Link] = set()  # open links of a way that was left, until nothing goes over them any more
        self._trials: dict[str, Link] = {}  # direct attempts, while a member is talked to over others for want of one
        self.relaying = Relaying(
            node=greeter.identity.node,
            plane=self,
            settings=settings.relay,
            limits=limits,
            loop=loop,
            first_number=rng.getrandbits(63),
            inbound_max=settings.links.sessions_max,
            on_reached=self._adopt,
            on_undeliverable=lambda node, relays: self.on_undeliverable(node, relays),
        )
        self.handlers[Kind.RELAY] = self._on_relay
        self._sessions = Sessions(
            greeter,
            settings.links.sessions_max,
            (settings.data.credit_messages, settings.data.credit_bytes),
            self._on_session,
            self._on_session_refused,
            self._on_session_closed,
        )

    def listen(self, channel: Channel, endpoint: str) -> str:
        """Bind one channel; returns the endpoint with its real port.

        Raises:
            transports.errors.TransportError: It cannot be bound.
        """
        listener = self._transport.listen(channel, endpoint, lambda batch: self._on_batch(channel, listener, batch))
        self._listeners[channel] = listener
        return listener.endpoint

    def unlisten(self) -> None:
        """Give the bound ports free again (the group was not free as a whole)."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    def start(self) -> None:
        """Begin to close idle links, and to look at those in use."""
        self._governor.start()
        self._sweep = self._loop.call_later(self._settings.links.idle_close_s / 2, self._close_idle)

    def on_view(self, view: View) -> None:
        """Take over a new view: calls to members that died fail now, links to them close."""
        former, self._view = self._view, view
        for node, member in view.members.items():
            was = former.members.get(node)
            if member.status in ("dead", "left") and (was is None or was.status not in ("dead", "left")):
                # The word that it left may overtake what it sent last, and its goodbye comes behind that: listen on.
                self._forget(node, f"{member.name} is {member.status}: {member.reason}", listen=member.status == "left")
            elif was is not None and member.endpoints != was.endpoints:
                self._forget(node, f"{member.name} has moved")
            if member.via != (() if was is None else was.via):
                self._routes.confirmed(node)
                self._reroute(node, member.via)
        for node in former.members.keys() - view.members.keys():
            self._forget(node, "it is forgotten")

    def link(self, node: str, channel: Channel) -> Link:
        """Our link to a member, made on first use and opened by whoever waits for it.

        Raises:
            Unreachable: No such member, or it says nothing of that channel.
        """
        link = self._links.get((node, channel))
        if link is not None:
            return link
        member = self._view.members.get(node)
        endpoint = "" if member is None else member.endpoints.get(channel.value, "")
        if not endpoint or self._closed:
            why = "this node is stopping" if self._closed else "it is no member"
            raise Unreachable(
                f"no way to node {node} on the {channel} channel: {why}",
                hint="`fdn members` shows what this node sees",
            )
        return self._make_link(node, channel, endpoint)

    def lanes(self, node: str, channel: Channel) -> Lanes:
        """All our links to a member on one channel: `data.parallelism` or `events.parallelism` of them at most.

        Raises:
            Unreachable: As `link`.
        """
        lanes = self._lanes.get((node, channel))
        if lanes is None:
            lanes = self._lanes_behind(self.link(node, channel))
        return lanes

    def direct_link(self, node: str, channel: Channel) -> Link:
        """The same as `link`, but never over relays.

        Raises:
            Unreachable: As `link`; or it is talked to over relays at the time.
        """
        if node in self._routes:
            raise Unreachable(
                f"there is no direct way to node {node}", hint="`fdn reachability` shows which links are down"
            )
        return self.link(node, channel)

    def is_member(self, node: str) -> bool:
        """Whether a node is alive, or suspected."""
        member = self._view.members.get(node)
        return member is not None and member.status in ("alive", "suspect")

    def in_use(self) -> Mapping[str, bool] | None:
        """To whom messages are sent, for the choice of ways; see `DataRoutes.report`. To be asked now and then."""
        for node in self._routes.unconfirmed():
            member = self._view.members.get(node)
            self._reroute(node, () if member is None else member.via)
        for node in self._routes.failing():
            self._try_direct(node)
        return self._routes.report(self._every_link())

    def give_up(self, session: Session, reason: str) -> None:
        """End the session of a client that cannot be reached."""
        self._sessions.give_up(session, reason)

    def queued(self) -> int:
        """Messages that wait to leave on any link."""
        connections = (link.connection for link in (*self._every_link(), *self._retired))
        return sum(connection.stats().queued_messages for connection in connections if connection is not None)

    def stats(self) -> DataPlaneStats:
        open_links = {
            f"{link.peer} {link.channel}{f' {link.lane}' if link.lane else ''}": (link, link.connection)
            for link in self._every_link()
            if link.connection is not None
        }
        return DataPlaneStats(
            sessions=self._sessions.stats(),
            listeners={channel.value: listener.stats() for channel, listener in self._listeners.items()},
            links={key: connection.stats() for key, (_, connection) in open_links.items()},
            flows={key: self._governor.flow(link) for key, (link, _) in open_links.items()},
            unknown_kinds=self._unknown_kinds,
            expired=self._expired,
            malformed=self._malformed,
            unanswerable=self._unanswerable,
            handler_faults=self._handler_faults,
            bulk=self._bulk.stats(),
            overdrawn=self._overdrawn,
            relaying=self.relaying.stats(),
        )

    async def close(self) -> None:
        """Say goodbye on all links and close everything. Idempotent."""
        self._closed = True
        self._governor.close()
        for node in list(self._leaving):
            self._end_leaving(node)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for session in self._sessions.open_sessions():
            if session.is_client:
                session.listener.send(
                    session.source, Envelope(Kind.BYE, body=msgspec.Raw(_encode({"reason": "stopping"})))
                )
        for link in (*self._every_link(), *self._retired, *self._trials.values()):
            link.close(goodbye="stopping")
        self.relaying.close()
        self._links.clear()
        self._retired.clear()
        self._trials.clear()
        self._lanes.clear()
        await self._transport.close()

    def consumed(self, session: Session, messages: int, size: int) -> None:
        """All messages of a batch were taken up: grant more when half the window is used."""
        totals = session.grant.on_consumed(messages, size)
        if totals is not None:
            session.answer(Envelope(Kind.CREDIT, body=msgspec.Raw(_encode((session.hello.epoch, *totals)))))

    # -- what comes in

    def on_relayed_batch(self, channel: Channel, listener: Listener, batch: Batch) -> None:
        """A batch came in over relays."""
        self._on_batch(channel, listener, batch)

    def _on_relay(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        assert isinstance(origin, Session)
        if isinstance(origin.listener, RelayedListener):
            self._malformed += 1  # relays do not nest
        else:
            self.relaying.on_relay(origin, envelope, ticket)

    def _on_batch(self, channel: Channel, listener: Listener, batch: Batch) -> None:
        session = self._sessions.of(channel, listener, batch)
        if session is None:
            return
        envelopes = batch.envelopes
        if not envelopes:
            return  # it held nothing but the HELLO
        ticket: Ticket = _NO_TICKET
        if envelopes[0].kind not in EXEMPT_KINDS:  # the first decides for all: a batch never mixes the two
            if session.grant.on_received(len(envelopes), batch.size):
                ticket = _BatchTicket(self, session, len(envelopes), batch.size)
            else:
                self._overdrew(session, len(envelopes))
        if batch.has_handles:
            envelopes = self.map_shared(session, envelopes)
        handlers = self.handlers
        if envelopes and envelopes[0].kind == _SENT:
            session.transit.on_clock(envelopes[0].id / 1000, self._loop.time())
            envelopes = envelopes[1:]
        late = _Late(session.transit.age_s, self._loop) if session.transit.age_s > _AGED_S else None
        for envelope in envelopes:
            if late is not None and envelope.deadline_ms and late.judge(envelope):
                self._expired += 1
                continue
            handler = handlers.get(envelope.kind)
            if handler is None:
                self._on_other_kind(session, envelope)
                continue
            try:
                handler(session, envelope, ticket)
            except Exception:
                # A fault of ours must cost one message, not the node.
                self._handler_faults += 1
                _log.exception("handling an envelope of kind %d failed", envelope.kind, extra={"peer": session.peer})
        ticket.release()

    def _overdrew(self, session: Session, messages: int) -> None:
        """No queue may keep for its sake what was sent without credit; one fact a second and connection tells of it."""
        self._overdrawn += messages
        if session not in self._overdrawing:
            self._overdrawing[session] = 0
            self._publish(PeerOverdrew(self._loop.time(), session.peer, session.channel.value, messages))
            self._loop.call_later(_OVERDREW_S, self._tell_overdrawn, session)
        else:
            self._overdrawing[session] += messages

    def _tell_overdrawn(self, session: Session) -> None:
        messages = self._overdrawing.pop(session)
        if messages and not self._closed:
            self._publish(PeerOverdrew(self._loop.time(), session.peer, session.channel.value, messages))

    def _on_core(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        protocol = self.protocols.get(envelope.to)
        if protocol is None:
            self._unknown_kinds += 1
        else:
            protocol(origin, envelope, ticket)

    def _on_probe(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        assert isinstance(origin, Session)
        if not self._governor.on_probe(origin, envelope) and not (
            not origin.is_client and self._governor.on_answer(self._links_to(origin.peer), envelope)
        ):
            self._malformed += 1

    def _on_other_kind(self, session: Session, envelope: Envelope) -> None:
        if envelope.kind == Kind.BYE:
            self._sessions.close(session)
        else:
            self._unknown_kinds += 1

    def _on_credit(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        if envelope.to == BULK:
            self._on_bulk_credit(origin, envelope)
            return
        if envelope.to:
            self.on_stream_credit(origin, envelope)
            return
        try:
            epoch, messages, size = _credit_decoder.decode(envelope.body)
        except (ValueError, RecursionError):
            self._malformed += 1
            return
        if origin.is_client:
            return  # it has no listener, so there is no link that it could mean
        for link in self._links_to(origin.peer):
            if link.epoch == epoch and link.connection is not None:
                link.connection.grant(messages, size)
                return

    # -- large messages

    def _on_chunk(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        assert isinstance(origin, Session)
        self._bulk.on_chunk(origin, envelope)

    def _on_bulk_credit(self, origin: Origin, envelope: Envelope) -> None:
        said = read_bulk_credit(envelope)
        if said is None:
            self._malformed += 1
            return
        if origin.is_client:
            return
        epoch, total = said
        for link in self._links_to(origin.peer):
            if link.epoch == epoch and link.connection is not None:
                if isinstance(total, int):
                    link.connection.grant_bulk(total)
                else:
                    self._on_bulk_refused(origin, link.connection.on_refused(envelope.id), total)
                return

    def _on_bulk_refused(self, origin: Origin, message: Envelope | None, reason: str) -> None:
        """A large message of ours was not taken: whoever waits for it, here or there, is told."""
        if message is None:
            return
        error = Overloaded(
            f"node {origin.peer} took no more large messages: {reason}", hint="send fewer at once, or try again later"
        )
        if message.kind in (Kind.REPLY, Kind.ITEM) and message.to == "":
            origin.answer(Envelope(Kind.ERROR, "", message.id, body=msgspec.Raw(_encode(to_wire(error)))))
            on_cancel = self.handlers.get(Kind.CANCEL)
            if message.kind == Kind.ITEM and on_cancel is not None:  # whoever yields further items need not
                on_cancel(origin, Envelope(Kind.CANCEL, "", message.id), _NO_TICKET)
        else:
            self.on_refused(origin.peer, message, error)

    def _withdraw(self, node: str, call_id: int) -> None:
        for link in self._links_to(node):
            if link.connection is not None:
                link.connection.withdraw((Kind.REPLY, Kind.ITEM), call_id)

    def _links_to(self, node: str) -> Iterator[Link]:
        for channel in DATA_CHANNELS:
            first = self._links.get((node, channel))
            if first is not None:
                yield from (first, *first.siblings)

    # -- sessions

    def _on_session(self, session: Session) -> None:
        if session.is_client:
            session.answer = lambda envelope: self._answer_client(session, envelope)
            session.outlet = lambda: ClientOutlet(
                session.listener,
                session.source,
                session.hello.features,
                self._loop,
                lambda _: self._sessions.close(session),
            )
        else:
            session.answer = lambda envelope: self._answer(session, envelope)
            if session.lane:
                session.answer = lambda envelope: self._answer_over_lane(session, envelope)
            session.outlet = lambda: self._outlet(session)
            session.withdraw = lambda call_id: self._withdraw(session.peer, call_id)

    def _outlet(self, session: Session) -> Outlet:
        link = self._lane_back(session) if session.lane else self._link_back(session)
        if link is None:
            raise Unreachable(f"node {session.peer} cannot be answered", hint="it says of no address where it listens")
        return LinkOutlet(link)

    def _link_back(self, session: Session) -> Link | None:
        """Our own link to a node that has said HELLO; made if there is none."""
        node, channel = session.peer, session.channel
        link = self._links.get((node, channel))
        if link is None:
            endpoint = self._endpoint_of(session.hello.identity, channel)
            if endpoint and not self._closed:
                link = self._make_link(node, channel, endpoint)
        return link

    def _lane_back(self, session: Session) -> Link | None:
        """The link back of the same number, if we have so many: what came side by side goes back side by side."""
        first = self._link_back(session)
        if first is None:
            return None
        lanes = self._lanes.get((session.peer, session.channel)) or self._lanes_behind(first)
        return lanes.link(session.lane % max(1, lanes.active))

    def _answer_over_lane(self, session: Session, envelope: Envelope) -> None:
        link = self._lane_back(session)
        if link is None or not link.send_exempt(envelope):
            self._unanswerable += 1

    def _answer(self, session: Session, envelope: Envelope) -> None:
        """Answer a node on our own link to it, which this may open."""
        link = self._link_back(session)
        if link is None:
            self._unanswerable += 1
            return
        connection = link.connection
        if connection is not None:
            connection.send_exempt(envelope)
        elif not link.send_exempt(envelope):
            self._unanswerable += 1

    def _answer_client(self, session: Session, envelope: Envelope) -> None:
        try:
            sent = send_to_client(session.listener, session.source, session.hello.features, envelope)
        except BadRequest as error:
            refusal = msgspec.Raw(_encode(to_wire(error, node=self._greeter.identity.node)))
            sent = session.listener.send(session.source, Envelope(Kind.ERROR, "", envelope.id, body=refusal))
        if not sent and session.listener.gone:
            self._sessions.close(session)  # nobody tells us that a client has died; this does

    def _endpoint_of(self, identity: Identity, channel: Channel) -> str:
        """Where a node listens that has said HELLO. Its own word counts only where membership does not know better: or
        whoever borrows a member's identity would be sent its answers.
        """
        member = self._view.members.get(identity.node)
        known = member is not None and member.incarnation >= identity.incarnation
        endpoints = member.endpoints if member is not None and known else identity.endpoints
        return endpoints.get(channel.value, "")

    def _on_session_refused(self, hello: Hello, refused: Refused) -> None:
        self._publish(
            HandshakeRefused(self._loop.time(), hello.identity.name, refused.code, refused.reason, inbound=True)
        )

    def _on_session_closed(self, session: Session) -> None:
        self._bulk.session_closed(session)
        if session.is_client:
            self.on_client_session_closed(session)
        elif session.channel is Channel.DATA and session.peer in self._leaving:
            self._end_leaving(session.peer)

    # -- links

    def _make_link(self, node: str, channel: Channel, endpoint: str, lane: int = 0) -> Link:
        relays = self._routes.of(node)
        link = self._new_link(
            node, channel, endpoint, lane, self.relaying.transport(node, relays) if relays else self._transport
        )
        if not lane:
            self._links[node, channel] = link
        return link

    def _new_link(self, node: str, channel: Channel, endpoint: str, lane: int, transport: Transport) -> Link:
        return Link(
            transport=transport,
            channel=channel,
            endpoint=endpoint,
            peer=node,
            kept=False,
            greeter=self._greeter,
            owner=self,
            settings=self._settings.links,
            loop=self._loop,
            rng=self._rng,
            lane=lane,
            compresses=self._compresses[channel],
        )

    def _lanes_behind(self, first: Link) -> Lanes:
        def make(lane: int) -> Link:
            link = self._make_link(first.peer, first.channel, first.endpoint, lane)
            first.siblings = (*first.siblings, link)
            link.first = first
            return link

        lanes = self._lanes[first.peer, first.channel] = Lanes(
            first,
            make,
            self._parallelism[first.channel],
            lambda node, envelope, error: self.on_refused(node, envelope, error),
        )
        return lanes

    def _every_link(self) -> Iterator[Link]:
        for link in self._links.values():
            yield link
            yield from link.siblings

    def _adopt(self, node: str, relays: Relays) -> None:
        """A member has reached us over relays: it is answered over them."""
        if self._routes.adopt(node, relays):
            self._take_way(node)
        self.on_reached(node, relays)

    def _reroute(self, node: str, relays: Relays) -> None:
        if self._routes.set(node, relays):
            self._take_way(node)

    def _take_way(self, node: str) -> None:
        """Make no more use of the links that there are. What is under way on open ones goes on."""
        for channel in DATA_CHANNELS:
            first = self._links.pop((node, channel), None)
            self._lanes.pop((node, channel), None)
            for link in () if first is None else (first, *first.siblings):
                if link.connection is None:
                    self._sent_before.pop(link, None)
                    link.close()
                else:
                    self._retired.add(link)
        if node not in self._routes:
            trial = self._trials.pop(node, None)
            if trial is not None:
                self._links[node, Channel.DATA] = trial
        self.on_rerouted(node)

    def _try_direct(self, node: str) -> None:
        """See whether a direct connection can be had again."""
        link = self._trials.get(node)
        if link is None:
            member = self._view.members.get(node)
            endpoint = "" if member is None else member.endpoints.get(Channel.DATA.value, "")
            if not endpoint:
                return
            link = self._trials[node] = self._new_link(node, Channel.DATA, endpoint, 0, self._transport)
        link.open()

    def _forget(self, node: str, reason: str, listen: bool = False) -> None:
        self._routes.forget(node)
        self.relaying.on_gone(node)
        trial = self._trials.pop(node, None)
        for link in [link for link in (*self._retired, trial) if link is not None and link.peer == node]:
            self._retired.discard(link)
            self._sent_before.pop(link, None)
            link.close()
        for channel in DATA_CHANNELS:
            first = self._links.pop((node, channel), None)
            self._lanes.pop((node, channel), None)
            for link in () if first is None else (first, *first.siblings):
                self._sent_before.pop(link, None)
                link.close()
        if not listen:
            self._sessions.drop_peer(node)
        self.on_caller_gone(node)
        self._end_leaving(node)
        if listen and self._sessions.has(Channel.DATA, node) and not self._closed:
            end = self._loop.call_later(_LAST_WORDS_S, self._end_leaving, node)
            self._leaving[node] = (end, reason)  # its last answers may be on their way
        else:
            self.on_peer_lost(node, reason)

    def _end_leaving(self, node: str) -> None:
        """A member that left has said all that it will."""
        end, reason = self._leaving.pop(node, (None, ""))
        if end is not None:
            end.cancel()
            self.on_peer_lost(node, reason)

    def _close_idle(self) -> None:
        self._bulk.trim()
        for link in list(self._retired):
            if link.connection is None or not (link.users or link.connection.stats().queued_messages):
                self._retired.discard(link)
                self._sent_before.pop(link, None)
                link.close("not needed")
        for link in list(self._every_link()):
            if link.connection is None:
                # Made to answer somebody who never became a member: those have no end.
                if link.state is LinkState.IDLE and link.peer not in self._view.members and not link.lane:
                    del self._links[link.peer, link.channel]
                    self._lanes.pop((link.peer, link.channel), None)
                    for each in (link, *link.siblings):
                        self._sent_before.pop(each, None)
                        each.close()
                continue
            stats = link.connection.stats()
            sent = stats.messages_sent
            if self._sent_before.get(link) == sent and not stats.queued_messages and not link.users:
                link.hang_up("idle")
            self._sent_before[link] = sent
        self._sweep = self._loop.call_later(self._settings.links.idle_close_s / 2, self._close_idle)

    def on_link_open(self, link: Link, welcome: Welcome) -> None:
        if SHARED_MEMORY in welcome.features and link.connection is not None:
            lender = self.lender(link.peer)
            if lender is not None:
                link.connection.lend_by(lender)
        if link.channel is Channel.DATA and (self._trials.get(link.peer) is link or link.peer not in self._routes):
            self._routes.attempted(link.peer, True)
        self._publish(LinkUp(self._loop.time(), link.peer, link.channel.value, link.endpoint))

    def on_link_refused(self, link: Link, refused: Refused) -> None:
        self._publish(HandshakeRefused(self._loop.time(), link.endpoint, refused.code, refused.reason, inbound=False))

    def on_link_lost(self, link: Link, event: ConnectionEvent, was_open: bool, dropped: int) -> None:
        reason = f"{event.kind.value}{': ' if event.detail else ''}{event.detail}"
        lanes = self._lanes.get((link.peer, link.channel))
        if lanes is not None:
            lanes.on_lost(link.lane)
        if self._trials.get(link.peer) is link:
            return  # it was a trial
        self._publish(LinkDown(self._loop.time(), link.peer, link.channel.value, link.endpoint, reason, dropped))
        if link in self._retired:
            self._retired.discard(link)
            return  # what was under way on it ends with its streams, or at its deadline
        if link.peer not in self._routes:
            if link.channel is Channel.DATA and not was_open:
                self._routes.attempted(link.peer, False)
            self.relaying.on_hop_lost(link.peer, link.channel)
        # Calls and their answers travel on `data`.
        if link.channel is Channel.DATA and (was_open or event.kind is EventKind.REFUSED):
            self.on_peer_lost(link.peer, f"the {link.channel} link to it was lost ({reason})")

    def on_link_batch(self, link: Link, batch: Batch) -> None:
        self._unknown_kinds += len(batch.envelopes)  # nodes answer on their own links, so nothing should come here

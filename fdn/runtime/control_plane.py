"""The control plane: drives the pure cores and owns the `coordination` and `gossip` channels. It never runs user code.

Its driver is the same for every core: feed it inputs with the time, carry out its effects, keep one timer for the
earliest deadline. It publishes immutable views of the cluster, and watches over the data plane.
"""

import asyncio
import dataclasses
import logging
import random
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, assert_never

import msgspec

from fdn.errors import ConfigError, Conflict, Error, Unreachable, VersionMismatch
from fdn.runtime import facts
from fdn.runtime.control_bulk import BULK, BULK_FEATURE, BulkStats, ControlBulk
from fdn.runtime.control_links import ControlLinks
from fdn.runtime.control_requests import ControlRequests
from fdn.runtime.greeting import Greeter
from fdn.runtime.sessions import Session, SessionsStats
from fdn.runtime.stall_watch import StallWatch
from fdn.runtime.view import Member, NodeRecord, NodeState, View
from fdn.settings import RelaySettings, Settings
from topologies import overlay, records, relay, swim
from topologies.errors import RemoteProtocolError
from topologies.full_mesh import FullMesh
from topologies.healer import Dial, Healer, HealerInput, HealerSettings, SeedAnswered, SeedsAdded
from topologies.identity import NodeId
from topologies.swim.messages import PushPull
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.transport import ConnectionEvent, ConnectionStats, EventKind, ListenerStats, Transport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Refused, RefusedCode, Role

__all__ = ("RELAY_FEATURE", "ControlPlane", "ControlPlaneStats", "DataPlaneSide")

_log = logging.getLogger(__name__)
_SWIM, _RECORDS, _RELAY = "fdn.swim", "fdn.records", "fdn.relay"
_EVIDENCE = {
    EventKind.CLOSED: swim.EvidenceKind.CLOSED,
    EventKind.REFUSED: swim.EvidenceKind.REFUSED,
    EventKind.UNREACHABLE: swim.EvidenceKind.UNREACHABLE,
    EventKind.FAILED: swim.EvidenceKind.UNREACHABLE,
}
RELAY_FEATURE = "relay"  # in HELLO and WELCOME: messages may go over it, and to it over others
_NAME_TAKEN_PATIENCE_S = 2.0  # the former holder of our name may have died a moment ago
_encode = msgspec.msgpack.Encoder().encode
_record_decoder = msgspec.msgpack.Decoder(NodeRecord)


class DataPlaneSide(Protocol):
    """What the control plane tells the other one. Each hands over to the other loop and returns at once."""

    def view_changed(self, view: View) -> None: ...

    def fact(self, fact: facts.Fact) -> None: ...

    def beat(self) -> None:
        """Answer with `ControlPlane.on_beat` from the user's loop."""

    def where(self) -> str:
        """Which code holds the user's loop right now, for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlaneStats:
    """Counters since the start."""

    swim: swim.SwimStats
    records: records.RecordsStats
    bulk: BulkStats
    relay: relay.RelayStats | None  # None: off
    sessions: SessionsStats
    listeners: Mapping[str, ListenerStats]
    links: Mapping[str, ConnectionStats]
    unsent: int  # messages to peers that no open link led to
    malformed: int  # messages of core protocols that could not be read
    unknown_kinds: int
    data_lag_s: float  # of the last beat of the user's loop
    data_lag_worst_s: float


class ControlPlane:
    """See the module. All methods belong to the control plane's loop.

    Args:
        identity: Who we are; the endpoints are filled in by `start`.
        greeter: Its objection to a HELLO is replaced with ours.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        settings: Settings,
        identity: Identity,
        greeter: Greeter,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        data_side: DataPlaneSide,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._identity = identity
        self._greeter = greeter
        self._loop = loop
        self._rng = rng
        self._data_side = data_side
        self.links = ControlLinks(
            transport=transport,
            greeter=greeter,
            settings=settings.links,
            loop=loop,
            rng=rng,
            publish=data_side.fact,
            owner=self,
        )
        self.requests = ControlRequests(identity.node, loop, rng.getrandbits(63), self._send_request)
        self.bulk = ControlBulk(self.links, loop, rng.getrandbits(63), self._on_bulk)
        self._swim: swim.Swim | None = None
        self._claims: dict[NodeId, swim.Claim] = {}  # what we believe of the others
        self._mesh = FullMesh()
        self._healer: Healer | None = None
        self._records: records.Records | None = None
        self._relay: relay.RelayRoutes | None = None
        self._watch = StallWatch(settings.data.beat_interval_s, settings.data.stall_warn_s, settings.data.stall_max_s)
        self._timer: asyncio.TimerHandle | None = None
        self._offers: msgspec.Raw = msgspec.Raw(b"\xc0")
        self._draining = False
        self._view_stale = False
        self._pumping = False
        self._inputs: list[Callable[[float], Sequence[Any]]] = []
        self._joinings: list[_Joining] = []
        self._told: set[NodeId] = set()  # the living that have told us who is in the cluster
        self._settled: asyncio.Future[None] | None = None
        self._view_waiters: set[asyncio.Future[None]] = set()
        self._malformed = self._unknown_kinds = 0
        self._closed = False

    # -- life

    def start(self, identity: Identity, offers: bytes) -> None:
        """Begin, once all endpoints are known.

        Args:
            identity: Complete with endpoints.
            offers: What this node serves, encoded.
        """
        self._identity = identity
        self._greeter.now_known_as(identity)
        self._offers = msgspec.Raw(offers)
        pace = {"local": swim.SwimSettings.local, "lan": swim.SwimSettings.lan, "wan": swim.SwimSettings.wan}
        swim_settings = pace[self._settings.pace]()
        me = _claim_of(identity)
        self._swim = swim.Swim(me, swim_settings, self._rng)
        node = NodeId(identity.node)
        self._healer = Healer(node, (), Channel.COORDINATION.value, HealerSettings(), self._rng)
        self._records = records.Records(node, identity.incarnation[0], records.RecordsSettings(), self._rng)
        if self._settings.relay.enabled:
            self._relay = relay.RelayRoutes(node, _relay_settings(self._settings.relay), self._rng)
        self._view_stale = True
        self._publish_record()

    async def join(self, seeds: Sequence[str]) -> None:
        """Find the cluster through any of `seeds`, and learn who is in it.

        A list that names somebody whom we know already is fulfilled at once. So is one that names ourselves, when
        nobody listens at the others: it is everybody's list, and somebody has to be the first. The others are dialled
        on all the same.

        Raises:
            Unreachable: None answered within `join_timeout_s`; says of each why.
            ConfigError: A seed belongs to another cluster.
            VersionMismatch: A seed speaks no common version.
            Conflict: Our name is taken.
        """
        assert self._healer is not None
        seeds = tuple(_coordination_endpoint(seed) for seed in seeds)
        known = {
            endpoint for claim in self._claims.values() if self._knows(claim) for endpoint in claim.endpoints.values()
        }
        if known.intersection(seeds):
            return
        joining = _Joining(seeds, self._loop.create_future(), self._loop.time())
        self._joinings.append(joining)
        self._feed_healer(SeedsAdded(seeds))
        try:
            async with asyncio.timeout(self._settings.join_timeout_s):
                await joining.done
        except TimeoutError:
            if not joining.names_us:
                raise joining.failure(self._settings.join_timeout_s) from None
            _log.warning("alone for now: %s", joining.heard_so_far)
        finally:
            self._joinings.remove(joining)

    async def wait_settled(self, timeout_s: float) -> None:
        """Return when every living member's record is here, or the time is up."""
        self._settled = self._loop.create_future()
        self._check_settled()
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled
        except TimeoutError:
            pass  # a member that is slow to tell what it serves is no reason not to start
        finally:
            self._settled = None

    def offer(self, offers: bytes, draining: bool) -> None:
        """Tell the cluster what this node serves from now on."""
        self._offers = msgspec.Raw(offers)
        self._draining = draining
        self._publish_record()

    def send_clients_away(self) -> None:
        """Tell clients that this node will stop; each goes elsewhere once it has its answers. Spec: section 5."""
        self.links.send_clients(Envelope(Kind.CORE, "fdn.draining"))

    def leave(self, reason: str) -> None:
        """Say goodbye to the cluster. What was sent still has to leave the sockets: `close` with a goodbye sees to
        it.
        """
        if self._swim is not None:
            self._feed_swim(swim.Leave(reason))

    async def close(self, goodbye: str) -> None:
        """Stop everything and release the sockets. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for joining in self._joinings:
            joining.give_up()
        await self.requests.close()
        self.bulk.close()
        self.links.close(goodbye)
        await self._transport.close()

    # -- what others ask

    def view(self) -> View:
        """The cluster as of now, round trips included, for which alone no new view is published."""
        return self._make_view()

    @property
    def node(self) -> str:
        """Our node id."""
        return self._identity.node

    def next_view(self) -> asyncio.Future[None]:
        """Done when the data plane has been handed the next view."""
        waiter = self._loop.create_future()
        self._view_waiters.add(waiter)
        waiter.add_done_callback(self._view_waiters.discard)
        return waiter

    def record_version(self, node: str) -> tuple[int, int] | None:
        """The version of a node's record that we hold; None if we hold none."""
        record = None if self._records is None else self._records.get(NodeId(node))
        return None if record is None else record.version

    async def ask(self, node: str, request: str, payload: Any, timeout_s: float) -> Any:
        """Ask a member's control plane, or our own.

        Raises:
            As `ControlRequests.request`.
        """
        if node == self._identity.node:
            return await self.requests.answer_here(request, payload)
        return await self.requests.request(node, request, payload, timeout_s)

    async def ping(self, node: str, channel: Channel, timeout_s: float) -> None:
        """Return when a member's control plane has answered on `coordination` or `gossip`.

        Raises:
            As `ControlRequests.request`.
        """
        if node != self._identity.node:
            await self.requests.request(node, "fdn.node.ping", None, timeout_s, channel)

    def where(self) -> str:
        """Which code holds the user's loop right now, for people."""
        return self._data_side.where()

    def why(self, node: str) -> list[tuple[float, swim.Statement]]:
        """What led to what we believe of another member, oldest first, each with its age in seconds."""
        assert self._swim is not None
        now = self._loop.time()
        return [(now - said.at, said) for said in self._swim.why(NodeId(node))]

    def stats(self) -> ControlPlaneStats:
        assert self._swim is not None
        assert self._records is not None
        return ControlPlaneStats(
            swim=self._swim.stats(),
            records=self._records.stats(),
            bulk=self.bulk.stats(),
            relay=None if self._relay is None else self._relay.stats(),
            sessions=self.links.session_stats(),
            listeners=self.links.listener_stats(),
            links=self.links.link_stats(),
            unsent=self.links.unsent,
            malformed=self._malformed,
            unknown_kinds=self._unknown_kinds,
            data_lag_s=max(self._watch.last_lag_s, self._watch.lag_s(self._loop.time())),
            data_lag_worst_s=self._watch.worst_lag_s,
        )

    def explain_ways(self) -> list[dict[str, Any]]:
        """For each living member which way messages to it take, and why: maps of `node`, `name`, `via`, `why`."""
        core, names = self._relay, self._names()
        return [
            {
                "node": node,
                "name": claim.name,
                "via": [] if core is None else [names(via) for via in core.routes().get(node, ())],
                "why": "direct: relaying is off" if core is None else core.explain(node),
            }
            for node, claim in self._claims.items()
            if _is_live(claim)
        ]

    def object_to(self, hello: Hello) -> Refused | None:
        """Why a HELLO that is otherwise good is not welcome: our goodbye, or a name that somebody living has."""
        if self._swim is None or self._closed:
            return Refused(RefusedCode.LEAVING, f"node {self._identity.name!r} is not ready", retry=True)
        if self._swim.me.status is swim.Status.LEFT:
            return Refused(RefusedCode.LEAVING, f"node {self._identity.name!r} is leaving", retry=True)
        them = hello.identity
        if hello.role is not Role.NODE or hello.channel != Channel.COORDINATION.value:
            return None
        for claim in (self._swim.me, *self._claims.values()):
            if claim.name == them.name and claim.subject != them.node and claim.status is swim.Status.ALIVE:
                where = claim.endpoints.get(Channel.COORDINATION.value, "?")
                return Refused(
                    RefusedCode.NAME_TAKEN,
                    f"the name {them.name!r} belongs to a living node at {where} (id {claim.subject})",
                    retry=True,
                )
        return None

    def on_beat(self) -> None:
        """The user's loop has answered."""
        now = self._loop.time()
        if self._watch.answered(now):
            self._data_side.fact(facts.DataPlaneRecovered(now, self._watch.last_lag_s))
            self._publish_record()
        self._set_timer()

    # -- the data plane tells

    def on_in_use(self, targets: Mapping[str, bool]) -> None:
        """To whom messages are sent, and whether a direct connection for them can be had."""
        self._feed_relay(relay.InUse({NodeId(node): connects for node, connects in targets.items()}))

    def on_reached(self, node: str, relays: Sequence[str]) -> None:
        """A member has reached us over relays."""
        self._feed_relay(relay.Adopt(NodeId(node), tuple(map(NodeId, relays))))

    def on_undeliverable(self, node: str, relays: Sequence[str]) -> None:
        """These relays do not pass on to a member."""
        self._feed_relay(relay.Undeliverable(NodeId(node), tuple(map(NodeId, relays))))

    # -- the links tell

    def on_met(self, identity: Identity, inbound: bool) -> None:
        if identity.endpoints:
            self._feed_swim(swim.Met(_claim_of(identity)))

    def on_evidence(self, node: str, event: ConnectionEvent) -> None:
        claim = self._claims.get(NodeId(node))
        if claim is None or event.endpoint not in claim.endpoints.values():
            return  # about an address that the member no longer has
        self._feed_swim(swim.Evidence(NodeId(node), _EVIDENCE[event.kind], event.detail))

    def on_seed(self, endpoint: str, outcome: Identity | Refused | ConnectionEvent) -> None:
        if isinstance(outcome, Identity):
            self._feed_healer(SeedAnswered(endpoint, NodeId(outcome.node)))
        for joining in self._joinings:
            joining.heard(endpoint, outcome, self._identity.node, self._loop.time())
            if isinstance(outcome, Identity) and self._knows(self._claims.get(NodeId(outcome.node))):
                joining.learned(outcome.node)

    def on_link_up(self, node: str, channel: Channel) -> None:
        if channel is Channel.GOSSIP:
            self.bulk.on_link_up(node)
            self._feed_records(records.PeerUp(NodeId(node)))

    def on_envelope(self, session: Session, envelope: Envelope) -> None:
        if envelope.kind == Kind.CORE and not session.is_client:
            self._on_core(session, envelope)
        elif not self.requests.on_envelope(session, envelope):
            self._unknown_kinds += 1

    def on_links_changed(self) -> None:
        self._view_stale = True
        self._feed(lambda now: ())
        if self._relay is not None:
            speak = (node for node in self._claims if self.links.speaks(node, RELAY_FEATURE))
            self._feed_relay(relay.LinksUp(frozenset(node for node in speak if self._has_links(node))))

    def _has_links(self, node: str) -> bool:
        return self.links.is_open(node, Channel.COORDINATION) and self.links.is_open(node, Channel.GOSSIP)

    # -- the driver

    def _on_core(self, session: Session, envelope: Envelope) -> None:
        sender = NodeId(session.peer)
        try:
            if envelope.to == BULK:
                self._on_piece(sender, envelope.body)
            else:
                self._take_in(sender, envelope.to, envelope.body)
        except RemoteProtocolError as error:
            # One line for the first and then for each doubling: a hostile peer must not be able to fill a disk.
            self._malformed += 1
            if self._malformed & (self._malformed - 1) == 0:
                _log.warning("message from %s dropped: %s", session.peer, error, extra={"peer": session.peer})

    def _on_piece(self, sender: NodeId, body: msgspec.Raw) -> None:
        if not _is_live(self._claims.get(sender)):  # nobody would ever tell us to forget what it sends
            raise RemoteProtocolError(f"bulk from {sender}, which is no living member")
        self.bulk.on_message(sender, body)

    def _on_bulk(self, sender: str, protocol: str, body: bytearray) -> None:
        """A message of a core has come in pieces, and is whole."""
        self._take_in(NodeId(sender), protocol, body)

    def _take_in(self, sender: NodeId, protocol: str, body: msgspec.Raw | bytearray) -> None:
        if protocol == _SWIM:
            message = swim.decode(body)
            self._feed_swim(swim.Received(sender, message))
            if isinstance(message, PushPull):
                self._on_told(sender)
        elif protocol == _RECORDS:
            self._feed_records(records.RecordReceived(sender, records.decode(body)))
        elif protocol == _RELAY and self._relay is not None and _is_live(self._claims.get(sender)):
            self._feed_relay(relay.Received(sender, relay.decode(body)))
        else:
            self._unknown_kinds += 1

    def _on_told(self, by: NodeId) -> None:
        claim = self._claims.get(by)
        if claim is not None and _is_live(claim):
            self._told.add(by)
            for joining in self._joinings:
                joining.learned(by, claim.endpoints.values())

    def _knows(self, claim: swim.Claim | None) -> bool:
        """Whether this member and we are in one cluster; one that has only shaken hands may know more than we do."""
        return _is_live(claim) and bool(self._told)

    def _feed_swim(self, message: swim.Input) -> None:
        core = self._swim
        if core is not None:
            self._feed(lambda now: core.handle(message, now))

    def _feed_healer(self, message: HealerInput) -> None:
        core = self._healer
        if core is not None:
            self._feed(lambda now: core.handle(message, now))

    def _feed_records(self, message: records.RecordsInput) -> None:
        core = self._records
        if core is not None:
            self._feed(lambda now: core.handle(message, now))

    def _feed_relay(self, message: relay.RelayInput) -> None:
        core = self._relay
        if core is not None:
            self._feed(lambda now: core.handle(message, now))

    def _feed(self, handle: Callable[[float], Sequence[Any]]) -> None:
        """Give a core its input and carry out the effects; inputs that arise meanwhile wait their turn."""
        if self._closed:
            return
        self._inputs.append(handle)
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._inputs:
                for effect in self._inputs.pop(0)(self._loop.time()):
                    self._carry_out(effect)
        finally:
            self._pumping = False
        if self._view_stale:
            self._view_stale = False
            self._data_side.view_changed(self._make_view())
            for waiter in list(self._view_waiters):
                if not waiter.done():
                    waiter.set_result(None)
        self._check_settled()
        self._set_timer()

    def _carry_out(
        self, effect: swim.Effect | overlay.OverlayEffect | Dial | records.RecordsEffect | relay.RelayEffect
    ) -> None:
        match effect:
            case swim.Send(peer, message):
                self._send_core(peer, _SWIM, swim.encode(message))
            case records.RecordSend(peer, message):
                self._send_core(peer, _RECORDS, records.encode(message))
            case swim.MemberChanged():
                self._on_member_changed(effect)
            case swim.Refuted(me, heard):
                self._identity = msgspec.structs.replace(self._identity, incarnation=me.incarnation)
                self._greeter.now_known_as(self._identity)
                self._view_stale = True
                _log.warning("refuted: %s said we are %s (%s)", heard.by, heard.status, heard.reason)
            case records.RecordChanged():
                self._view_stale = True
            case relay.RelaySend(peer, message):
                self._send_core(peer, _RELAY, relay.encode(message))
            case relay.RouteChanged():
                self._on_route_changed(effect)
            case overlay.Connect(peer, endpoints):
                self.links.connect(peer, endpoints)
            case overlay.Disconnect(peer, _reason):
                self.links.disconnect(peer)
            case Dial(endpoint):
                self.links.dial(endpoint)
            case _:
                assert_never(effect)

    def _on_member_changed(self, change: swim.MemberChanged) -> None:
        self._view_stale = True
        if change.after is None:
            self._claims.pop(change.subject, None)
        else:
            self._claims[change.subject] = change.after
        for effect in self._mesh.handle(change, change.at):
            self._carry_out(effect)
        self._feed_healer(change)
        self._publish_change(change)
        if not _is_live(change.after):
            self._told.discard(change.subject)
            self.bulk.on_gone(change.subject)
            self._feed_records(records.PeerGone(change.subject))
            self._feed_relay(relay.PeerGone(change.subject))

    def _send_core(self, peer: NodeId, protocol: str, body: bytes) -> None:
        """Send a message of a core: at once, or in pieces when it is so long that it would hold up others."""
        if len(body) > self.bulk.settings.whole_bytes_max and self.links.speaks(peer, BULK_FEATURE):
            self.bulk.send(peer, protocol, body)
            return
        claim = self._claims.get(peer)
        endpoint = "" if claim is None else claim.endpoints.get(Channel.GOSSIP.value, "")
        envelope = Envelope(Kind.CORE, protocol, body=msgspec.Raw(body))
        if endpoint and not self.links.is_open(peer, Channel.GOSSIP):
            said = self.links.said_endpoint(peer, Channel.GOSSIP)
            if said and said != endpoint:
                self.links.send_aside(peer, Channel.GOSSIP, envelope, said)
                return
        self.links.send(peer, Channel.GOSSIP, envelope, endpoint)

    def _send_request(self, node: str, envelope: Envelope, channel: Channel) -> bool:
        return self.links.send(node, channel, envelope)

    def _set_timer(self) -> None:
        if self._closed:
            return
        cores = (self._swim, self._healer, self._records, self._relay, self._watch)
        deadlines = [deadline for core in cores if core is not None and (deadline := core.next_deadline()) is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not deadlines:
            return
        # Never at once: a core whose deadline has passed must not keep the loop from its sockets.
        at = max(min(deadlines), self._loop.time() + 0.001)
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        if self._watch.check(now):
            self._on_stall(now)
        if self._watch.due(now):
            self._data_side.beat()
        for core, tick in (
            (self._swim, swim.Tick()),
            (self._healer, swim.Tick()),
            (self._records, swim.Tick()),
            (self._relay, swim.Tick()),
        ):
            if core is not None:
                deadline = core.next_deadline()
                if deadline is not None and deadline <= now:
                    self._feed(lambda at, core=core, tick=tick: core.handle(tick, at))  # type: ignore[misc]
        self._set_timer()

    # -- records, views and facts

    def _names(self) -> Callable[[str], str]:
        claims = self._claims
        return lambda node: claims[NodeId(node)].name if node in claims else node

    def _on_route_changed(self, change: relay.RouteChanged) -> None:
        self._view_stale = True
        names = self._names()
        name, via = names(change.target), tuple(map(names, change.after))
        _log.info(
            "messages to %s go %s: %s",
            name,
            f"over {', '.join(via)}" if via else "directly",
            change.why,
            extra={"member": change.target, "via": via},
        )
        self._data_side.fact(facts.RouteChanged(self._loop.time(), change.target, name, via, change.why))

    def _publish_record(self) -> None:
        state = NodeState.DRAINING if self._draining else self._watch.state
        lag_ms = int(self._watch.lag_s(self._loop.time()) * 1000) if state is not NodeState.SERVING else 0
        self._feed_records(records.Publish(_encode(NodeRecord(state, lag_ms, self._offers))))
        self._view_stale = True
        self._feed(lambda now: ())

    def _on_stall(self, now: float) -> None:
        lag, where = self._watch.lag_s(now), self._data_side.where()
        _log.warning(
            "the user's loop has not turned for %.1f s: %s",
            lag,
            where,
            extra={"lag_s": lag, "state": self._watch.state},
        )
        self._data_side.fact(facts.DataPlaneLagging(now, lag, self._watch.state, where))
        self._publish_record()

    def _make_view(self) -> View:
        assert self._swim is not None
        assert self._records is not None
        members: dict[str, Member] = {}
        offers: dict[str, bytes] = {}
        routes = {} if self._relay is None else self._relay.routes()
        for node, claim in {self._swim.me.subject: self._swim.me, **self._claims}.items():
            record = _decode_record(self._records.get(node))
            me = node == self._identity.node
            open_link = me or self.links.is_open(node)
            rtt_s = None if me else self._swim.rtt_s(node)
            members[node] = Member(
                node=node,
                name=claim.name,
                status=claim.status.value,
                incarnation=claim.incarnation,
                endpoints=claim.endpoints,
                tags=claim.tags,
                state=record.state,
                lag_ms=record.lag_ms,
                reachable=me
                or (claim.status is swim.Status.ALIVE and record.state is not NodeState.WEDGED and open_link),
                reason=claim.reason,
                rtt_us=None if rtt_s is None else rtt_s * 1e6,
                me=me,
                via=routes.get(node, ()),
            )
            if _is_live(claim):
                offers[node] = bytes(record.offers)
        return View(types.MappingProxyType(members), types.MappingProxyType(offers))

    def _check_settled(self) -> None:
        if self._settled is None or self._settled.done():
            return
        assert self._records is not None
        if all(self._records.get(node) is not None for node, claim in self._claims.items() if _is_live(claim)):
            self._settled.set_result(None)

    def _publish_change(self, change: swim.MemberChanged) -> None:
        before, after, at = change.before, change.after, change.at
        if after is None or (before is not None and before.status is after.status):
            return
        was = "" if before is None else before.status.value
        match after.status:
            case swim.Status.ALIVE:
                fact: facts.Fact = facts.MemberAlive(at, after.subject, after.name, after.incarnation, was)
                self._look_for_clash(after, at)
            case swim.Status.SUSPECT:
                fact = facts.MemberSuspect(at, after.subject, after.name, after.by, after.reason)
            case swim.Status.DEAD:
                fact = facts.MemberDead(at, after.subject, after.name, after.by, after.reason)
            case swim.Status.LEFT:
                fact = facts.MemberLeft(at, after.subject, after.name, after.reason)
            case _:
                assert_never(after.status)
        _log.info(
            "member %s %s (incarnation %d.%d%s)",
            after.name,
            after.status.value,
            *after.incarnation,
            f", {after.reason}" if after.reason else "",
            extra={"member": after.subject, "status": after.status.value, "by": after.by},
        )
        self._data_side.fact(fact)

    def _look_for_clash(self, claim: swim.Claim, at: float) -> None:
        assert self._swim is not None
        for other in (self._swim.me, *self._claims.values()):
            if other.name == claim.name and other.subject != claim.subject and other.status is swim.Status.ALIVE:
                _log.error("two living nodes are named %s: %s and %s", claim.name, claim.subject, other.subject)
                self._data_side.fact(facts.NameClash(at, claim.name, (claim.subject, other.subject)))


class _Joining:
    """One attempt to join: what was heard of each seed, and whether it is done."""

    def __init__(self, seeds: Sequence[str], done: asyncio.Future[None], now: float) -> None:
        self.done = done
        self._heard: dict[str, str] = dict.fromkeys(seeds, "no answer yet")
        self._nobody_else: set[str] = set()  # seeds where nobody listens, and our own
        self.names_us = False
        self._answered: set[str] = set()  # node ids
        self._started = now

    def heard(self, endpoint: str, outcome: Identity | Refused | ConnectionEvent, me: str, now: float) -> None:
        if endpoint not in self._heard or self.done.done():
            return
        match outcome:
            case Identity():
                if outcome.node != me:
                    self._answered.add(outcome.node)
                    self._heard[endpoint] = f"{outcome.name} answered, and told nothing of the cluster"
                    return
                self._heard[endpoint] = "that is this node itself"
                self.names_us = True
                self._nobody_else.add(endpoint)
                self._look_for_company()
            case Refused(code, reason, retry):
                self._heard[endpoint] = f"refused: {reason}"
                patient = code == RefusedCode.NAME_TAKEN and now - self._started < _NAME_TAKEN_PATIENCE_S
                if not (patient or (retry and code != RefusedCode.NAME_TAKEN)):
                    self.done.set_exception(_refusal(endpoint, outcome))
            case ConnectionEvent(kind, _, detail):
                self._heard[endpoint] = f"{kind.value}{f' ({detail})' if detail else ''}"
                if kind is EventKind.REFUSED:
                    self._nobody_else.add(endpoint)
                    self._look_for_company()
                else:
                    self._nobody_else.discard(endpoint)

    def learned(self, by: str, endpoints: Collection[str] = ()) -> None:
        """A member has told us who is in the cluster; it counts if it is one of those that were asked.

        It may have found us before our dial found it: then its endpoints tell which seed it is.
        """
        if not self.done.done() and (by in self._answered or not self._heard.keys().isdisjoint(endpoints)):
            self.done.set_result(None)

    @property
    def heard_so_far(self) -> str:
        """What was heard of each seed, for people."""
        return "; ".join(f"{seed}: {heard}" for seed, heard in self._heard.items())

    def _look_for_company(self) -> None:
        if self.names_us and len(self._nobody_else) == len(self._heard) and not self.done.done():
            self.done.set_result(None)

    def give_up(self) -> None:
        if not self.done.done():
            self.done.set_exception(Unreachable("this node was stopped while it joined"))

    def failure(self, waited_s: float) -> Unreachable:
        return Unreachable(
            f"none of the nodes to join answered within {waited_s:g} s: {self.heard_so_far}",
            hint="start one of them first, or correct `join`; the first node is started without it",
        )


def _refusal(endpoint: str, refused: Refused) -> Error:
    message = f"the node at {endpoint} refused this node: {refused.reason}"
    match refused.code:
        case RefusedCode.WRONG_CLUSTER:
            return ConfigError(message, hint="correct `cluster`, or join nodes of this cluster")
        case RefusedCode.NO_COMMON_VERSION:
            return VersionMismatch(message, hint="upgrade the older side")
        case RefusedCode.NAME_TAKEN:
            return Conflict(message, hint="give this node another name, or stop the other one")
        case RefusedCode.WRONG_CHANNEL:
            return ConfigError(message, hint="join the base port of a node: its coordination endpoint")
    return Unreachable(message, hint="try another node")


def _claim_of(identity: Identity) -> swim.Claim:
    return swim.Claim(
        subject=NodeId(identity.node),
        incarnation=identity.incarnation,
        status=swim.Status.ALIVE,
        name=identity.name,
        endpoints=identity.endpoints,
        by=NodeId(identity.node),
    )


def _relay_settings(settings: RelaySettings) -> relay.RelaySettings:
    return relay.RelaySettings(
        candidates=settings.candidates,
        ttl=settings.ttl,
        interval_s=settings.interval_s,
        factor=settings.factor,
        gain_s=settings.gain_s,
        hold_s=settings.hold_s,
    )


def _is_live(claim: swim.Claim | None) -> bool:
    return claim is not None and claim.status in (swim.Status.ALIVE, swim.Status.SUSPECT)


def _decode_record(record: records.Record | None) -> NodeRecord:
    if record is None:
        return _UNKNOWN
    try:
        return _record_decoder.decode(record.payload)
    except (ValueError, RecursionError):
        return _UNKNOWN  # a peer of another version; its services cannot be known


_UNKNOWN = NodeRecord()


def _coordination_endpoint(seed: str) -> str:
    """A base address as an endpoint to dial: a path or name for the whole node gets that of its channel."""
    base = Endpoint.parse(seed)
    if base.scheme == "tcp" or base.host.endswith(f".{Channel.COORDINATION.value}"):
        return seed
    return str(base.for_channel(Channel.COORDINATION))

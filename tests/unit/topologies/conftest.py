"""A small simulator: whole cores on a virtual clock, with links that close, refuse, lose, cut and stall."""

import functools
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from topologies import records, swim
from topologies.full_mesh import FullMesh
from topologies.healer import Healer, HealerSettings, SeedAnswered
from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect
from topologies.records import PeerGone, PeerUp, Publish, RecordChanged, RecordReceived, Records, RecordSend
from topologies.swim import Claim, Evidence, EvidenceKind, MemberChanged, Met, Received, Send, Status, Swim, Tick

LATENCY_S = (0.0002, 0.002)
HANDSHAKE_TIMEOUT_S = 2.0
REDIAL_S = (0.05, 2.0)


@dataclass
class Link:
    """What a node knows of its connection to one peer."""

    endpoint: str
    open: bool = False
    attempts: int = 0
    pending: list[bytes] = field(default_factory=list)


class Node:
    """All cores of one node and a driver for them."""

    def __init__(self, cluster: "Cluster", claim: Claim, seeds: list[str], rng: random.Random) -> None:
        self.cluster = cluster
        self.id = claim.subject
        self.endpoint = claim.endpoints["coordination"]
        self.swim = Swim(claim, cluster.settings, rng)
        self.mesh = FullMesh()
        self.healer = Healer(self.id, seeds, "coordination", HealerSettings(), rng)
        self.records = Records(self.id, claim.incarnation[0], records.RecordsSettings(), rng)
        self.links: dict[NodeId, Link] = {}
        self.asides: dict[NodeId, list[bytes]] = {}  # for peers that are no neighbours, until a dial has succeeded
        self.sessions: set[NodeId] = set()  # who said HELLO, and has not been declared dead since
        self.up = True
        self.paused = False
        self.inbox: list[Callable[[], None]] = []  # what waits while we are stopped
        self.history: list[MemberChanged] = []
        self.offers: dict[NodeId, bytes] = {}

    def deliver(self, act: Callable[[], None]) -> None:
        """Run what the network brings, unless we are dead (lost) or stopped (kept by the kernel)."""
        if self.paused:
            self.inbox.append(act)
        elif self.up:
            act()

    def tick(self) -> None:
        now = self.cluster.now
        for core in (self.swim, self.healer, self.records):
            due = core.next_deadline()
            if due is not None and due <= now:
                self.pump(core.handle(Tick(), now))

    def feed_swim(self, input: swim.Input) -> None:
        if self.up:
            self.pump(self.swim.handle(input, self.cluster.now))

    def feed_records(self, input: records.RecordsInput) -> None:
        if self.up:
            self.pump(self.records.handle(input, self.cluster.now))

    def pump(self, effects) -> None:
        now = self.cluster.now
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self.send(peer, b"S" + swim.encode(message))
                case RecordSend(peer, message):
                    self.send(peer, b"R" + records.encode(message))
                case RecordChanged(owner, _, payload):
                    self.offers.pop(owner, None)
                    if payload is not None:
                        self.offers[owner] = payload
                case MemberChanged(subject, _, after):
                    self.history.append(effect)
                    self.pump(self.mesh.handle(effect, now))
                    self.healer.handle(effect, now)
                    if after is None or after.status in (Status.DEAD, Status.LEFT):
                        self.sessions.discard(subject)
                        self.pump(self.records.handle(PeerGone(subject), now))
                case Connect(peer, endpoints):
                    self.links[peer] = Link(endpoints["gossip"])
                    self.cluster.dial(self, peer, self.links[peer])
                case Disconnect(peer):
                    del self.links[peer]
                case _ if hasattr(effect, "endpoint"):
                    self.cluster.dial_once(self, effect.endpoint)
        self.cluster.schedule_tick(self)

    def send(self, peer: NodeId, data: bytes) -> None:
        link = self.links.get(peer)
        if link is None:
            self.send_aside(peer, data)
            return
        if not link.open:
            link.pending = [*link.pending[-63:], data]
            return
        self.cluster.carry(self, peer, data)

    def send_aside(self, peer: NodeId, data: bytes) -> None:
        """To one that is no neighbour, over a connection made for it."""
        claim = self.swim.members().get(peer)
        if claim is None or peer in self.asides:
            self.asides.get(peer, []).append(data)
            return
        self.asides[peer] = [data]

        def welcome() -> None:
            for waiting in self.asides.get(peer, []):
                self.cluster.carry(self, peer, waiting)

        self.cluster.dial_once(self, claim.endpoints["gossip"], welcome)
        self.cluster.at(HANDSHAKE_TIMEOUT_S, lambda: self.hang_up(peer))

    def hang_up(self, peer: NodeId) -> None:
        self.asides.pop(peer, None)

    def receive(self, sender: NodeId, data: bytes) -> None:
        if sender not in self.sessions:
            self.cluster.disown(self, sender)
            return
        if data[:1] == b"S":
            self.feed_swim(Received(sender, swim.decode(data[1:])))
        else:
            self.feed_records(RecordReceived(sender, records.decode(data[1:])))

    def view(self) -> dict[str, str]:
        return {claim.subject: claim.status.value for claim in self.swim.members().values()}


class Cluster:
    """Nodes, a network and a clock."""

    def __init__(self, count: int, seed: int, settings: swim.SwimSettings | None = None, loss: float = 0.0) -> None:
        self.settings = settings or swim.SwimSettings.local()
        self.loss = loss
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.nodes: dict[NodeId, Node] = {}
        self.listening: dict[str, Node] = {}
        self.cut: Callable[[NodeId, NodeId], bool] = lambda one, other: False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for index in range(count):
            self.start(f"n{index}", seeds=["tcp://n0"])

    # -- what tests do

    def start(self, name: str, seeds: list[str], generation: int = 1) -> Node:
        endpoint = f"tcp://{name}"
        node_id = NodeId(name)
        endpoints = {"coordination": endpoint, "gossip": endpoint}
        claim = Claim(node_id, (generation, 0), Status.ALIVE, name=name, endpoints=endpoints, by=node_id)
        node = Node(self, claim, seeds, random.Random(self.rng.getrandbits(64)))
        self.nodes[node_id] = self.listening[endpoint] = node
        node.feed_records(Publish(f"offers of {name} in its life {generation}".encode()))
        self.schedule_tick(node)
        return node

    def kill(self, name: str) -> Node:
        """SIGKILL: the kernel closes all connections, and nobody listens any more."""
        node = self.nodes[NodeId(name)]
        node.up = False
        del self.listening[node.endpoint]
        for other in self.nodes.values():
            link = other.links.get(node.id)
            if link is not None and link.open:
                self.at(self.latency(), functools.partial(self.lost, other, node.id, link, "closed"))
        return node

    def pause(self, name: str) -> Node:
        self.nodes[NodeId(name)].paused = True
        return self.nodes[NodeId(name)]

    def resume(self, name: str) -> None:
        """SIGCONT. Timers first: that is the worse order for a node that has slept."""
        node = self.nodes[NodeId(name)]
        node.paused = False
        node.tick()
        waiting, node.inbox = node.inbox, []
        for act in waiting:
            act()
        self.schedule_tick(node)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float | None:
        """Let time pass. Returns how much did before `until` was true, None if it never was."""
        started, end = self.now, self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
            if until is not None and until():
                return self.now - started
        self.now = end
        return None

    def converge(self, seconds: float = 10.0) -> float:
        took = self.run(seconds, self.agreed)
        assert took is not None, {node.id: node.view() for node in self.nodes.values()}
        return took

    def agreed(self) -> bool:
        """All who run hold all who run alive, have links and know their records."""
        running = [node for node in self.nodes.values() if node.up]
        wanted = {node.id for node in running}
        published = {node.id: record.payload for node in running if (record := node.records.get(node.id)) is not None}
        for node in running:
            others = wanted - {node.id}
            if {peer for peer, status in node.view().items() if status == "alive"} != wanted:
                return False
            if {node.id: published[node.id], **node.offers} != published:
                return False
            if {peer for peer, link in node.links.items() if link.open} != others:
                return False
        return True

    def held(self, subject: str, status: str) -> bool:
        """All others who run hold `subject` to be `status`."""
        return all(
            node.view().get(subject) == status
            for node in self.nodes.values()
            if node.up and not node.paused and node.id != subject
        )

    def verdicts(self, status: Status) -> list[MemberChanged]:
        changes = [change for node in self.nodes.values() for change in node.history]
        return [change for change in changes if change.after is not None and change.after.status is status]

    # -- the network

    def at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), act))

    def latency(self) -> float:
        return self.rng.uniform(*LATENCY_S)

    def schedule_tick(self, node: Node) -> None:
        deadlines = [core.next_deadline() for core in (node.swim, node.healer, node.records)]
        due = min((deadline for deadline in deadlines if deadline is not None), default=None)
        if due is None or not node.up or node.paused:
            return
        due = max(due, self.now)

        def fire() -> None:
            if node.up and not node.paused:
                node.tick()

        # A later effect may have moved the deadline; a tick that is early for all cores does nothing.
        self.at(due - self.now, fire)

    def carry(self, sender: Node, peer: NodeId, data: bytes) -> None:
        if self.rng.random() < self.loss:
            return
        target = self.nodes[peer]

        def arrive() -> None:
            if not self.cut(sender.id, peer):
                target.deliver(lambda: target.receive(sender.id, data))

        self.at(self.latency(), arrive)

    def disown(self, node: Node, sender: NodeId) -> None:
        """Tell a sender that its connection is not believed, so that it ends it and says HELLO on a new one."""
        other = self.nodes[sender]
        link = other.links.get(node.id)
        if link is not None and link.open:
            self.at(self.latency(), lambda: other.deliver(lambda: self.lost(other, node.id, link, "closed")))

    def dial_once(self, node: Node, endpoint: str, then: Callable[[], None] = lambda: None) -> None:
        """A handshake, without keeping the connection."""
        target = self.listening.get(endpoint)
        if target is None or self.cut(node.id, target.id):
            return

        def hello() -> None:
            if target is not node:
                target.sessions.add(node.id)
                target.feed_swim(Met(node.swim.me))

            def welcome() -> None:
                node.healer.handle(SeedAnswered(endpoint, target.id), self.now)
                if target is not node:
                    node.feed_swim(Met(target.swim.me))
                then()

            self.at(self.latency(), lambda: node.deliver(welcome))

        self.at(self.latency(), lambda: target.deliver(hello))

    def dial(self, node: Node, peer: NodeId, link: Link) -> None:
        """A kept link: HELLO, WELCOME, and again after a pause when it fails."""
        if node.links.get(peer) is not link or not node.up:
            return
        link.attempts += 1
        attempt = link.attempts
        target = self.listening.get(link.endpoint)
        if target is None and not self.cut(node.id, peer):
            self.at(self.latency(), lambda: self.lost(node, peer, link, "refused"))
            return

        def is_on() -> bool:
            return node.links.get(peer) is link and link.attempts == attempt and not link.open

        def hello() -> None:
            assert target is not None
            target.sessions.add(node.id)
            target.feed_swim(Met(node.swim.me))
            self.at(self.latency(), lambda: node.deliver(lambda: welcome(target.swim.me)))

        def welcome(claim: Claim) -> None:
            if not is_on() or claim.subject != peer:
                return
            link.open = True
            link.attempts = 0
            node.feed_swim(Met(claim))
            pending, link.pending = link.pending, []
            for data in pending:
                self.carry(node, peer, data)
            node.feed_records(PeerUp(peer))

        def timeout() -> None:
            if is_on():
                self.lost(node, peer, link, "unreachable")

        if target is not None and not self.cut(node.id, target.id):
            self.at(self.latency(), lambda: target.deliver(hello))
        self.at(HANDSHAKE_TIMEOUT_S, lambda: node.deliver(timeout))

    def lost(self, node: Node, peer: NodeId, link: Link, kind: str) -> None:
        if node.links.get(peer) is not link or (kind == "closed" and not link.open):
            return
        link.open = False
        link.pending = []
        pause = self.rng.uniform(0.5, 1.0) * min(REDIAL_S[1], REDIAL_S[0] * 2.0 ** min(link.attempts, 16))
        self.at(pause, lambda: node.deliver(lambda: self.dial(node, peer, link)))
        node.deliver(lambda: node.feed_swim(Evidence(peer, EvidenceKind(kind))))


@pytest.fixture
def make_cluster() -> Callable[..., Cluster]:
    """Makes clusters of whole cores: `make_cluster(3, seed=1)`."""
    return Cluster


def claim_about(
    subject: str, incarnation: tuple[int, int] = (1, 0), status: Status = Status.ALIVE, by: str = "", reason: str = ""
) -> Claim:
    endpoints = {"coordination": f"tcp://{subject}:1", "gossip": f"tcp://{subject}:2"}
    return Claim(NodeId(subject), incarnation, status, subject, endpoints, {}, NodeId(by or subject), reason)


@pytest.fixture(name="claim_about")
def claim_about_fixture() -> Callable[..., Claim]:
    """Makes claims: `claim_about("n1", (1, 0), Status.DEAD, by="n2")`."""
    return claim_about

"""The routes of one node, values in and effects out; and of whole clusters under random cuts, on a virtual clock."""

import heapq
import itertools
import random

import pytest

from topologies.identity import NodeId
from topologies.relay import (
    Adopt,
    Ask,
    Echo,
    InUse,
    LinksUp,
    Path,
    PeerGone,
    Probe,
    Received,
    RelayRoutes,
    RelaySend,
    RelaySettings,
    RouteChanged,
    Undeliverable,
)
from topologies.swim.interface import Tick

A, B, C, D, E = (NodeId(name) for name in "abcde")
SETTINGS = RelaySettings(factor=3.0, gain_s=0.02, hold_s=2.0)


class Node:
    """Core `a`, and a clock. Round trips over links are those of `rtt`; a peer without one does not answer."""

    def __init__(self, **settings: object) -> None:
        self.core = RelayRoutes(A, RelaySettings(**settings) if settings else SETTINGS, random.Random(1))  # type: ignore[arg-type]
        self.now = 0.0
        self.rtt: dict[NodeId, float] = {}
        self.paths: dict[tuple[NodeId, NodeId], tuple[NodeId, ...] | None] = {}
        self.further: dict[tuple[NodeId, NodeId], float] = {}
        self.changes: list[tuple[NodeId, tuple[NodeId, ...], str]] = []
        self.asked: list[NodeId] = []
        self._under_way: list[tuple[float, int, NodeId, object]] = []
        self._count = itertools.count()

    def feed(self, message: object) -> list[object]:
        effects = self.core.handle(message, self.now)  # type: ignore[arg-type]
        for effect in effects:
            match effect:
                case RouteChanged(target, _, after, why):
                    self.changes.append((target, after, why))
                case RelaySend(peer, Probe(seq)) if peer in self.rtt:
                    self._answer(peer, Echo(seq))
                case RelaySend(peer, Ask(seq, target)):
                    self.asked.append(peer)
                    if peer in self.rtt:
                        path = self.paths.get((peer, target), ())
                        rtt_us = int(self.further.get((peer, target), 0.001) * 1e6)
                        self._answer(peer, Path(seq, target, path is not None, path or (), rtt_us))
        return list(effects)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self.core.next_deadline()
            arrival = self._under_way[0][0] if self._under_way else None
            at = min((time for time in (due, arrival) if time is not None), default=None)
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            if arrival is not None and arrival <= self.now:
                _, _, peer, message = heapq.heappop(self._under_way)
                self.feed(Received(peer, message))  # type: ignore[arg-type]
            else:
                self.feed(Tick())
        self.now = end

    def _answer(self, peer: NodeId, message: object) -> None:
        heapq.heappush(self._under_way, (self.now + self.rtt[peer], next(self._count), peer, message))

    @property
    def routes(self) -> dict[NodeId, tuple[NodeId, ...]]:
        return self.core.routes()


def meshed(**settings: object) -> Node:
    """`a` talks to `c`, and has links to b, c and d: all fast."""
    node = Node(**settings)
    node.rtt = {B: 0.001, C: 0.001, D: 0.002}
    node.feed(LinksUp(frozenset((B, C, D))))
    node.feed(InUse({C: True}))
    return node


def test_nothing_is_measured_while_nobody_is_in_use():
    node = Node()
    node.feed(LinksUp(frozenset((B, C))))
    assert node.core.next_deadline() is None
    node.feed(InUse({C: True}))
    assert node.core.next_deadline() == 0.0
    node.feed(InUse({}))
    node.run(2.0)
    assert node.core.next_deadline() is None
    assert node.core.explain(C) == "direct: not in use"


def test_a_good_direct_way_is_taken_and_nobody_is_asked():
    node = meshed()
    node.run(20.0)
    assert node.routes == {}
    assert node.asked == []
    assert node.core.explain(C) == "direct: nothing speaks against it (direct up 1.0 ms)"


def test_a_link_that_is_down_is_gone_round_at_once_over_the_fastest():
    node = meshed()
    node.run(5.0)
    node.feed(LinksUp(frozenset((B, D))))
    node.run(0.1)
    assert node.changes == [(C, (B,), "our link to it is down")]
    assert node.core.explain(C).startswith("over b: our link to it is down (direct down; b 2.0 ms; d 3.0 ms)")


def test_a_direct_way_that_falls_silent_counts_as_down():
    node = meshed()
    node.run(5.0)
    del node.rtt[C]
    node.run(3.0)
    assert node.routes == {}  # two may be lost
    node.run(3.0)
    assert node.changes == [(C, (B,), "it does not answer directly")]


def test_a_data_connection_that_cannot_be_had_is_gone_round():
    node = meshed()
    node.run(5.0)
    node.feed(InUse({C: False}))
    node.run(0.1)
    assert node.changes == [(C, (B,), "it cannot be connected to directly")]


def test_a_neighbour_that_does_not_reach_it_is_no_relay():
    node = meshed()
    node.paths[B, C] = None
    node.feed(LinksUp(frozenset((B, D))))
    node.run(0.1)
    assert node.routes == {C: (D,)}


def test_without_any_path_the_direct_way_is_tried_on():
    node = meshed()
    node.paths = {(B, C): None, (D, C): None}
    node.feed(LinksUp(frozenset((B, D))))
    node.run(10.0)
    assert node.changes == []
    node.paths = {}
    node.run(1.5)
    assert node.routes == {C: (B,)}


def test_a_direct_way_is_left_when_it_is_much_slower_and_for_a_while():
    node = meshed()
    node.run(5.0)
    node.rtt[C] = 0.4
    node.run(3.0)
    assert node.changes == []  # hold_s
    node.run(5.0)
    assert node.changes == [(C, (B,), "the direct way is much slower")]


@pytest.mark.parametrize(
    ("direct_s", "further_s"),
    [
        (0.015, 0.0001),  # many times slower, and not worth it: gain_s
        (0.4, 0.2),  # much slower, but not by the factor
    ],
)
def test_a_direct_way_that_is_a_little_slower_is_kept(direct_s, further_s):
    node = meshed()
    node.rtt[C] = direct_s
    node.further = {(B, C): further_s, (D, C): further_s}
    node.run(30.0)
    assert node.changes == []


def test_one_slow_moment_changes_nothing():
    node = meshed()
    for _ in range(10):
        node.run(4.0)
        node.rtt[C] = 0.4
        node.run(1.0)
        node.rtt[C] = 0.001
    assert node.changes == []


def test_the_direct_way_is_taken_again_when_it_has_been_good_for_a_while():
    node = meshed()
    node.rtt[C] = 0.4
    node.run(10.0)
    assert node.routes == {C: (B,)}
    node.rtt[C] = 0.001
    node.run(2.0)
    assert node.routes == {C: (B,)}
    node.run(6.0)
    assert node.changes[-1] == (C, (), "the direct way is good again")


def test_a_way_that_comes_and_goes_is_not_followed():
    """Up for less than `hold_s` at a time, it is never taken: no oscillation."""
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(1.0)
    for _ in range(20):
        node.feed(LinksUp(frozenset((B, C, D))))
        node.run(1.5)
        node.feed(LinksUp(frozenset((B, D))))
        node.run(1.5)
    assert [after for _, after, _ in node.changes] == [(B,)]


def test_a_relay_that_is_gone_is_replaced_at_once():
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(3.0)
    node.feed(LinksUp(frozenset((D,))))
    assert node.changes[-1] == (C, (D,), "its relay is gone, or does not reach it")
    node.feed(PeerGone(D))
    assert node.routes == {}


def test_a_relay_that_does_not_pass_on_is_replaced():
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(3.0)
    node.paths[B, C] = None
    node.feed(Undeliverable(C, (B,)))
    assert node.routes == {C: (D,)}
    node.feed(Undeliverable(C, (B,)))  # late
    node.feed(Undeliverable(E, (B,)))  # about nobody in use
    assert node.routes == {C: (D,)}


def test_another_relay_is_taken_when_it_is_much_faster_for_a_while():
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(3.0)
    node.further[B, C] = 0.5
    node.run(1.5)
    assert node.routes == {C: (B,)}
    node.run(4.0)
    assert node.changes[-1] == (C, (D,), "another relay is much faster")


def test_who_reaches_us_over_relays_is_answered_over_them():
    node = meshed()
    node.feed(Adopt(C, (D,)))
    assert node.changes == [(C, (D,), "it reaches us that way")]
    node.feed(Adopt(C, (B,)))  # there is a way already
    assert node.routes == {C: (D,)}
    node.feed(InUse({C: True}))
    node.run(6.0)
    assert node.routes == {}  # the direct way is good


@pytest.mark.parametrize("relays", [(), (A,), (C,), (B, B), (B, D, E, NodeId("f"))])
def test_what_is_no_path_is_not_adopted(relays):
    node = meshed()
    node.feed(Adopt(C, relays))
    assert node.changes == []


def test_who_is_not_talked_to_any_more_has_no_route():
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(1.0)
    node.feed(InUse({}))
    node.run(2.0)
    assert node.changes[-1] == (C, (), "not in use any more")
    assert node.core.stats().in_use == 0


def test_who_is_gone_has_no_route():
    node = meshed()
    node.feed(LinksUp(frozenset((B, D))))
    node.run(1.0)
    node.feed(PeerGone(C))
    assert node.changes[-1] == (C, (), "it is gone")


# -- asked by others


def answers(effects: list[object]) -> list[Path]:
    return [effect.message for effect in effects if isinstance(effect, RelaySend) and isinstance(effect.message, Path)]


def test_a_neighbour_is_told_of_the_direct_way_and_how_long_it_takes():
    node = meshed()
    node.feed(InUse({}))
    ask = Received(B, Ask(9, C, 1))
    (first,) = answers(node.feed(ask))
    assert first == Path(9, C, True)  # not measured yet; being asked is a reason to do it
    node.run(1.5)
    (second,) = answers(node.feed(ask))
    assert second == Path(9, C, True, (), 1000)
    assert node.core.stats().asked == 2
    node.run(7.0)
    assert node.core.stats().in_use == 0  # nobody asks any more


def test_a_neighbour_is_not_told_of_a_way_that_is_down():
    node = meshed()
    node.feed(InUse({}))
    node.feed(LinksUp(frozenset((B, D))))
    assert answers(node.feed(Received(B, Ask(9, C, 1)))) == [Path(9, C, False)]
    node.run(2.0)
    assert node.asked == []  # with ttl 1, nobody else is asked for it


def test_a_path_over_a_further_relay_is_found_on_demand():
    node = meshed()
    node.paths[B, C] = None  # it is the one who asks
    node.feed(InUse({}))
    node.feed(LinksUp(frozenset((B, D))))
    assert answers(node.feed(Received(B, Ask(9, C, 2)))) == [Path(9, C, False)]
    node.run(1.5)
    assert B not in node.asked  # who asks cannot be the way
    assert answers(node.feed(Received(B, Ask(10, C, 2)))) == [Path(10, C, True, (D,), 3000)]
    assert answers(node.feed(Received(D, Ask(11, C, 2)))) == [Path(11, C, False)]  # not over itself
    assert answers(node.feed(Received(B, Ask(12, C, 2, (D,))))) == [Path(12, C, False)]
    assert answers(node.feed(Received(B, Ask(13, C, 1)))) == [Path(13, C, False)]  # too long


@pytest.mark.parametrize("target", [A, B])
def test_questions_about_oneself_find_no_path(target):
    node = meshed()
    assert answers(node.feed(Received(B, Ask(9, target, 3)))) == [Path(9, target, False)]


def test_answers_that_nobody_asked_for_are_ignored_and_counted():
    node = meshed()
    (ask,) = [
        effect.message
        for effect in node.feed(LinksUp(frozenset((B, D))))
        if isinstance(effect, RelaySend) and effect.peer == B and isinstance(effect.message, Ask)
    ]
    for sender, path in (
        (D, Path(ask.seq, C, True)),  # another one was asked
        (B, Path(ask.seq + 99, C, True)),
        (B, Path(ask.seq, E, True)),
        (B, Path(ask.seq, C, True, (A,))),  # over ourselves
        (E, Echo(77)),
    ):
        node.feed(Received(sender, path))
    assert node.routes == {}
    assert node.core.stats().ignored == 5


def test_there_is_a_bound_on_how_many_are_measured():
    node = meshed(targets_max=2)
    node.feed(InUse({NodeId(f"n{number}"): True for number in range(10)}))
    assert node.core.stats().in_use == 2
    assert answers(node.feed(Received(B, Ask(9, E, 2)))) == [Path(9, E, False)]


def test_what_others_ask_for_makes_room_for_whom_we_talk_to():
    node = Node(targets_max=2)
    node.feed(LinksUp(frozenset((B, C, D))))
    node.feed(Received(B, Ask(1, C, 1)))
    node.feed(Received(B, Ask(2, D, 1)))
    node.feed(InUse({E: True}))
    assert node.core.stats().in_use == 2
    assert node.core.explain(E) == "direct: nothing speaks against it (direct down)"
    assert node.core.explain(C) == "direct: not in use"


# -- whole clusters


class World:
    """Five cores on a virtual clock (simulated), and links that are cut and healed by chance."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.names = [A, B, C, D, E]
        self.cores = {name: RelayRoutes(name, SETTINGS, random.Random(f"{seed} {name}")) for name in self.names}
        self.delay = {frozenset(pair): 0.001 for pair in itertools.combinations(self.names, 2)}
        self.cut: set[frozenset[NodeId]] = set()
        self.now = 0.0
        self._queue: list[tuple[float, int, NodeId, object]] = []
        self._count = itertools.count()
        for name in self.names:
            self._later(0.0, name, LinksUp(self.reached(name)))
            self._later(0.0, name, InUse({other: True for other in self.names if other != name}))

    def reached(self, name: NodeId) -> frozenset[NodeId]:
        return frozenset(o for o in self.names if o != name and frozenset((o, name)) not in self.cut)

    def change(self, pair: frozenset[NodeId]) -> None:
        """A link breaks, or comes back, and each end notices by itself: one may be seconds later than the other."""
        self.cut ^= {pair}
        for name in pair:
            self._later(self.rng.uniform(0.0, 3.0), name, None)

    def run(self, until: float) -> None:
        while True:
            ticks = [(at, name) for name in self.names if (at := self.cores[name].next_deadline()) is not None]
            tick = min(ticks, default=(float("inf"), A))
            if min(tick[0], self._queue[0][0] if self._queue else float("inf")) > until:
                break
            if self._queue and self._queue[0][0] <= tick[0]:
                at, _, name, message = heapq.heappop(self._queue)
                self._feed(name, LinksUp(self.reached(name)) if message is None else message, at)
            else:
                self._feed(tick[1], Tick(), tick[0])
        self.now = until

    def _feed(self, name: NodeId, message: object, at: float) -> None:
        self.now = max(self.now, at)
        for effect in self.cores[name].handle(message, self.now):  # type: ignore[arg-type]
            if isinstance(effect, RouteChanged):
                self.check(name, effect.target)
            elif isinstance(effect, RelaySend):
                pair = frozenset((name, effect.peer))
                if pair not in self.cut:
                    self._later(self.delay[pair], effect.peer, Received(name, effect.message))

    def check(self, name: NodeId, target: NodeId) -> None:
        """What holds at every moment: a route names no node twice, nor its ends, and is short."""
        route = self.cores[name].routes().get(target, ())
        assert len({name, target, *route}) == len(route) + 2, f"{name} to {target} over {route}"
        assert len(route) <= SETTINGS.ttl

    def shortest(self, name: NodeId, target: NodeId) -> int | None:
        """How many links the shortest way has."""
        reached, frontier, steps = {name}, {name}, 0
        while frontier:
            if target in frontier:
                return steps
            frontier = {peer for node in frontier for peer in self.reached(node)} - reached
            reached |= frontier
            steps += 1
        return None

    def _later(self, delay: float, name: NodeId, message: object) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._count), name, message))


@pytest.mark.parametrize("seed", range(40))
def test_five_nodes_under_random_cuts_find_their_ways_and_never_a_loop(seed):
    """Simulated. While links come and go no route loops; when they stay, every route leads over links that are up."""
    world = World(seed)
    world.run(5.0)
    for _ in range(12):
        for pair in world.rng.sample(sorted(world.delay, key=sorted), world.rng.randint(1, 4)):
            world.change(pair)
        world.run(world.now + world.rng.uniform(0.1, 6.0))
    world.run(world.now + 25.0)
    for name, target in itertools.permutations(world.names, 2):
        route = world.cores[name].routes().get(target, ())
        direct = target in world.reached(name)
        steps = world.shortest(name, target)
        if direct:
            assert route == (), f"{name} to {target}: {world.cores[name].explain(target)}"
        elif steps is not None and steps <= SETTINGS.ttl + 1:
            assert route, f"{name} to {target}: {world.cores[name].explain(target)}"
            hops = [name, *route, target]
            assert all(after in world.reached(before) for before, after in itertools.pairwise(hops))

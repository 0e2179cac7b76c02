"""Who should vote: rules one by one, then real cores that lose one member after another."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from consensus.autopilot import Autopilot, AutopilotSettings, Candidate, Plan
from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import Configuration, PeerStatus, ProgressState, RaftStatus, Role
from tests.unit.consensus.raft.driver import Cluster

SETTINGS = AutopilotSettings(dead_after_s=5.0, stable_s=10.0)
ME = NodeId("a")


def names(nodes: Iterable[str]) -> tuple[NodeId, ...]:
    return tuple(NodeId(node) for node in nodes)


def voters_of(plan: Plan) -> str:
    return "".join(sorted(plan.voters))


def learners_of(plan: Plan) -> str:
    return "".join(sorted(plan.learners))


class Scene:
    """A leader's view, and time.

    Attributes:
        silent: Members that it has not heard for long.
        behind: How far the logs of some lag.
    """

    def __init__(self, voters: str, learners: str = "", outside: str = "", **settings: Any) -> None:
        self.autopilot = Autopilot(dataclasses.replace(SETTINGS, **settings))
        self.configuration = Configuration(names(voters), names(learners))
        self.candidates = {NodeId(node): Candidate(alive=True) for node in voters + learners + outside}
        self.silent: set[str] = set()
        self.behind: dict[str, int] = {}
        self.now = 100.0
        self.term = 3
        self.role = Role.LEADER

    @property
    def status(self) -> RaftStatus:
        return RaftStatus(
            self.role, Term(self.term), ME, None, self.configuration, *(LogIndex(1000),) * 6, self._peers(), (), 0, 0
        )

    def _peers(self) -> Mapping[NodeId, PeerStatus]:
        return {
            node: PeerStatus(
                ProgressState.REPLICATE,
                LogIndex(1000 - self.behind.get(node, 0)),
                LogIndex(1001),
                0,
                99.0 if node in self.silent else 0.01,
            )
            for node in self.configuration.members - {ME}
        }

    def kill(self, node: str) -> None:
        self.candidates[NodeId(node)] = Candidate(alive=False)
        self.silent.add(node)

    def leave(self, node: str) -> None:
        del self.candidates[NodeId(node)]
        self.silent.add(node)

    def decide(self) -> Plan | None:
        return self.autopilot.decide(self.status, self.candidates, self.now)

    def after(self, seconds: float) -> Plan | None:
        """Asked every second."""
        plan = self.decide()
        end = self.now + seconds
        while plan is None and self.now < end:
            self.now += 1.0
            plan = self.decide()
        return plan


def test_all_is_well():
    assert Scene("abcde", "fg").after(60) is None


def test_a_dead_voter_is_swapped_for_a_spare_in_one_change():
    scene = Scene("abcde", "fg")
    assert scene.after(11) is None
    scene.kill("c")
    assert scene.after(4) is None, "it may come back"
    plan = scene.after(2)
    assert plan is not None
    assert (voters_of(plan), learners_of(plan)) == ("abdef", "g")
    assert plan.reason == "dead voters go: c, for them f"


def test_who_comes_back_in_time_stays():
    scene = Scene("abcde", "fg")
    scene.after(11)
    scene.kill("c")
    scene.after(4)
    scene.candidates[NodeId("c")] = Candidate(alive=True)
    scene.silent.clear()
    assert scene.after(4) is None
    scene.kill("c")
    assert scene.after(4) is None, "the count begins anew"


def test_who_has_left_goes_at_once():
    scene = Scene("abcde", "fg")
    scene.after(11)
    scene.leave("c")
    plan = scene.decide()
    assert plan is not None
    assert voters_of(plan) == "abdef"


@pytest.mark.parametrize("trouble", ["young", "behind", "silent"])
def test_a_spare_that_is_not_ready_does_not_vote(trouble: str):
    scene = Scene("abc", "f", voters_target=3, learners_target=1)
    if trouble == "behind":
        scene.behind["f"] = 251
    if trouble == "silent":
        scene.silent.add("f")
    scene.after(3 if trouble == "young" else 30)
    scene.leave("c")
    assert scene.decide() is None, "and three are the fewest that may vote"


def test_without_a_spare_the_dead_go_until_the_fewest_are_left():
    scene = Scene("abcde", voters_target=5, learners_target=0)
    scene.after(1)
    scene.kill("d")
    scene.kill("e")
    plan = scene.after(6)
    assert plan is not None
    assert (voters_of(plan), plan.reason) == ("abc", "dead voters go: d, e, and no spare is ready")
    scene.configuration = Configuration(names("abc"))
    scene.kill("c")
    assert scene.after(60) is None


def test_at_most_a_minority_at_a_time_and_never_the_majority():
    scene = Scene("abcde", "fgh", voters_min=1)
    scene.after(11)
    for node in "cde":
        scene.kill(node)
    assert scene.after(60) is None, "three of five are gone: nothing can be committed, and nothing is tried"
    scene = Scene("abcdefg", "", voters_target=7, learners_target=0, voters_min=1)
    scene.after(11)
    for node in "efg":
        scene.leave(node)
    plan = scene.decide()
    assert plan is not None
    assert voters_of(plan) == "abcd"


def test_dead_spares_go_first():
    scene = Scene("abcde", "fg")
    scene.after(11)
    scene.kill("f")
    scene.kill("c")
    plan = scene.after(6)
    assert plan is not None
    assert (voters_of(plan), learners_of(plan), plan.reason) == ("abcde", "g", "dead spares go: f")


def test_too_few_voters_and_too_few_spares():
    scene = Scene("abc", "fg", "xyz")
    plan = scene.after(5)
    assert plan is not None
    assert (voters_of(plan), learners_of(plan)) == ("abc", "fgxy"), "two more spares make seven in all"
    scene.configuration = Configuration(names("abc"), names("fgxy"))
    plan = scene.after(11)
    assert plan is not None
    assert (voters_of(plan), learners_of(plan)) == ("abcfg", "xy")


def test_spares_come_from_the_zones_with_the_fewest_voters():
    scene = Scene("abc", "", "pqrs", voters_target=3, learners_target=2)
    for node, zone in zip("abcpqrs", ("east", "east", "west", "east", "west", "north", "west"), strict=True):
        scene.candidates[NodeId(node)] = Candidate(alive=True, zone=zone)
    plan = scene.after(1)
    assert plan is not None
    assert learners_of(plan) == "qr"


def test_nothing_while_a_change_is_under_way_or_by_who_does_not_lead():
    scene = Scene("abc", "", "xyz")
    scene.configuration = Configuration(names("abc"), (), names("abd"))
    assert scene.after(60) is None
    scene = Scene("abc", "", "xyz")
    scene.role = Role.FOLLOWER
    assert scene.after(60) is None


def test_a_new_leader_sees_for_itself():
    scene = Scene("abcde", "fg")
    scene.after(11)
    scene.kill("c")
    scene.after(4)
    scene.term = 4
    assert scene.after(4) is None
    assert scene.autopilot.dead_for(NodeId("c"), scene.now) == 4.0
    assert scene.autopilot.well_for(NodeId("b"), scene.now) == 4.0
    assert scene.autopilot.well_for(NodeId("c"), scene.now) == -1.0
    assert scene.autopilot.dead_for(NodeId("b"), scene.now) == -1.0


@pytest.mark.parametrize(
    "settings", [{"voters_min": 0}, {"voters_min": 6}, {"stable_s": -1.0}, {"dead_after_s": float("nan")}]
)
def test_settings_that_make_no_sense(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=r"it must be|expected"):
        AutopilotSettings(**settings)


# -- with real cores


def pilot(cluster: Cluster, pilots: dict[NodeId, Autopilot], dead: set[NodeId]) -> None:
    """One second of it, on whoever leads."""
    candidates = {node: Candidate(alive=node not in dead) for node in cluster.nodes}
    for name, node in cluster.nodes.items():
        if node.is_up:
            plan = pilots[name].decide(node.raft.status(), candidates, cluster.now)
            if plan is not None:
                cluster.change(name, plan.voters, plan.learners)
                cluster.settle()


def leader_of(cluster: Cluster) -> str:
    return next(name for name, node in cluster.nodes.items() if node.is_up and node.role is Role.LEADER)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("with_autopilot", [True, False])
def test_nine_voters_lose_one_after_another_until_five_are_dead(seed: int, with_autopilot: bool):
    cluster = Cluster("abcdefghi", seed)
    settings = AutopilotSettings(voters_target=9, learners_target=0, dead_after_s=2.0)
    pilots = {node: Autopilot(settings) for node in cluster.nodes}
    dead: set[NodeId] = set()
    writable = True
    cluster.elapse(2.0)
    for round_ in range(5):
        victim = cluster.chance.choice(sorted(node for node in cluster.nodes if node not in dead))
        if round_ == 2:
            victim = NodeId(leader_of(cluster))
        cluster.nodes[victim].is_up = False
        dead.add(victim)
        for _ in range(6):
            cluster.elapse(1.0)
            if with_autopilot:
                pilot(cluster, pilots, dead)
        leaders = [name for name, node in cluster.nodes.items() if node.is_up and node.role is Role.LEADER]
        request = cluster.propose(leaders[0]) if leaders else 0
        cluster.settle()
        writable = request in cluster.acknowledged
        assert writable or (not with_autopilot and round_ == 4)
    assert writable is with_autopilot, "without it five of nine dead are the end"
    if with_autopilot:
        voters = cluster.nodes[NodeId(leader_of(cluster))].raft.status().configuration.voters
        assert set(voters) == set(cluster.nodes) - dead

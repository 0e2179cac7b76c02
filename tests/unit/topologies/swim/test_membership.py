import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.identity import NodeId
from topologies.swim.interface import MemberChanged
from topologies.swim.membership import _OVERRIDES, Membership, outranks
from topologies.swim.messages import COUNTER_MAX, GENERATION_MAX, Claim, Status
from topologies.swim.settings import SwimSettings

RANK = {Status.ALIVE: 0, Status.SUSPECT: 1, Status.DEAD: 2, Status.LEFT: 3}
ME = Claim(NodeId("me"), (1, 0), Status.ALIVE)

claims = st.builds(
    lambda subject, generation, counter, status, by: Claim(
        NodeId(subject), (generation, counter), status, endpoints={"gossip": f"{subject}@{generation}"}, by=NodeId(by)
    ),
    st.sampled_from(["n1", "n2"]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from(Status),
    st.sampled_from(["a", "b"]),
)


def make(**settings):
    return Membership(ME, SwimSettings(forget_dead_s=100.0, **settings))


def believed(membership):
    """What it believes, without who said so."""
    return {claim.subject: (claim.incarnation, claim.status, claim.endpoints) for claim in membership.claims(0.0)[1:]}


def test_the_table_is_whole():
    assert set(_OVERRIDES) == set(itertools.product(Status, Status))


@given(claims, claims)
def test_the_table_is_the_order_by_incarnation_then_badness(heard, held):
    slow_twin = (heard.incarnation, RANK[heard.status]) > (held.incarnation, RANK[held.status])
    assert outranks(heard, held) == slow_twin


@given(st.lists(claims, max_size=8).flatmap(lambda them: st.tuples(st.just(them), st.permutations(them))))
def test_any_order_of_claims_gives_the_same_winner(orders):
    one, other = make(), make()
    for membership, heard in zip((one, other), orders, strict=True):
        for claim in heard:
            membership.on_claim(claim, 0.0)
    assert believed(one) == believed(other)


@given(st.lists(claims, max_size=8))
def test_hearing_everything_again_changes_nothing(heard):
    membership = make()
    for claim in heard:
        membership.on_claim(claim, 0.0)
    assert [membership.on_claim(claim, 0.0) for claim in heard] == [[]] * len(heard)


@given(st.lists(claims, max_size=12))
def test_the_living_and_the_graves_are_the_table(heard):
    membership = make()
    for claim in heard:
        for change in membership.on_claim(claim, 0.0):
            assert change.before is None or outranks(change.after, change.before)
    held = membership.claims(0.0)[1:]
    live = [claim.subject for claim in held if claim.status in (Status.ALIVE, Status.SUSPECT)]
    assert sorted(membership.live()) == sorted(live)
    assert membership.live_count + membership.grave_count == len(held)


def test_paper_an_accuser_cannot_refute_for_the_accused(claim_about):
    membership = make()
    membership.on_claim(claim_about("n1", (1, 5), Status.SUSPECT), 0.0)
    assert membership.on_claim(claim_about("n1", (1, 5)), 0.0) == []
    assert len(membership.on_claim(claim_about("n1", (1, 6)), 0.0)) == 1


def test_dead_yields_to_a_newer_life_but_left_only_to_a_newer_one_too(claim_about):
    membership = make()
    membership.on_claim(claim_about("n1", (1, 5), Status.DEAD), 0.0)
    membership.on_claim(claim_about("n1", (1, 5), Status.LEFT), 0.0)
    for status in Status:
        assert membership.on_claim(claim_about("n1", (1, 5), status), 0.0) == []
    (change,) = membership.on_claim(claim_about("n1", (2, 0)), 0.0)
    assert change.before.status is Status.LEFT


def test_an_accuser_cannot_move_a_member_to_another_address(claim_about):
    membership = make()
    membership.on_claim(claim_about("n1"), 0.0)
    lie = Claim(NodeId("n1"), (1, 0), Status.SUSPECT, "liar", {"gossip": "tcp://evil:1"}, {}, NodeId("x"), "because")
    (change,) = membership.on_claim(lie, 0.0)
    expected = claim_about("n1", status=Status.SUSPECT, by="x", reason="because")
    assert change == MemberChanged(NodeId("n1"), claim_about("n1"), expected, 0.0)


def test_a_newer_life_brings_its_own_address(claim_about):
    membership = make()
    membership.on_claim(claim_about("n1"), 0.0)
    moved = msgspec.structs.replace(claim_about("n1", (2, 0)), endpoints={"gossip": "tcp://new:1"})
    membership.on_claim(moved, 0.0)
    assert membership.get(NodeId("n1")) == moved


def test_graves_are_forgotten_in_time_unless_reopened(claim_about):
    membership = make()
    for name in ("n1", "n2"):
        membership.on_claim(claim_about(name, status=Status.DEAD), 10.0)
    membership.on_claim(claim_about("n2", (1, 1)), 20.0)
    assert membership.next_deadline() == 110.0
    assert membership.forget_due(109.9) == []
    dead = claim_about("n1", status=Status.DEAD)
    assert membership.forget_due(110.0) == [MemberChanged(NodeId("n1"), dead, None, 110.0)]
    assert membership.next_deadline() is None
    assert membership.live() == ["n2"]


def test_graves_travel_with_their_age_so_that_they_end_everywhere(claim_about):
    first, second = make(), make()
    first.on_claim(claim_about("n1", status=Status.DEAD), 0.0)
    (_, told) = first.claims(40.0)
    assert told.age_s == pytest.approx(40.0)
    second.on_claim(told, 1000.0)
    assert second.next_deadline() == pytest.approx(1060.0)


def test_an_old_grave_is_not_worth_learning(claim_about):
    old = msgspec.structs.replace(claim_about("n1", status=Status.LEFT), age_s=51.0)
    assert make().on_claim(old, 0.0) == []


def test_a_full_table_gives_up_its_oldest_grave_for_a_living_member(claim_about):
    membership = make(members_max=3)
    membership.on_claim(claim_about("n1", status=Status.DEAD), 0.0)
    membership.on_claim(claim_about("n2", status=Status.DEAD), 1.0)
    assert membership.on_claim(claim_about("n3", status=Status.DEAD), 2.0) == []
    changes = membership.on_claim(claim_about("n4"), 2.0)
    assert [(change.subject, change.after is None) for change in changes] == [("n1", True), ("n4", False)]
    membership.on_claim(claim_about("n5"), 2.0)
    assert membership.on_claim(claim_about("n6"), 2.0) == []
    assert membership.refused_count == 2
    assert sorted(membership.live()) == ["n4", "n5"]


@pytest.mark.parametrize(
    ("heard", "ours"),
    [
        ((1, 0), (1, 1)),
        ((1, 7), (1, 8)),
        ((0, 9), (1, 1)),
        ((5, 2), (5, 3)),
        ((5, COUNTER_MAX), (6, 0)),
    ],
)
def test_refuting_rises_above_what_was_heard(heard, ours):
    membership = make()
    assert membership.rise_above(heard)
    assert membership.me.incarnation == ours


def test_there_is_a_highest_incarnation():
    membership = make()
    assert not membership.rise_above((GENERATION_MAX, COUNTER_MAX))
    assert membership.me == ME

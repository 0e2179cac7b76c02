import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import RemoteProtocolError
from consensus.identity import NodeId
from consensus.raft.configuration import (
    MEMBERS_MAX,
    Configuration,
    decode,
    encode,
    enter,
    flaw,
    leave,
    with_learners,
)

NODES = [NodeId(it) for it in "abcdef"]
A, B, C, D, E, F = NODES
sets = st.frozensets(st.sampled_from(NODES))


def test_learners_change_at_once():
    assert enter(Configuration((A, B)), {A, B}, {C}) == Configuration((A, B), (C,))


def test_voters_change_through_a_joint_configuration():
    joint = enter(Configuration((A, B, C)), {B, C, D}, {E})
    assert joint == Configuration((B, C, D), (E,), (A, B, C))
    assert joint.is_joint
    assert joint.halves == ((B, C, D), (A, B, C))
    assert leave(joint) == Configuration((B, C, D), (E,))


def test_a_demoted_voter_learns_only_after_the_joint_configuration():
    joint = enter(Configuration((A, B, C)), {A, B}, {C})
    assert joint == Configuration((A, B), (), (A, B, C), (C,))
    assert joint.is_voter(C)
    assert leave(joint) == Configuration((A, B), (C,))


def test_newcomers_learn_beside_who_learns_already():
    assert with_learners(Configuration((A,), (C,)), {B}) == Configuration((A,), (B, C))


@given(sets.filter(bool), sets, sets.filter(bool), sets)
def test_every_road_leads_to_what_was_wanted(voters, learners, wanted, aside):
    current = Configuration(tuple(sorted(voters)), tuple(sorted(learners - voters)))
    step = enter(current, wanted, aside - wanted)
    assert flaw(step) is None
    assert decode(encode(step)) == step
    assert step.members >= wanted | (aside - wanted) | (voters if step.is_joint else frozenset())
    end = leave(step) if step.is_joint else step
    assert end == Configuration(tuple(sorted(wanted)), tuple(sorted(aside - wanted)))


@pytest.mark.parametrize(
    ("absurd", "why"),
    [
        (Configuration((), (), (A,)), "voters to come"),
        (Configuration((), (A,)), "learn from"),
        (Configuration((A,), (A,)), "both vote and learn"),
        (Configuration((A,), (B,), (B,)), "both vote and learn"),
        (Configuration((A,), (), (B,), (C,)), "no outgoing"),
        (Configuration((A,), (), (A, B), (A,)), "no outgoing"),
        (Configuration((NodeId(""),)), "empty"),
        (Configuration(tuple(NodeId(f"n{i}") for i in range(MEMBERS_MAX + 1))), "more than"),
    ],
)
def test_absurd_configurations_are_refused(absurd: Configuration, why: str):
    assert why in (flaw(absurd) or "")
    with pytest.raises(RemoteProtocolError, match=why):
        decode(encode(absurd))


def test_what_is_no_configuration_is_refused_with_the_cause():
    with pytest.raises(RemoteProtocolError, match="expected"):
        decode(b"\xc1")


def test_fields_of_a_later_version_are_ignored():
    assert decode(msgspec.msgpack.encode([["a"], [], [], [], "new"])) == Configuration((A,))

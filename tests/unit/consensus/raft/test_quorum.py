"""Against the slow, obvious twin: try every subset."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.identity import NodeId
from consensus.raft.configuration import Configuration
from consensus.raft.quorum import VoteResult, agreed, vote_result

NODES = [NodeId(it) for it in "abcdefg"]
halves = st.lists(st.sampled_from(NODES), unique=True, min_size=1).map(tuple)
outgoing = st.one_of(st.just(()), halves)


def is_quorum(configuration: Configuration, nodes: set[NodeId]) -> bool:
    return all(2 * len(nodes & set(half)) > len(half) for half in configuration.halves)


def subsets(nodes: list[NodeId]) -> list[set[NodeId]]:
    return [set(it) for n in range(len(nodes) + 1) for it in itertools.combinations(nodes, n)]


@given(halves, outgoing, st.lists(st.integers(0, 9), min_size=7, max_size=7))
def test_agreed_is_the_greatest_value_of_any_quorum(voters, leaving, values):
    configuration = Configuration(voters, (), leaving)
    value = dict(zip(NODES, values, strict=True))
    slow = max(min(value[it] for it in quorum) for quorum in subsets(NODES) if is_quorum(configuration, quorum))
    assert agreed(configuration, value.__getitem__) == slow


@given(halves, outgoing, st.dictionaries(st.sampled_from(NODES), st.booleans()))
def test_votes_are_won_when_they_are_a_quorum_and_lost_when_they_cannot_become_one(voters, leaving, votes):
    configuration = Configuration(voters, (), leaving)
    granted = {node for node, vote in votes.items() if vote}
    open_ = set(NODES) - votes.keys()
    expected = (
        VoteResult.WON
        if is_quorum(configuration, granted)
        else VoteResult.PENDING
        if is_quorum(configuration, granted | open_)
        else VoteResult.LOST
    )
    assert vote_result(configuration, votes) is expected


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_any_two_quorums_meet(size: int):
    configuration = Configuration(tuple(NODES[:size]))
    quorums = [it for it in subsets(NODES[:size]) if is_quorum(configuration, it)]
    assert all(one & other for one in quorums for other in quorums)


def test_a_joint_quorum_meets_those_of_both_sides():
    old, new = Configuration(tuple(NODES[:3])), Configuration(tuple(NODES[2:7]))
    joint = Configuration(new.voters, (), old.voters)
    for quorum in subsets(NODES):
        if is_quorum(joint, quorum):
            assert is_quorum(old, quorum)
            assert is_quorum(new, quorum)

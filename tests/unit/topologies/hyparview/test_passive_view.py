import random

import pytest

from topologies.hyparview.messages import Peer
from topologies.hyparview.passive_view import PassiveView
from topologies.identity import NodeId


def peer(name, generation=1):
    return Peer(NodeId(name), (generation, 0))


@pytest.fixture
def view():
    view = PassiveView(3, random.Random(1))
    for name in ("a", "b", "c"):
        view.add(peer(name))
    return view


def test_past_the_bound_somebody_is_forgotten_for_each_new_peer(view):
    view.add(peer("d"))
    assert len(view) == 3
    assert "d" in view


def test_who_was_sent_to_the_other_side_goes_first(view):
    view.add(peer("d"), rather_forget=(NodeId("x"), NodeId("b")))
    assert sorted(view) == ["a", "c", "d"]


def test_of_one_peer_the_later_life_is_kept(view):
    view.add(peer("a", 2))
    view.add(peer("a", 1))
    assert len(view) == 3
    assert view.discard(NodeId("a")) == peer("a", 2)
    assert view.discard(NodeId("a")) is None


def test_a_sample_is_of_different_peers_and_never_longer_than_the_view(view):
    assert len({it.node for it in view.sample(2)}) == 2
    assert len(view.sample(9)) == 3


def test_a_choice_leaves_out_whom_it_is_told_to(view):
    assert view.choose(but=("a", "c")) == peer("b")
    assert view.choose(but=("a", "b", "c")) is None


def test_each_is_forgotten_with_about_the_same_probability():
    rng = random.Random(1)
    gone = dict.fromkeys("abcd", 0)
    for _ in range(4000):
        view = PassiveView(4, rng)
        for name in "abcde":
            view.add(peer(name))
        (missing,) = set("abcd") - set(view)
        gone[missing] += 1
    assert min(gone.values()) > 850

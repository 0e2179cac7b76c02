import random
from collections import Counter

from topologies.hyparview.messages import Peer
from topologies.hyparview.roster import Roster
from topologies.identity import NodeId


def peer(name, incarnation=(1, 0)):
    return Peer(NodeId(name), incarnation)


def test_only_the_life_that_is_over_is_gone():
    roster = Roster(4, 4, random.Random(1))
    roster.bury(NodeId("a"), (1, 5))
    assert roster.is_gone(peer("a"))
    assert roster.is_gone(peer("a", (1, 5)))
    assert not roster.is_gone(peer("a", (1, 6)))
    assert not roster.is_gone(peer("b"))
    roster.welcome(peer("a", (1, 6)))
    assert not roster.is_gone(peer("a"))


def test_who_is_forgotten_may_be_spoken_of_again():
    roster = Roster(4, 4, random.Random(1))
    roster.bury(NodeId("a"), (1, 0))
    roster.bury(NodeId("a"), None)
    assert not roster.is_gone(peer("a"))


def test_the_gone_are_bounded_and_the_oldest_is_forgotten():
    roster = Roster(4, 3, random.Random(1))
    for name in "abcd":
        roster.bury(NodeId(name), (1, 0))
    assert [roster.is_gone(peer(name)) for name in "abcd"] == [False, True, True, True]


def test_contacts_are_a_uniform_sample_of_the_living():
    rng = random.Random(1)
    chosen: Counter[NodeId] = Counter()
    for _ in range(2000):
        roster = Roster(4, 4, rng)
        for index in range(16):
            roster.welcome(peer(f"n{index}"))
        assert len(roster.contacts()) == 4
        chosen.update(it.node for it in roster.contacts())
    assert len(chosen) == 16
    assert min(chosen.values()) > 400  # of 500 expected


def test_a_contact_is_no_longer_one_when_it_is_gone_and_is_known_where_it_is_now():
    roster = Roster(4, 4, random.Random(1))
    roster.welcome(peer("a"))
    roster.welcome(peer("b"))
    roster.welcome(peer("b", (2, 0)))
    roster.bury(NodeId("a"), (1, 0))
    assert roster.contacts() == [peer("b", (2, 0))]
    assert roster.contacts(but=[NodeId("b")]) == []

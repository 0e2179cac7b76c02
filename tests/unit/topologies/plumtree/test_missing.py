import math

from topologies.identity import NodeId
from topologies.plumtree.messages import SHARED, Announcement, MessageId
from topologies.plumtree.missing import Missing

A, B, C = (NodeId(name) for name in "abc")


def announcement(number, round=1):
    return Announcement(MessageId(NodeId("r"), 1, number), round, SHARED)


def test_announcers_are_asked_one_after_another_in_the_order_in_which_they_came():
    missing = Missing(10)
    for peer in (A, B):
        assert missing.announced(peer, announcement(1), due=5.0)
    assert missing.next_deadline() == 5.0
    assert missing.next_to_ask(4.9, 1.0) is None
    assert missing.next_to_ask(5.0, 1.0) == (announcement(1).id, A, announcement(1))
    assert missing.next_to_ask(5.0, 1.0) is None
    assert missing.next_deadline() == 6.0
    assert missing.given_up(6.0) is None
    assert missing.next_to_ask(6.0, 1.0) == (announcement(1).id, B, announcement(1))
    assert missing.given_up(7.0) == (announcement(1).id, (A, B))
    assert missing.given_up(7.0) is None
    assert len(missing) == 0
    assert missing.next_deadline() == math.inf


def test_what_arrived_is_asked_of_nobody_and_who_announced_it_is_told():
    missing = Missing(10)
    missing.announced(A, announcement(1, round=4), due=5.0)
    assert missing.arrived(announcement(1).id) == {A: announcement(1, round=4)}
    assert missing.arrived(announcement(1).id) == {}
    assert missing.next_deadline() == math.inf


def test_who_is_gone_is_not_asked():
    missing = Missing(10)
    for peer in (A, B):
        missing.announced(peer, announcement(1), due=5.0)
    missing.forget(A)
    assert missing.next_to_ask(5.0, 1.0) == (announcement(1).id, B, announcement(1))
    missing.announced(C, announcement(2), due=5.0)
    missing.forget(C)
    assert missing.given_up(5.0) == (announcement(2).id, ())


def test_past_the_bound_no_other_message_is_waited_for():
    missing = Missing(2)
    assert missing.announced(A, announcement(1), due=5.0)
    assert missing.announced(A, announcement(2), due=5.0)
    assert not missing.announced(A, announcement(3), due=5.0)
    assert missing.announced(B, announcement(2), due=5.0)
    assert len(missing) == 2


def test_a_message_that_is_announced_again_after_it_arrived_has_one_timer():
    missing = Missing(10)
    missing.announced(A, announcement(1), due=5.0)
    missing.arrived(announcement(1).id)
    missing.announced(A, announcement(1), due=6.0)
    assert missing.next_deadline() == 6.0
    assert announcement(1).id in missing

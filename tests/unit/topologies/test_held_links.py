from topologies.held_links import HeldLinks
from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect

N1 = NodeId("n1")
HERE, THERE = {"gossip": "tcp://h:1"}, {"gossip": "tcp://h:2"}


def test_a_link_is_asked_for_once_and_given_up_once():
    links = HeldLinks()
    assert links.hold(N1, HERE) == [Connect(N1, HERE)]
    assert links.hold(N1, HERE) == []
    assert len(links) == 1
    assert links.release(N1, "enough") == [Disconnect(N1, "enough")]
    assert links.release(N1, "enough") == []


def test_who_moved_is_dialled_at_the_new_address_and_is_not_up_yet():
    links = HeldLinks()
    links.hold(N1, HERE)
    links.mark(N1, is_up=True)
    assert links.is_up(N1)
    assert links.hold(N1, THERE) == [Disconnect(N1, "it moved"), Connect(N1, THERE)]
    assert not links.is_up(N1)
    assert links.endpoints(N1) == THERE


def test_of_strangers_nothing_is_known():
    links = HeldLinks()
    links.mark(N1, is_up=True)
    assert N1 not in links
    assert not links.is_up(N1)
    assert links.endpoints(N1) == {}

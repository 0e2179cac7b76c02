import msgspec
import pytest

from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect, LinkDown, Pinned
from topologies.static import Static
from topologies.swim import MemberChanged, Status, Tick

PAIRS = [("n0", "n1"), ("n2", "n0"), ("n1", "n2"), ("n3", "n4"), ("n0", "n0")]


def changed(before, after):
    return MemberChanged((after or before).subject, before, after, 0.0)


@pytest.fixture
def overlay(claim_about):
    overlay = Static(NodeId("n0"), "n0", PAIRS)
    for name in ("n1", "n2", "n3"):
        overlay.handle(changed(None, claim_about(name)), 0.0)
    return overlay


def test_neighbours_are_those_with_whom_we_stand_in_a_pair(overlay):
    assert overlay.neighbours() == {"n1", "n2"}


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_who_is_gone_loses_its_link_and_gets_it_back_with_a_new_life(overlay, claim_about, status):
    gone, back = claim_about("n1", status=status, reason="silent"), claim_about("n1", (2, 0))
    said = f"{status.value}: silent"
    assert overlay.handle(changed(claim_about("n1"), gone), 0.0) == [Disconnect(NodeId("n1"), said)]
    assert overlay.handle(changed(gone, back), 0.0) == [Connect(NodeId("n1"), back.endpoints)]


def test_a_suspect_and_a_lost_link_change_nothing(overlay, claim_about):
    suspect = claim_about("n1", status=Status.SUSPECT)
    assert overlay.handle(changed(claim_about("n1"), suspect), 0.0) == []
    assert overlay.handle(LinkDown(NodeId("n1"), "closed"), 0.0) == []
    assert overlay.handle(Tick(), 0.0) == []
    assert overlay.next_deadline() is None


def test_who_moved_is_dialled_at_the_new_address(overlay, claim_about):
    moved = msgspec.structs.replace(claim_about("n1", (2, 0)), endpoints={"gossip": "tcp://elsewhere:1"})
    effects = overlay.handle(changed(claim_about("n1"), moved), 0.0)
    assert effects == [Disconnect(moved.subject, "it moved"), Connect(moved.subject, moved.endpoints)]


def test_a_pinned_peer_has_a_link_whether_it_is_in_a_pair_or_not(overlay, claim_about):
    n1, n3 = claim_about("n1"), claim_about("n3")
    assert overlay.handle(Pinned({n1.subject: n1.endpoints, n3.subject: n3.endpoints}), 0.0) == [
        Connect(n3.subject, n3.endpoints)
    ]
    assert overlay.neighbours() == {"n1", "n2", "n3"}
    assert overlay.handle(Pinned({}), 0.0) == [Disconnect(n3.subject, "no longer pinned")]
    assert overlay.neighbours() == {"n1", "n2"}


def test_a_member_that_is_forgotten_is_no_neighbour(overlay, claim_about):
    assert overlay.handle(changed(claim_about("n1"), None), 0.0) == [Disconnect(NodeId("n1"), "forgotten")]

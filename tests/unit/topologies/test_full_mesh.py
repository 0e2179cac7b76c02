import msgspec
import pytest

from topologies.full_mesh import FullMesh
from topologies.overlay import Connect, Disconnect
from topologies.swim import MemberChanged, Status


def changed(before, after):
    return MemberChanged((after or before).subject, before, after, 0.0)


@pytest.fixture
def mesh(claim_about):
    mesh = FullMesh()
    mesh.handle(changed(None, claim_about("n1")), 0.0)
    return mesh


def test_every_living_member_is_a_neighbour(mesh, claim_about):
    mesh.handle(changed(None, claim_about("n2", status=Status.SUSPECT)), 0.0)
    assert mesh.neighbours() == {"n1", "n2"}


def test_a_suspect_keeps_its_link(mesh, claim_about):
    assert mesh.handle(changed(claim_about("n1"), claim_about("n1", status=Status.SUSPECT)), 0.0) == []


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_who_is_gone_loses_its_link_and_gets_it_back_with_a_new_life(mesh, claim_about, status):
    gone, back = claim_about("n1", status=status), claim_about("n1", (2, 0))
    assert [type(effect) for effect in mesh.handle(changed(claim_about("n1"), gone), 0.0)] == [Disconnect]
    assert mesh.handle(changed(gone, back), 0.0) == [Connect(back.subject, back.endpoints)]


def test_who_moved_is_dialled_at_the_new_address(mesh, claim_about):
    moved = msgspec.structs.replace(claim_about("n1", (2, 0)), endpoints={"gossip": "tcp://elsewhere:1"})
    assert mesh.handle(changed(claim_about("n1"), moved), 0.0) == [
        Disconnect(moved.subject, "it moved"),
        Connect(moved.subject, {"gossip": "tcp://elsewhere:1"}),
    ]


def test_a_dead_one_that_we_never_knew_is_nobody(claim_about):
    assert FullMesh().handle(changed(None, claim_about("n9", status=Status.DEAD)), 0.0) == []


def test_a_forgotten_one_without_a_link_is_nobody(claim_about):
    assert FullMesh().handle(changed(claim_about("n9", status=Status.DEAD), None), 0.0) == []


def test_nothing_is_waited_for(mesh):
    assert mesh.next_deadline() is None

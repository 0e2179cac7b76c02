from topologies.full_mesh import FullMesh
from topologies.overlay import Connect, Disconnect, Overlay
from topologies.swim import MemberChanged, Status, Tick


def test_the_full_mesh_is_an_overlay(claim_about):
    overlay: Overlay = FullMesh()
    n1 = claim_about("n1")
    assert overlay.handle(Tick(), 0.0) == []
    assert overlay.handle(MemberChanged(n1.subject, None, n1, 0.0), 0.0) == [Connect(n1.subject, n1.endpoints)]
    dead = claim_about("n1", status=Status.DEAD, reason="no answer")
    assert overlay.handle(MemberChanged(n1.subject, n1, dead, 0.0), 0.0) == [Disconnect(n1.subject, "dead: no answer")]
    assert overlay.neighbours() == frozenset()

from topologies.identity import NodeId
from topologies.swim.messages import Status
from topologies.swim.statements import Statement, Statements

A, B, C = (NodeId(name) for name in "abc")


def test_the_last_few_are_kept_oldest_first(claim_about):
    statements = Statements(2)
    for number in range(3):
        statements.add(claim_about("a", (1, number)), A, float(number))
    assert [it.incarnation for it in statements.about(A)] == [(1, 1), (1, 2)]


def test_who_said_what_why_and_through_whom(claim_about):
    statements = Statements(8)
    statements.add(claim_about("a", status=Status.SUSPECT, by="b", reason="silent"), C, 5.0, confirms=True)
    assert statements.about(A) == (Statement(5.0, Status.SUSPECT, (1, 0), B, "silent", C, confirms=True),)
    statements.forget(A)
    assert statements.about(A) == ()

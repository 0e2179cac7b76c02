from consensus.identity import LogIndex, NodeId, Term


def test_ids_are_plain_values():
    assert (NodeId("n1-0123456789abcdef"), Term(3), LogIndex(7)) == ("n1-0123456789abcdef", 3, 7)

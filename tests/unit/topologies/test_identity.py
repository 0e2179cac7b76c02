from topologies.identity import Incarnation, NodeId


def test_a_restart_outranks_any_counter_of_the_life_before():
    before: Incarnation = (1, 99)
    after: Incarnation = (2, 0)
    assert after > before


def test_a_node_id_is_a_plain_string():
    assert NodeId("n1-0123456789abcdef") == "n1-0123456789abcdef"

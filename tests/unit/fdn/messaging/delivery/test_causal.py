"""What has happened before, and the bounds of what is known of it."""

from fdn.messaging.delivery.causal import CausalPast
from fdn.messaging.delivery.frames import Dependency


def always(dependency: Dependency) -> bool:
    return True


def never(dependency: Dependency) -> bool:
    return False


TO_B, TO_C = Dependency("a", "b", 1, 1), Dependency("a", "c", 2, 1)


def test_what_was_sent_comes_before_until_it_is_acknowledged():
    past = CausalPast("a", 4, 8)
    assert past.before("cart", always) == []
    past.on_sent("cart", (TO_B, TO_C))
    assert past.before("cart", always) == [TO_B, TO_C]
    assert past.before("other", always) == []
    past.on_sent("cart", (TO_B._replace(sequence=5),))
    assert past.before("cart", always) == [TO_C, TO_B._replace(sequence=5)]
    assert past.before("cart", lambda each: each.dest == "c") == [TO_C]
    assert past.before("cart", never) == []


def test_what_was_handed_over_here_comes_before_elsewhere():
    past = CausalPast("b", 4, 8)
    past.on_delivered("cart", (TO_B, TO_C))
    assert past.before("cart", never) == [TO_C]  # what was for us we have
    past.on_delivered("cart", (TO_C._replace(sequence=9),))
    past.on_delivered("cart", (TO_C._replace(sequence=4),))
    assert past.before("cart", never) == [TO_C._replace(sequence=9)]


def test_a_node_that_is_gone_is_not_waited_for():
    past = CausalPast("b", 4, 8)
    past.on_delivered("cart", (TO_C, Dependency("d", "e", 3, 1)))
    past.on_gone("c")
    assert past.before("cart", never) == [Dependency("d", "e", 3, 1)]
    past.on_gone("d")
    assert len(past) == 0


def test_bounds():
    past = CausalPast("a", 2, 3)
    for number in range(5):
        past.on_delivered("cart", (Dependency("x", f"n{number}", number + 1, 1),))
    assert [each.dest for each in past.before("cart", never)] == ["n2", "n3", "n4"]
    assert past.forgotten == 2
    for label in ("two", "three"):
        past.on_delivered(label, (TO_C._replace(origin="x"),))
    assert past.before("cart", never) == []
    assert past.forgotten == 5

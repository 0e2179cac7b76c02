from hypothesis import given
from hypothesis import strategies as st

from topologies.identity import NodeId
from topologies.plumtree.messages import MessageId
from topologies.plumtree.received import Received


def message(number, root="r", generation=1):
    return MessageId(NodeId(root), generation, number)


def test_a_message_is_new_once_in_whatever_order_they_come():
    received = Received(window=100, roots_max=10)
    assert [received.add(message(number)) for number in (3, 1, 3, 2, 1, 2, 4)] == [
        True,
        True,
        False,
        True,
        False,
        False,
        True,
    ]
    assert message(4) in received
    assert message(5) not in received


def test_what_comes_later_than_the_window_counts_as_seen():
    received = Received(window=10, roots_max=10)
    received.add(message(1))
    received.add(message(100))
    assert message(90) in received
    assert message(91) not in received


def test_a_node_that_is_new_here_may_still_get_what_is_on_its_way():
    received = Received(window=10, roots_max=10)
    assert received.add(message(5000))
    assert received.add(message(4995))


def test_a_restarted_root_begins_anew_and_its_former_life_is_over():
    received = Received(window=10, roots_max=10)
    received.add(message(50))
    assert received.add(message(1, generation=2))
    assert not received.add(message(51))
    assert message(51) in received


def test_roots_are_bounded_and_the_one_that_was_silent_for_longest_is_forgotten():
    received = Received(window=10, roots_max=2)
    for number, root in ((1, "a"), (1, "b"), (2, "a"), (1, "c")):
        received.add(message(number, root))
    assert message(1, "b") not in received
    assert message(2, "a") in received


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 60))
def test_it_agrees_with_a_set_that_remembers_everything(numbers, window):
    received = Received(window, roots_max=4)
    seen: set[int] = set()
    highest = 0
    for number in numbers:
        too_late = number <= highest - window
        first = not seen
        new = received.add(message(number))
        if not too_late:
            assert new == (number not in seen) or first
        assert not (new and number in seen)
        seen.add(number)
        highest = max(highest, number)
        assert len(received._roots[NodeId("r")].above) <= window

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdn.messaging.event_order import KeyOrder


def test_one_of_a_key_at_a_time():
    order: KeyOrder[int] = KeyOrder(10)
    assert order.begin("a")
    assert not order.begin("a")
    order.hold("a", 1)
    order.hold("a", 2)
    assert order.begin("b")
    assert order.held == 2
    assert [order.done("a"), order.done("a"), order.done("a")] == [1, 2, None]
    assert order.held == 0
    assert order.begin("a")


def test_what_is_held_back_is_bounded_and_can_be_dropped():
    order: KeyOrder[int] = KeyOrder(2)
    order.begin("a")
    order.hold("a", 1)
    assert not order.full
    order.hold("a", 2)
    assert order.full
    assert order.clear() == 2
    assert not order.full
    assert order.done("a") is None


def test_a_key_must_be_hashable():
    with pytest.raises(TypeError):
        KeyOrder[int](1).begin([])  # type: ignore[arg-type]


@given(st.lists(st.sampled_from("abc")), st.randoms(use_true_random=False))
def test_each_key_in_order_whoever_ends_first(keys, random):
    order: KeyOrder[int] = KeyOrder(1000)
    running: list[tuple[str, int]] = []
    begun: dict[str, list[int]] = {key: [] for key in "abc"}

    def end_one() -> None:
        key, _ = running.pop(random.randrange(len(running)))
        following = order.done(key)
        if following is not None:
            begin(key, following)

    def begin(key: str, number: int) -> None:
        assert key not in [other for other, _ in running]
        running.append((key, number))
        begun[key].append(number)

    for number, key in enumerate(keys):
        if order.begin(key):
            begin(key, number)
        else:
            order.hold(key, number)
        if running and random.random() < 0.5:
            end_one()
    while running:
        end_one()
    assert begun == {key: [number for number, of in enumerate(keys) if of == key] for key in "abc"}
    assert order.held == 0

"""What has been accepted, exactly, and as far back as a bound reaches."""

import random

from fdn.messaging.delivery.frames import ACK_RANGES_MAX, MessageId
from fdn.messaging.delivery.window import DedupWindow, Progress


def test_progress_closes_up():
    progress = Progress()
    for number in (1, 3, 4, 7):
        progress.settle(number)
    assert (progress.upto, progress.ranges()) == (1, [(3, 4), (7, 7)])
    progress.settle(2)
    assert (progress.upto, progress.ranges()) == (4, [(7, 7)])
    assert [progress.has(number) for number in (0, 1, 4, 5, 7, 8)] == [True, True, True, False, True, False]


def test_the_floor_settles_what_is_below():
    progress = Progress(floor=5)
    assert progress.upto == 4
    progress.settle(8)
    assert not progress.raise_floor(5)
    assert progress.raise_floor(8)
    assert (progress.upto, progress.ranges()) == (8, [])


def test_progress_beside_a_set():
    for seed in range(50):
        rng = random.Random(seed)
        progress, settled = Progress(), set[int]()
        for _ in range(100):
            number = rng.randint(1, 40)
            if rng.random() < 0.1:
                progress.raise_floor(number)
                settled |= set(range(1, number))
            else:
                progress.settle(number)
                settled.add(number)
            assert {number for number in range(1, 60) if progress.has(number)} == settled
            told = set(range(1, progress.upto + 1))
            for first, last in progress.ranges():
                told |= set(range(first, last + 1))
            assert told == settled


def test_ranges_have_a_bound():
    progress = Progress()
    for number in range(2, 4 * ACK_RANGES_MAX, 2):
        progress.settle(number)
    assert len(progress.ranges()) == ACK_RANGES_MAX
    assert progress.ranges()[0] == (2, 2)


def test_the_window_remembers_the_last_of_the_last():
    window = DedupWindow(messages_max=3, origins_max=2)
    for number in range(1, 6):
        window.add(MessageId("a", number))
    assert [window.has(MessageId("a", number)) for number in range(1, 6)] == [False, False, True, True, True]
    assert not window.has(MessageId("b", 4))
    window.add(MessageId("b", 4))
    window.add(MessageId("a", 6))
    window.add(MessageId("c", 1))  # b was silent for longest
    assert [window.has(each) for each in (MessageId("a", 6), MessageId("b", 4), MessageId("c", 1))] == [
        True,
        False,
        True,
    ]
    assert len(window) == 4

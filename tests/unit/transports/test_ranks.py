import pytest

from tests.unit.transports.harness import cast
from transports.ranks import ROTATION, RankedQueue
from transports.wire.envelope import Envelope


def queue(messages_max: int = 512, bytes_max: int = 64 * 1024) -> RankedQueue:
    return RankedQueue(messages_max, bytes_max)


def departures(ranked: RankedQueue, ordinary: int = 0) -> list[int]:
    """Ids in the order of leaving, a batch of one at a time; 0 is an ordinary batch, of which there are so many."""
    out = []
    while len(ranked) or ordinary:
        if ranked.choose(bool(ordinary)):
            out += [envelope.id for envelope in ranked.pop()[0]]
        else:
            ordinary -= 1
            out.append(0)
    return out


def test_higher_priorities_leave_first_and_each_in_its_order():
    ranked = queue()
    for number, priority in enumerate((-1, 2, 0, 2, 1, -1), 1):
        assert ranked.put(cast(number), 100, priority) == (1, 100)
    assert departures(ranked) == [2, 4, 5, 3, 1, 6]
    assert len(ranked) == 0


def test_ordinary_ones_are_behind_urgent_ones_and_before_those_below():
    ranked = queue(1)
    for number, priority in enumerate((1, -1), 1):
        ranked.put(cast(number), 100, priority)
    assert departures(ranked, ordinary=2) == [1, 0, 0, 2]


def test_nothing_waits_nothing_is_chosen():
    assert not queue().choose(True)
    assert not queue().choose(False)


@pytest.mark.parametrize("low", [-1, -4, 0])
def test_what_is_low_does_not_starve(low: int):
    ranked = queue(1)
    ranked.put(cast(7777), 100, low)
    turns = 0
    for number in range(1, 1000):  # urgent ones without end
        ranked.put(cast(number), 100, 4)
        assert ranked.choose(True) or turns % ROTATION == ROTATION - 1
        turns += 1
        if ranked._chosen == low and [envelope.id for envelope in ranked.pop()[0]] == [7777]:
            break
    assert turns <= 3 * ROTATION  # three classes wait: urgent, ordinary, low


def test_every_class_has_its_turn_under_a_flood_of_urgent_ones():
    ranked = queue(1)
    served = {"urgent": 0, "ordinary": 0, -1: 0, -2: 0}
    for number in range(8 * ROTATION):
        for priority in (4, -1, -2):
            ranked.put(cast(number), 100, priority)
        if not ranked.choose(True):
            served["ordinary"] += 1
            continue
        served[ranked._chosen if ranked._chosen < 0 else "urgent"] += 1
        ranked.pop()
    assert served == {"urgent": 58, "ordinary": 2, -1: 2, -2: 2}


def test_a_batch_is_bounded_in_messages_and_bytes():
    ranked = queue(3, 1000)
    for number in range(1, 5):
        ranked.put(cast(number), 100, 1)
    for number, size in ((5, 5000), (6, 600), (7, 600)):
        ranked.put(cast(number), size, 1)
    batches = []
    while ranked.choose(False):
        envelopes, size, _, _ = ranked.pop()
        batches.append(([envelope.id for envelope in envelopes], size))
    assert batches == [([1, 2, 3], 300), ([4], 100), ([5], 5000), ([6], 600), ([7], 600)]


def test_one_with_attachments_travels_alone():
    ranked = queue(bytes_max=1000)
    ranked.put(cast(1), 100, 1)
    ranked.put(cast(2), 5000, 1, attachments=[b"x" * 5000])
    ranked.put(cast(3), 100, 1)
    batches = []
    while ranked.choose(False):
        envelopes, _, _, attachments = ranked.pop()
        batches.append(([envelope.id for envelope in envelopes], len(attachments)))
    assert batches == [([1], 0), ([2], 1), ([3], 0)]


def test_a_newer_one_takes_the_place_of_the_older_of_its_name():
    ranked = queue()
    ranked.put(cast(1), 100, 0, "speed")
    ranked.put(cast(2), 100, 0, "height")
    assert ranked.put(cast(3), 140, 0, "speed") == (0, 40)
    assert ranked.put(Envelope(11, "b.c", 4), 100, 0, "speed") == (1, 100)  # another address
    assert len(ranked) == 3
    assert departures(ranked) == [3, 2, 4]
    assert ranked.superseded == 1
    assert ranked.put(cast(5), 100, 0, "speed") == (1, 100)  # the former has left


def test_deadlines_are_those_of_the_newer():
    ranked = queue()
    told: list[Envelope] = []
    ranked.put(cast(1), 100, 0, "speed", 5.0, told.append)
    newer = cast(2)
    ranked.put(newer, 100, 0, "speed", 9.0)
    ranked.put(cast(3), 100, 0)
    assert ranked.choose(False)
    envelopes, _, timed, _ = ranked.pop()
    assert [envelope.id for envelope in envelopes] == [2, 3]
    assert timed == [(newer, 9.0, None)]


def test_clear():
    ranked = queue()
    ranked.put(cast(1), 100, 1, "speed")
    ranked.clear()
    assert (len(ranked), ranked.choose(False), ranked.put(cast(2), 100, 1, "speed")) == (0, False, (1, 100))


@pytest.mark.parametrize(
    ("priority", "size", "dropped"),
    [
        (0, 100, [3]),
        (4, 250, [3, 1, 4]),
        (0, 300, [3, 1, 4]),
        (-1, 100, [3]),
        (-2, 100, []),
        (4, 301, []),  # not enough
        (0, 0, [3]),
    ],
)
def test_shedding_takes_the_lowest_class_first_and_there_the_oldest(priority: int, size: int, dropped: list[int]):
    ranked = queue()
    for number, each in enumerate((-1, 0, -2, -1, 3), 1):
        ranked.put(cast(number), 100, each, "x" if number == 3 else "")
    out, freed = ranked.shed(priority, size)
    assert ([envelope.id for envelope in out], freed) == (dropped, 100 * len(dropped))
    assert len(ranked) == 5 - len(dropped)
    assert sorted(departures(ranked)) == sorted({1, 2, 3, 4, 5} - set(dropped))
    assert ranked.put(cast(9), 100, -2, "x") == (1, 100)

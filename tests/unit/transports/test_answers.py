"""Answers to diallers: the first at once, the rest of a pass together, in order, and never more held than a batch."""

import asyncio
from collections.abc import Sequence

import pytest

from fdn.testing import until, virtual
from transports.answers import HELD_S_MAX, Answers, Outcome
from transports.errors import LocalProtocolError
from transports.limits import Limits
from transports.parcel import Buffer
from transports.wire.batch import decode_batch
from transports.wire.envelope import Envelope, Kind


class Wire:
    """A network that takes what it is told to take."""

    def __init__(self) -> None:
        self.outcome = Outcome.SENT
        self.frames: list[tuple[bytes, list[int]]] = []
        self.tries = 0
        self.answers = Answers(asyncio.get_running_loop(), Limits(), self.write)

    def write(self, source: bytes, frame: bytes, attachments: Sequence[Buffer]) -> Outcome:
        self.tries += 1
        if self.outcome is Outcome.SENT:
            self.frames.append((source, [envelope.id for envelope in decode_batch(frame)[0]]))
        return self.outcome

    def send(self, number: int, source: bytes = b"a", body: bytes = b"") -> Outcome:
        return self.answers.send(source, Envelope(Kind.ITEM, "", number, 0, None, body))


async def passes(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@virtual
async def test_the_first_leaves_at_once_and_the_rest_with_the_pass():
    wire = Wire()
    assert {wire.send(number) for number in range(5)} == {Outcome.SENT}
    assert wire.frames == [(b"a", [0])]
    await asyncio.sleep(0)
    assert wire.frames == [(b"a", [0]), (b"a", [1, 2, 3, 4])]
    await passes()
    wire.send(5)
    assert wire.frames[-1] == (b"a", [5])  # a pass without any has made it idle again


@virtual
async def test_a_steady_stream_is_one_batch_for_each_pass():
    wire = Wire()
    for number in range(0, 30, 3):
        for each in range(3):
            wire.send(number + each)
        await asyncio.sleep(0)
    await passes()
    assert [len(numbers) for _, numbers in wire.frames] == [1, 2, *[3] * 9]
    assert [number for _, numbers in wire.frames for number in numbers] == list(range(30))


@virtual
async def test_each_dialler_has_its_own():
    wire = Wire()
    for number in range(4):
        wire.send(number, b"a")
        wire.send(10 + number, b"b")
    await passes()
    for source, first in ((b"a", 0), (b"b", 10)):
        assert [numbers for to, numbers in wire.frames if to == source] == [[first], [first + 1, first + 2, first + 3]]


@virtual
async def test_a_full_batch_does_not_wait_for_the_end_of_the_pass():
    wire = Wire()
    for number in range(200):
        wire.send(number)
    assert [len(numbers) for _, numbers in wire.frames] == [1, 64, 64, 64]
    wire.send(200, body=bytes(16 * 1024 - 20))
    assert len(wire.frames[-1][1]) == 7
    wire.send(201, body=bytes(100_000))  # larger than any batch, so alone, and behind what is there
    assert [numbers for _, numbers in wire.frames[-2:]] == [[200], [201]]


@virtual
async def test_the_end_of_a_session_goes_behind_what_was_said_before_and_at_once():
    wire = Wire()
    wire.send(1)
    wire.send(2)
    assert wire.answers.send(b"a", Envelope(Kind.BYE, "", 3)) is Outcome.SENT
    assert [numbers for _, numbers in wire.frames] == [[1], [2], [3]]


@virtual
async def test_who_has_no_room_is_refused_and_what_was_accepted_is_kept_in_order():
    wire = Wire()
    wire.send(0)
    wire.send(1)
    wire.outcome = Outcome.FULL
    await asyncio.sleep(0)
    assert [wire.send(2), wire.send(3)] == [Outcome.FULL] * 2
    assert wire.answers.refused == 2
    assert wire.send(4, b"other") is Outcome.FULL  # by its own queue, not by that of the first
    wire.outcome = Outcome.SENT
    await until(lambda: len(wire.frames) == 2)
    assert wire.frames == [(b"a", [0]), (b"a", [1])]
    assert wire.send(5) is Outcome.SENT
    assert wire.frames[-1] == (b"a", [5])
    assert wire.answers.refused == 3


@virtual
async def test_a_large_one_behind_what_is_held_is_refused_too():
    wire = Wire()
    wire.send(0)
    wire.send(1)
    wire.outcome = Outcome.FULL
    assert wire.send(2, body=bytes(100_000)) is Outcome.FULL
    wire.outcome = Outcome.SENT
    assert wire.send(3, body=bytes(100_000)) is Outcome.FULL
    await until(lambda: len(wire.frames) == 2)
    assert wire.frames[-1] == (b"a", [1])
    assert wire.answers.refused == 2


@virtual
async def test_who_takes_nothing_for_long_or_goes_has_its_batch_dropped_and_counted():
    wire = Wire()
    for number in range(4):
        wire.send(number, b"a")
        wire.send(number, b"b")
    wire.outcome = Outcome.FULL
    await asyncio.sleep(HELD_S_MAX / 2)
    assert wire.answers.refused == 0
    assert wire.tries < 1000  # each pause is longer than the last
    await asyncio.sleep(HELD_S_MAX)
    assert wire.answers.refused == 6
    wire.outcome = Outcome.SENT
    wire.send(8)
    wire.send(9)
    wire.outcome = Outcome.GONE
    await passes()
    assert wire.answers.refused == 7
    assert wire.send(10) is Outcome.GONE


@virtual
async def test_closing_lets_go_what_waits_and_tries_nothing_again():
    wire = Wire()
    wire.send(0)
    wire.send(1)
    wire.answers.close()
    assert [numbers for _, numbers in wire.frames] == [[0], [1]]
    wire.send(2)
    wire.outcome = Outcome.FULL
    wire.send(3)
    tries = wire.tries
    await asyncio.sleep(1)
    assert wire.tries == tries


@virtual
async def test_one_that_cannot_be_encoded_takes_no_neighbour_with_it():
    wire = Wire()
    wire.send(0)
    wire.send(1)
    with pytest.raises(LocalProtocolError):
        wire.answers.send(b"a", Envelope(Kind.ITEM, "", 2, 0, {1: object()}))
    wire.send(3)
    await passes()
    assert [numbers for _, numbers in wire.frames] == [[0], [1, 3]]

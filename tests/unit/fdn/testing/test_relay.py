"""One connection through the proxy, on a virtual clock: what is held, when it goes on, and what is dropped."""

import asyncio
import random
from typing import Any

import msgspec

from fdn.testing.clock import virtual
from fdn.testing.relay import HELD_BYTES_MAX, Fault, Relay, Traffic
from tests.unit.fdn.testing.test_zmtp import DEALER, GREETING, PING, READY
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity


def message(data: bytes) -> bytes:
    return b"\x02" + len(data).to_bytes(8, "big") + data


HELLO = message(
    encode_batch(
        [
            Envelope(
                Kind.HELLO,
                body=msgspec.Raw(
                    msgspec.msgpack.encode(Hello((1, 1), "fdn", Identity("a-0123456789abcdef", "a"), "data", 1))
                ),
            )
        ]
    )
)
OPENING = GREETING + READY + HELLO
ANSWER = GREETING + READY + message(b"welcome")


class Wire(asyncio.Transport):
    """A socket that keeps what is written to it, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[float, bytes]] = []
        self.reads = True
        self.ends: list[str] = []

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.written)

    def write(self, data: Any) -> None:
        self.written.append((asyncio.get_running_loop().time(), bytes(data)))

    def write_eof(self) -> None:
        self.ends.append("eof")

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & {*self.ends})

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def setsockopt(self, *option: Any) -> None:
        self.ends.append("linger")


class Board:
    """The faults, and one relay from a to b."""

    def __init__(self) -> None:
        self.rng = random.Random(7)
        self.faults: dict[tuple[str, str, str], Fault] = {}
        self.counted: dict[tuple[str, str, str], Traffic] = {}
        self.ended: list[Relay] = []
        self.relay = Relay(self, "b", "data")
        self.near, self.far = Wire(), Wire()
        self.relay.near.connection_made(self.near)
        self.relay.far.connection_made(self.far)

    def fault(self, source: str, target: str, channel: str) -> Fault:
        return self.faults.get((source, target, channel), Fault())

    def traffic(self, source: str, target: str, channel: str) -> Traffic:
        return self.counted.setdefault((source, target, channel), Traffic())

    def relay_ended(self, relay: Relay) -> None:
        self.ended.append(relay)

    def set(self, **fault: Any) -> None:
        """From a to b and back."""
        self.faults = {pair: Fault(**fault) for pair in (("a", "b", "data"), ("b", "a", "data"))}
        self.relay.faults_changed()

    def say(self, data: bytes) -> None:
        self.relay.near.data_received(data)

    def answer(self, data: bytes) -> None:
        self.relay.far.data_received(data)


def opened() -> Board:
    board = Board()
    board.say(OPENING)
    board.answer(ANSWER)
    return board


@virtual
async def test_a_connection_without_faults_is_passed_on_and_counted():
    board = Board()
    board.say(OPENING + message(b"1"))
    board.answer(ANSWER)
    assert (board.far.data, board.near.data) == (OPENING + message(b"1"), ANSWER)
    assert board.relay.dialler == "a"
    assert (board.counted["a", "b", "data"].connections, board.counted["a", "b", "data"].messages) == (1, 2)
    assert board.counted["b", "a", "data"].messages == 1


@virtual
async def test_whoever_does_not_say_hello_is_nobody():
    for opening in (DEALER, GREETING + READY + message(b""), GREETING + READY + message(encode_batch([Envelope(5)]))):
        board = Board()
        board.faults = {("a", "b", "data"): Fault(cut=True)}
        board.say(opening)
        assert (board.relay.dialler, board.far.data) == ("", opening)


@virtual
async def test_a_hello_without_end_is_not_kept():
    board = Board()
    endless = GREETING + READY + b"\x02\x00\x00\x00\x00\xff\xff\xff\xff" + b"x" * 100_000
    board.say(endless)
    assert (board.relay.dialler, board.far.data) == ("", endless)


@virtual
async def test_a_cut_holds_and_healing_delivers_in_order():
    board = opened()
    board.set(cut=True)
    board.say(message(b"1"))
    board.answer(message(b"2"))
    board.say(message(b"3"))
    await asyncio.sleep(10)
    assert (board.far.data, board.near.data) == (OPENING, ANSWER)
    board.set()
    assert board.far.data == OPENING + message(b"1") + message(b"3")
    assert board.near.data == ANSWER + message(b"2")


@virtual
async def test_a_connection_that_is_dialled_through_a_cut_gets_as_far_as_its_hello():
    board = Board()
    board.faults = {("a", "b", "data"): Fault(cut=True), ("b", "a", "data"): Fault(cut=True)}
    board.say(GREETING + READY)
    board.answer(GREETING + READY)
    assert (board.far.data, board.near.data) == (GREETING + READY, GREETING + READY)
    board.say(HELLO)
    board.answer(PING)
    assert (board.far.data, board.near.data) == (GREETING + READY, GREETING + READY)
    board.set()
    assert board.far.data == OPENING


@virtual
async def test_a_reset_ends_both_sides_and_refuses_new_ones():
    board = opened()
    board.set(cut=True, reset=True)
    assert board.near.ends == board.far.ends == ["linger", "abort"]
    assert board.ended == [board.relay]
    late = Board()
    late.faults = board.faults
    late.say(OPENING)
    assert (late.near.ends, late.far.ends, late.far.data) == (["linger", "abort"], ["linger", "abort"], b"")


@virtual
async def test_a_delay_keeps_the_order_whatever_the_jitter():
    board = opened()
    board.set(delay_s=0.05, jitter_s=0.1)
    begun = asyncio.get_running_loop().time()
    parts = [message(b"%d" % number) for number in range(50)]
    for part in parts:
        board.say(part)
        await asyncio.sleep(0.001)
    await asyncio.sleep(1)
    assert [data for _, data in board.far.written[1:]] == parts
    taken = [at - begun - number * 0.001 for number, (at, _) in enumerate(board.far.written[1:])]
    assert min(taken) >= 0.049
    assert max(taken) <= 0.21  # the delay, the jitter, and that of the one before


@virtual
async def test_a_rate_deals_out_and_an_end_to_it_lets_the_rest_go():
    board = opened()
    board.set(bytes_per_s=10_000)
    begun = asyncio.get_running_loop().time()
    board.say(message(b"x" * 20_000))
    await asyncio.sleep(0.999)
    assert 9_000 < len(board.far.data) - len(OPENING) <= 10_000
    board.set()
    assert len(board.far.data) == len(OPENING) + 20_009
    assert asyncio.get_running_loop().time() - begun < 1.0  # virtual


@virtual
async def test_what_is_lost_is_lost_as_a_whole_and_no_handshake_is():
    board = Board()
    board.faults = {("a", "b", "data"): Fault(loss=1.0)}
    two_frames = b"\x01\x03one\x00\x03two"
    board.say(OPENING + two_frames[:4])
    board.say(two_frames[4:7])
    board.say(two_frames[7:] + PING + message(b"x" * 1000)[:500])
    board.say(message(b"x" * 1000)[500:])
    assert board.far.data == OPENING + PING
    assert (board.counted["a", "b", "data"].messages, board.counted["a", "b", "data"].dropped) == (3, 2)
    board.faults = {}
    board.relay.faults_changed()
    board.say(message(b"heard"))
    assert board.far.data == OPENING + PING + message(b"heard")


@virtual
async def test_half_of_them_are_lost():
    board = opened()
    board.set(loss=0.5)
    for number in range(1000):
        board.say(message(b"%d" % number))
    dropped = board.counted["a", "b", "data"].dropped
    assert 400 < dropped < 600
    assert board.far.data.count(b"\x02\x00") == 1001 - dropped


@virtual
async def test_what_is_held_is_bounded():
    board = opened()
    board.set(cut=True)
    board.say(b"\x02" + (1 << 40).to_bytes(8, "big"))
    chunk = b"x" * 65536
    fed = 0
    while board.near.reads:
        board.say(chunk)
        fed += len(chunk)
    assert fed <= HELD_BYTES_MAX + len(chunk)
    assert board.far.reads
    board.set()
    assert board.near.reads
    assert len(board.far.data) == len(OPENING) + 9 + fed


@virtual
async def test_a_receiver_that_takes_nothing_is_not_pressed():
    board = opened()
    board.relay.far.pause_writing()
    board.say(message(b"1"))
    assert board.far.data == OPENING
    board.relay.far.resume_writing()
    assert board.far.data == OPENING + message(b"1")


@virtual
async def test_an_end_follows_what_was_said_before_it():
    board = opened()
    board.set(delay_s=1.0)
    board.say(message(b"last words"))
    board.relay.near.eof_received()
    assert board.far.ends == []
    await asyncio.sleep(2)
    assert board.far.data.endswith(b"last words")
    assert board.far.ends == ["eof"]
    board.relay.far.eof_received()
    await asyncio.sleep(2)
    assert board.near.ends[0] == "eof"
    assert "close" in board.near.ends
    assert board.ended[0] is board.relay


@virtual
async def test_a_cut_hides_an_end():
    board = opened()
    board.set(cut=True)
    board.relay.near.connection_lost(None)
    await asyncio.sleep(10)
    assert board.far.ends == []
    board.set()
    assert board.far.ends == ["close"]


@virtual
async def test_a_connection_that_both_have_given_up_is_forgotten_in_a_cut():
    board = opened()
    board.set(cut=True)
    board.say(message(b"held"))
    board.relay.near.eof_received()
    assert not board.ended
    board.relay.far.eof_received()
    assert board.ended[0] is board.relay
    assert (board.near.is_closing(), board.far.is_closing()) == (True, True)


@virtual
async def test_a_node_that_is_not_there_refuses():
    board = Board()

    async def nobody(protocol: asyncio.BaseProtocol) -> None:
        raise ConnectionRefusedError

    relay = Relay(board, "b", "data")
    near = Wire()
    relay.near.connection_made(near)
    relay.near.data_received(GREETING)
    await relay.connect(nobody)
    assert near.ends == ["linger", "abort"]
    late = Wire()
    relay.far.connection_made(late)
    assert late.is_closing()


async def sent(board: Board, count: int, size: int = 1) -> list[int]:
    """Send so many numbered messages; the numbers of those that come out, in order."""
    for number in range(count):
        board.relay.near.data_received(message(bytes([number]) * size))
    await asyncio.sleep(1)
    data, numbers = board.far.data.removeprefix(OPENING), []
    while data:
        length = int.from_bytes(data[1:9], "big")
        assert set(data[9 : 9 + length]) == {data[9]}, "messages stay whole"
        numbers.append(data[9])
        data = data[9 + length :]
    return numbers


@virtual
async def test_messages_come_twice():
    board = Board()
    board.relay.near.data_received(OPENING)
    board.set(duplication=0.5)
    numbers = await sent(board, 100)
    assert sorted(set(numbers)) == list(range(100))
    assert numbers == sorted(numbers)
    assert len(numbers) - 100 == board.counted["a", "b", "data"].duplicated
    assert 30 < len(numbers) - 100 < 70


@virtual
async def test_messages_are_overtaken():
    board = Board()
    board.relay.near.data_received(OPENING)
    board.set(reordering=0.5)
    numbers = await sent(board, 100)
    assert sorted(numbers) == list(range(100))
    assert all(abs(place - number) <= 1 for place, number in enumerate(numbers))
    overtaken = sum(place > number for place, number in enumerate(numbers))
    assert 20 < overtaken <= board.counted["a", "b", "data"].reordered <= overtaken + 1  # the last one only waits


@virtual
async def test_messages_too_large_to_be_held_pass():
    board = Board()
    board.relay.near.data_received(OPENING)
    board.set(reordering=1.0, duplication=1.0)
    assert await sent(board, 3, HELD_BYTES_MAX + 1) == [0, 1, 2]


@virtual
async def test_the_end_lets_the_last_one_go():
    board = Board()
    board.relay.near.data_received(OPENING)
    board.set(reordering=1.0)
    board.relay.near.data_received(message(b"x"))
    board.relay.near.eof_received()
    await asyncio.sleep(0)
    assert board.far.data.endswith(message(b"x"))

from typing import Any

import msgspec
import pytest

from transports.assembly import Assembled, Assembly, BufferPool, Refusal
from transports.limits import Limits
from transports.parcel import Parcel
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind

LIMITS = Limits(
    transfer_bytes_max=1000, transfers_max=3, bulk_window_bytes=400, assembly_bytes_max=1500, pooled_bytes_max=4 << 20
)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def piece(total: Any, part: Any, size: Any, offset: Any, data: bytes) -> Parcel:
    return Parcel(raw([total, part, size, offset]), [memoryview(data)])


def end(kind: int = Kind.CAST, parts: int = 1, body: object = None) -> msgspec.Raw:
    body = raw(msgspec.msgpack.Ext(1, b"\0\0")) if body is None else body
    return raw(encode_batch((Envelope(kind, "t", 5, 0, {6: list(range(parts))}, body),))[2:])


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(LIMITS)


@pytest.fixture
def assembly(pool: BufferPool) -> Assembly:
    return Assembly(pool, LIMITS)


def test_a_message_of_two_parts(assembly: Assembly, pool: BufferPool):
    frame = bytearray(b"cd")
    for at, part in ((0, b"aaa"), (3, b"bb")):
        assert assembly.on_chunk(1, piece(7, 0, 5, at, part)) is None
    assert assembly.on_chunk(1, Parcel(raw([7, 1, 2, 0]), [memoryview(frame)])) is None
    assert assembly.stats().held_bytes == pool.held_bytes == 7
    whole = assembly.on_chunk(1, end(parts=2))
    assert isinstance(whole, Assembled)
    assert whole.size == 7
    assert [bytes(part) for part in whole.envelope.body.attachments] == [b"aaabb", b"cd"]
    frame[0] = 99  # what came in one piece lies over its frame
    assert whole.envelope.body.attachments[1][0] == 99
    assert (assembly.stats().whole, pool.held_bytes) == (1, 7)
    assert assembly.consumed(7) is None
    assert pool.held_bytes == 0


def test_transfers_may_be_mixed(assembly: Assembly):
    for at in (0, 2, 4):
        for transfer in (1, 2):
            assembly.on_chunk(transfer, piece(6, 0, 6, at, bytes([transfer]) * 2))
    for transfer in (2, 1):
        whole = assembly.on_chunk(transfer, end())
        assert isinstance(whole, Assembled)
        assert bytes(whole.envelope.body.attachments[0]) == bytes([transfer]) * 6


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param([piece(10, 0, 10, 2, b"ab")], id="gap"),
        pytest.param([piece(10, 0, 10, 0, b"ab")], id="twice"),
        pytest.param([piece(10, 0, 10, 1, b"ab")], id="overlap"),
        pytest.param([piece(10, 0, 10, 5, b"abcdef")], id="past the part"),
        pytest.param([piece(10, 0, 9, 5, b"ab")], id="another size"),
        pytest.param([piece(11, 0, 10, 5, b"ab")], id="another total"),
        pytest.param([piece(10, 1, 5, 0, b"ab")], id="next part too soon"),
        pytest.param([piece(10, 0, 10, 5, b"")], id="empty"),
        pytest.param([Parcel(raw([10, 0, 10, 5]), [memoryview(b"a"), memoryview(b"b")])], id="two frames"),
        pytest.param([end()], id="end too soon"),
        pytest.param([raw([1])], id="end that is none"),
        pytest.param([piece(10, 0, 10, 5, b"abcde"), piece(10, 1, 1, 0, b"a")], id="more than announced"),
        pytest.param([piece(10, 0, 10, 5, b"abcde"), raw(b"")], id="no message"),
        pytest.param([piece(10, 0, 10, 5, b"abcde"), raw(b"\xc1")], id="no envelope"),
        pytest.param([piece(10, 0, 10, 5, b"abcde"), raw(b"\x93\x0b\xa1t\x00" * 2)], id="two envelopes"),
        pytest.param([piece(10, 0, 10, 5, b"abcde"), end(parts=2)], id="names a part that did not come"),
    ],
)
def test_what_does_not_fit_together_is_dropped_and_counted(
    assembly: Assembly, pool: BufferPool, hostile: list[msgspec.Raw | Parcel]
):
    assembly.on_chunk(1, piece(10, 0, 10, 0, b"abcde"))
    assert [assembly.on_chunk(1, each) for each in hostile] == [None] * len(hostile)
    stats = assembly.stats()
    assert (stats.open, stats.malformed, stats.held_bytes, pool.held_bytes) == (0, 1, 0, 0)
    assert assembly.on_chunk(1, end()) is None  # nothing is left of it


@pytest.mark.parametrize(
    "head", [[1, 2, 3], "x", [1.5, 0, 1, 0], [2**64 - 1, 0, 1, 0], [5, 0, -1, 0], [5, 0, 6, 0], [5, 1, 1, 0]]
)
def test_a_first_piece_that_makes_no_sense_begins_nothing(assembly: Assembly, pool: BufferPool, head: object):
    assert assembly.on_chunk(1, Parcel(raw(head), [memoryview(b"a")])) is None
    assert (assembly.stats().malformed, assembly.stats().open, pool.held_bytes) == (1, 0, 0)


@pytest.mark.parametrize("total", [0, -5, 1001, 1 << 48])
def test_absurd_totals_are_refused_and_take_no_memory(assembly: Assembly, pool: BufferPool, total: int):
    refusal = assembly.on_chunk(1, piece(total, 0, 1, 0, b"a"))
    assert isinstance(refusal, Refusal)
    assert "body_bytes_max" in refusal.reason
    assert (pool.held_bytes, pool.pooled_bytes) == (0, 0)


def test_more_transfers_than_allowed_are_refused(assembly: Assembly):
    results = [assembly.on_chunk(number, piece(10, 0, 10, 0, b"a")) for number in range(5)]
    assert [type(each) for each in results] == [type(None)] * 3 + [Refusal] * 2
    assert assembly.stats().refused == 2


def test_one_that_begins_more_than_it_was_granted_is_refused(assembly: Assembly):
    assert assembly.on_chunk(1, piece(900, 0, 900, 0, b"a")) is None  # one may go past it
    refusal = assembly.on_chunk(2, piece(10, 0, 10, 0, b"a"))
    assert isinstance(refusal, Refusal)
    assert "granted" in refusal.reason


def test_all_peers_together_are_bounded(pool: BufferPool):
    peers = [Assembly(pool, LIMITS) for _ in range(3)]
    results = [peer.on_chunk(1, piece(700, 0, 700, 0, b"a")) for peer in peers]
    assert [type(each) for each in results] == [type(None), type(None), Refusal]
    peers[0].close()
    assert peers[0].stats().lost == 1
    assert peers[2].regrant() == 1100
    assert peers[2].on_chunk(2, piece(700, 0, 700, 0, b"a")) is None


def test_a_sender_that_gives_up_frees_what_it_held(assembly: Assembly, pool: BufferPool):
    assembly.on_chunk(1, piece(10, 0, 10, 0, b"abcde"))
    assert assembly.on_chunk(1, raw(None)) is None
    assert (assembly.stats().given_up, pool.held_bytes) == (1, 0)


def test_more_is_granted_as_messages_are_taken_up(assembly: Assembly):
    grants = []
    for number in range(8):
        assembly.on_chunk(number, piece(60, 0, 60, 0, bytes(60)))
        whole = assembly.on_chunk(number, end())
        assert isinstance(whole, Assembled)
        grants.append(assembly.consumed(whole.size))
    assert grants == [None, 520, None, 640, None, 760, None, 880]  # a quarter of the window at a time


def test_one_larger_than_the_window_is_granted_for_at_once(assembly: Assembly):
    assembly.on_chunk(1, piece(900, 0, 900, 0, bytes(900)))
    whole = assembly.on_chunk(1, end())
    assert isinstance(whole, Assembled)
    assert assembly.consumed(900) == 1300


def test_what_was_refused_does_not_use_the_window_up(assembly: Assembly):
    granted = assembly.granted
    for number in range(10):
        assembly.on_chunk(number, piece(2000, 0, 2000, 0, b"a"))
        granted = assembly.regrant() or granted
        assert granted == (number + 1) * 2000 + 400


def test_memory_is_used_again_once_nobody_looks_at_it():
    pool = BufferPool(Limits(pooled_bytes_max=4 << 20))
    first = pool.buffer(1_500_000)
    second = pool.buffer(1_500_000)
    first[0], second[0] = 1, 2
    view = first[:10]
    del first
    assert pool.buffer(1_400_000)[0] == 0  # a fresh one: somebody still looks at the first
    assert pool.pooled_bytes == 4 << 20  # the third did not fit
    del view
    again = pool.buffer(1_200_000)
    assert again[0] == 1
    assert len(again) == 1_200_000
    assert pool.buffer(100_000)[0] == 0  # not for something so small
    assert second[0] == 2


def test_memory_that_is_not_used_is_given_back():
    pool = BufferPool(Limits())
    pool.buffer(2 << 20)
    pool.trim()
    assert pool.pooled_bytes == 2 << 20
    pool.trim()
    assert pool.pooled_bytes == 0

import os
import zlib

import pytest

from transports.errors import MalformedBatch
from transports.packing import PACKED, PACKED_BYTES_MIN, Packer, unpack

TEXT = b"\x01" + b"all work and no play makes " * 1000
NOISE = os.urandom(5000)


def packed(data: bytes, size: int | None = None, codec: int = 1) -> bytes:
    return bytes((PACKED, codec)) + (len(data) if size is None else size).to_bytes(4, "big") + zlib.compress(data)


def test_there_and_back():
    packer = Packer()
    frame = packer.pack(TEXT)
    assert frame[0] == PACKED
    assert len(frame) < len(TEXT) / 10
    assert unpack(frame, 1 << 20) == unpack(memoryview(frame), 1 << 20) == TEXT
    assert (packer.frames, packer.bytes_in, packer.bytes_out) == (1, len(TEXT), len(frame))


def test_small_frames_and_those_that_do_not_shrink_stay_as_they_are():
    packer = Packer()
    for frame in (TEXT[: PACKED_BYTES_MIN - 1], NOISE):
        assert packer.pack(frame) is frame
    assert packer.frames == 0


def test_a_sender_whose_frames_do_not_shrink_stops_trying_for_longer_each_time(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []
    compress = zlib.compress

    def counted(data: bytes, level: int) -> bytes:
        tried.append(len(data))
        return compress(data, level)

    monkeypatch.setattr(zlib, "compress", counted)
    packer = Packer()
    rests = []
    for _ in range(3):
        while len(tried) < 4:
            packer.pack(NOISE)
        tried.clear()
        rest = 0
        while not tried:
            packer.pack(NOISE)
            rest += 1
        rests.append(rest - 1)
    assert rests == [64, 128, 256]
    while not packer.frames:
        packer.pack(TEXT)  # it finds out that they shrink now
    tried.clear()
    for _ in range(10):
        packer.pack(TEXT)
    assert len(tried) == 10


@pytest.mark.parametrize(
    "frame",
    [
        bytes((PACKED,)),
        packed(TEXT)[:6],
        packed(TEXT, codec=2),
        packed(TEXT)[:-1],
        packed(TEXT) + b"x",
        packed(TEXT, len(TEXT) - 1),
        packed(TEXT, len(TEXT) + 1),
        bytes((PACKED, 1)) + (100).to_bytes(4, "big") + b"no such thing",
    ],
    ids=["head", "empty", "codec", "cut", "more", "shorter", "longer", "garbage"],
)
def test_what_is_not_packed_as_it_says_is_malformed(frame: bytes):
    with pytest.raises(MalformedBatch):
        unpack(frame, 1 << 20)


def test_a_bomb_is_refused_before_it_goes_off():
    bomb = zlib.compress(bytes(200_000_000), 9)  # 190 KB
    head = bytes((PACKED, 1))
    with pytest.raises(MalformedBatch, match="above frame_bytes_max=1048576"):
        unpack(head + (200_000_000).to_bytes(4, "big") + bomb, 1 << 20)
    with pytest.raises(MalformedBatch, match="does not unpack to the 1000 bytes"):
        unpack(head + (1000).to_bytes(4, "big") + bomb, 1 << 20)

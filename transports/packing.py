"""Compression of batch frames, where it pays.

A batch and not a message is compressed: small messages of one kind repeat one another far more than themselves. The
codec is zlib at its fastest level, because the standard library of every language has it. Measured on one core, batches
of 6 to 60 KB of records and source text: to 0.23 to 0.31 of their size, at 106 to 181 MB/s, and back at 409 MB/s and
more; random octets: 41 MB/s for nothing. So it pays on networks below about 1 Gbit/s, and nowhere else: it is off
unless asked for, small batches are left alone, and a sender whose batches do not shrink stops trying, for longer each
time. Wire format: docs/spec/0001-wire.md, section 4.14.
"""

import zlib
from typing import Final

from transports.errors import MalformedBatch

__all__ = ("PACKED", "PACKED_BYTES_MIN", "ZLIB", "Packer", "unpack")

ZLIB: Final = "zlib"  # the feature, in HELLO and WELCOME
PACKED: Final = 0x5A
PACKED_BYTES_MIN: Final = 1024  # smaller frames are not worth the trying
_CODEC_ZLIB: Final = 1
_HEAD_BYTES: Final = 6
_LEVEL: Final = 1
_WORTH: Final = 0.9  # of the size, at most
_PATIENCE: Final = 4  # frames on end that were not worth it
_REST_MIN: Final = 64  # frames that are then left alone; doubles
_REST_MAX: Final = 8192


class Packer:
    """The sender's side, for one connection.

    Attributes:
        frames: That were packed.
        bytes_in: Octets of them before.
        bytes_out: And after.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._futile = 0
        self._rest = 0  # frames to be left alone
        self._resting = _REST_MIN

    def pack(self, frame: bytes) -> bytes:
        """The frame packed, or itself if that is too small or was not worth it lately."""
        size = len(frame)
        if size < PACKED_BYTES_MIN:
            return frame
        if self._rest:
            self._rest -= 1
            return frame
        packed = zlib.compress(frame, _LEVEL)
        if len(packed) + _HEAD_BYTES > _WORTH * size:
            self._futile += 1
            if self._futile >= _PATIENCE:
                self._futile, self._rest = 0, self._resting
                self._resting = min(_REST_MAX, 2 * self._resting)
            return frame
        self._futile, self._resting = 0, _REST_MIN
        self.frames += 1
        self.bytes_in += size
        self.bytes_out += len(packed) + _HEAD_BYTES
        return bytes((PACKED, _CODEC_ZLIB)) + size.to_bytes(4, "big") + packed


def unpack(frame: bytes | memoryview, bytes_max: int) -> bytes:
    """The batch frame that was packed. Never makes more octets than the frame says, nor than `bytes_max`.

    Raises:
        MalformedBatch: It is not what the specification says, or says that it is larger.
    """
    if len(frame) <= _HEAD_BYTES or frame[1] != _CODEC_ZLIB:
        raise MalformedBatch("packed in no way that is known", len(frame))
    size = int.from_bytes(frame[2:_HEAD_BYTES], "big")
    if size > bytes_max:
        raise MalformedBatch(f"it would unpack to {size} bytes, above frame_bytes_max={bytes_max}", len(frame))
    decompressor = zlib.decompressobj()
    try:
        unpacked = decompressor.decompress(frame[_HEAD_BYTES:], size + 1)
    except zlib.error as error:
        raise MalformedBatch(f"it cannot be unpacked: {error}", len(frame)) from error
    if len(unpacked) != size or not decompressor.eof or decompressor.unused_data:
        raise MalformedBatch(f"it does not unpack to the {size} bytes that it says", len(frame))
    return unpacked

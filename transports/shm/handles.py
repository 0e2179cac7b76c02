"""Handles: an attachment that lies in shared memory goes to a peer on the same host as the word where it lies.

In the message, a handle takes the place of the attachment's frame, so that nothing else of the payload differs, and the
same payload can go to one peer as handles and to another as frames. docs/spec/0001-wire.md, section 4.10.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from transports.shm.segment import Segment, segment_of

__all__ = ("HANDLE_BYTES", "Handle", "Lender", "Received", "as_handles", "handle_frames", "read_handle", "weight")

HANDLE_BYTES: Final = 64  # about; what one weighs in a queue
_WEIGHT: Final = 4
_WEIGHT_BYTES_MAX: Final = 4 * 1024 * 1024
_Fields = tuple[int, str, int, int]
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Fields)


class Lender(Protocol):
    """Holds segments while handles to them are on their way by one connection."""

    def lend(self, segment: Segment) -> int: ...

    def end(self) -> None:
        """The connection has ended."""


class Handle:
    """An attachment in a segment, that waits to leave."""

    __slots__ = ("length", "offset", "segment")

    def __init__(self, segment: Segment, offset: int, length: int) -> None:
        self.segment = segment
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return HANDLE_BYTES


class Received:
    """A handle that has come, and is not mapped yet.

    Attributes:
        token: What the sender wants to hear when it is.
        name: Of the segment.
        offset, length: The bytes meant.
    """

    __slots__ = ("length", "name", "offset", "token")

    def __init__(self, token: int, name: str, offset: int, length: int) -> None:
        self.token = token
        self.name = name
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length


def as_handles(attachments: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The attachments with a `Handle` in place of those that lie in a segment, and where in the list those are."""
    parts: list[Any] = []
    places: list[int] = []
    for place, part in enumerate(attachments):
        segment = segment_of(part)
        if segment is not None:
            parts.append(Handle(segment, _offset(segment, part), len(part)))
            places.append(place)
        else:
            parts.append(part)
    return parts, places


def handle_frames(attachments: Iterable[Any], lender: Lender) -> list[Any]:
    """The attachments as frames: the moment of departure, from which on the segments are lent."""
    return [
        _encode((lender.lend(part.segment), part.segment.name, part.offset, part.length))
        if type(part) is Handle
        else part
        for part in attachments
    ]


def weight(attachments: Iterable[Any]) -> int:
    """What the handles among them count for credit and in queues, in bytes, beside their frames.

    A quarter of what they mean, because it lies in one place only and fills no buffer; but so much that a sender is
    held up before it has filled more memory than will be used again.
    """
    return sum(
        min(part.length // _WEIGHT, _WEIGHT_BYTES_MAX)
        for part in attachments
        if type(part) is Handle or type(part) is Received
    )


def read_handle(frame: Any) -> Received:
    """What a peer sent in place of an attachment.

    Raises:
        ValueError: It is no handle.
    """
    token, name, offset, length = _decoder.decode(frame)
    if not 0 <= token < 1 << 64 or not 0 <= offset < 1 << 63 or not 0 < length < 1 << 63:
        raise ValueError("a handle with impossible numbers")
    return Received(token, name, offset, length)


def _offset(segment: Segment, part: Any) -> int:
    if len(part) == segment.nbytes:
        return 0
    # Python tells no buffer's address, numpy does; who uses shared memory for parts of it has numpy anyway.
    import numpy

    def address(buffer: Any) -> int:
        where: int = numpy.frombuffer(buffer, numpy.uint8).__array_interface__["data"][0]
        return where

    return address(part) - address(segment)

"""ZMTP, the protocol of ZeroMQ over TCP, read from outside: where its commands and messages begin and end.

For whoever stands between two ZeroMQ sockets and must not cut a message in half. Nothing is decrypted, answered or
changed: the bytes of all pieces, joined, are the bytes that came in. ZMTP 3.0 and 3.1, rfc.zeromq.org/spec/23 and 37;
of anything else only that it is something else is said.
"""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Final

__all__ = ("Piece", "PieceKind", "ZmtpStream", "frames_of")

_GREETING_BYTES: Final = 64
_MECHANISM: Final = slice(12, 32)
_MAJOR_AT: Final = 10
_MORE, _LONG, _COMMAND = 0x01, 0x02, 0x04
_RESERVED: Final = 0xFF ^ (_MORE | _LONG | _COMMAND)


class PieceKind(enum.Enum):
    """What a piece of the stream is part of."""

    GREETING = "greeting"
    COMMAND = "command"  # READY, PING, PONG, ...
    MESSAGE = "message"  # what the application sent: one or more frames
    OPAQUE = "opaque"  # not ZMTP 3, or not understood: everything from there on


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of the stream that belong together.

    Attributes:
        kind: What they are part of.
        data: The bytes, headers included.
        first: Whether the command or message begins here.
        last: Whether it ends here.
    """

    kind: PieceKind
    data: bytes
    first: bool
    last: bool


class ZmtpStream:
    """One direction of one connection.

    It holds back no more than the header of a frame: long messages are handed on as they come.

    Attributes:
        mechanism: The security mechanism that the greeting named (`NULL`, `CURVE`); empty before.
    """

    def __init__(self) -> None:
        self.mechanism = ""
        self._greeting = bytearray()
        self._is_opaque = False
        self._header = bytearray()  # of a frame, as long as it is not whole
        self._left = 0  # bytes of the frame's body that have not come yet
        self._flags = 0
        self._in_message = False  # a message has begun, and more frames of it follow

    def feed(self, data: bytes) -> list[Piece]:
        """Take in what was received, and tell what it is."""
        pieces: list[Piece] = []
        at = 0
        while at < len(data):
            if self._is_opaque:
                pieces.append(Piece(PieceKind.OPAQUE, data[at:], False, False))
                break
            if len(self._greeting) < _GREETING_BYTES:
                at = self._greet(data, at, pieces)
            elif self._left:
                end = min(len(data), at + self._left)
                self._left -= end - at
                pieces.append(self._piece(data[at:end], False))
                at = end
            else:
                at = self._begin_frame(data, at, pieces)
        return pieces

    def _greet(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        """The greeting is passed on byte by byte if need be: the other side answers its first part."""
        begun = len(self._greeting)
        end = min(len(data), at + _GREETING_BYTES - begun)
        self._greeting += data[at:end]
        held = self._greeting
        wrong = held[0] != 0xFF or (len(held) >= _MAJOR_AT and held[_MAJOR_AT - 1] != 0x7F)
        self._is_opaque = wrong or (len(held) > _MAJOR_AT and held[_MAJOR_AT] < 3)
        whole = len(held) == _GREETING_BYTES
        if self._is_opaque:
            pieces.append(Piece(PieceKind.OPAQUE, data[at:end], False, False))
            return end
        if whole:
            self.mechanism = bytes(held[_MECHANISM]).rstrip(b"\0").decode("ascii", "replace")
        pieces.append(Piece(PieceKind.GREETING, data[at:end], begun == 0, whole))
        return end

    def _begin_frame(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        """Read a header, and with it whatever of the body is here."""
        header = self._header
        flags = header[0] if header else data[at]
        size = 9 if flags & _LONG else 2
        taken = min(size - len(header), len(data) - at)
        header += data[at : at + taken]
        at += taken
        if flags & _RESERVED or (flags & _COMMAND and flags & _MORE):
            self._is_opaque = True
            pieces.append(Piece(PieceKind.OPAQUE, bytes(header), False, False))
            header.clear()
            return at
        if len(header) < size:
            return at
        self._flags = flags
        self._left = int.from_bytes(header[1:], "big")
        end = min(len(data), at + self._left)
        self._left -= end - at
        pieces.append(self._piece(bytes(header) + data[at:end], True))
        header.clear()
        return end

    def _piece(self, data: bytes, begins_frame: bool) -> Piece:
        ends_frame = not self._left
        if self._flags & _COMMAND:
            return Piece(PieceKind.COMMAND, data, begins_frame, ends_frame)
        first = begins_frame and not self._in_message
        last = ends_frame and not self._flags & _MORE
        self._in_message = not last
        return Piece(PieceKind.MESSAGE, data, first, last)


def frames_of(message: Sequence[Piece]) -> list[bytes]:
    """The frames of one whole message, without their headers, from its pieces."""
    data = b"".join(piece.data for piece in message)
    frames = []
    at = 0
    while at < len(data):
        begin = at + (9 if data[at] & _LONG else 2)
        at = begin + int.from_bytes(data[at + 1 : begin], "big")
        frames.append(data[begin:at])
    return frames

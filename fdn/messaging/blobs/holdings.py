"""What this node holds, and the system service that gives it out: `fdn.blob`.

A blob is held from when it is made until it is released as often as it was made, or until the node stops. Nobody's
reading is counted: whoever releases a blob that others still fetch cuts them off, and they say so.
"""

import dataclasses
from typing import Any, Final

import msgspec

from fdn.errors import BadRequest, NotFound, Overloaded
from fdn.messaging.blobs.content import Content
from fdn.messaging.blobs.outline import DIGEST_BYTES, Buffer, Outline
from fdn.messaging.blobs.threads import Threads
from fdn.messaging.services import Service

__all__ = (
    "OUTLINE_PIECES_MAX",
    "READ_BYTES_MAX",
    "BlobService",
    "Held",
    "HoldingStats",
    "Holdings",
    "OutlineOf",
    "Read",
    "Stat",
    "blob_requests",
)

READ_BYTES_MAX: Final = 8 * 1024 * 1024  # in one answer
OUTLINE_PIECES_MAX: Final = 16384  # digests in one answer: 512 KiB
_CONCURRENCY: Final = 16  # requests at work at once; more wait, and then hear Overloaded, and come again
_MAILBOX_MAX: Final = 1024


class Stat(msgspec.Struct, frozen=True):
    """`fdn.blob.stat`: is it held here?"""

    id: bytes


class OutlineOf(msgspec.Struct, frozen=True):
    """`fdn.blob.outline`: the digests of `count` pieces from piece `first`."""

    id: bytes
    first: int = 0
    count: int = OUTLINE_PIECES_MAX


class Read(msgspec.Struct, frozen=True):
    """`fdn.blob.read`: bytes of it; at most `READ_BYTES_MAX`."""

    id: bytes
    offset: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class HoldingStats:
    """Counters since the start, and what is held now."""

    held: int  # blobs
    held_bytes: int  # of all of them, wherever they lie
    memory_bytes: int  # of those that lie in memory
    reads: int
    bytes_read: int


def blob_requests(service: "BlobService") -> Service:
    """The requests as the dispatcher serves them."""
    return Service("fdn.blob", service, concurrency=_CONCURRENCY, mailbox_max=_MAILBOX_MAX, system=True)


class Held:
    """One blob, and who needs its content to stay open.

    Attributes:
        times: How often it is held.
        readers: Reads under way: a descriptor closed under one could be another file's by then.
    """

    __slots__ = ("content", "outline", "readers", "times")

    def __init__(self, outline: Outline, content: Content) -> None:
        self.outline = outline
        self.content = content
        self.times = 1
        self.readers = 0

    def close_unused(self) -> None:
        """Close the content if nobody needs it."""
        if not self.times and not self.readers:
            self.content.close()


class Holdings:
    """The blobs of one node.

    Args:
        held_max: Blobs held at once.
        memory_bytes_max: Bytes of those that lie in memory.
    """

    def __init__(self, held_max: int, memory_bytes_max: int) -> None:
        self._held_max = held_max
        self._memory_bytes_max = memory_bytes_max
        self._held: dict[bytes, Held] = {}
        self._memory = 0
        self.reads = self.bytes_read = 0

    def check_room(self, memory: int = 0) -> None:
        """Raises:
        Overloaded: One more, with so many bytes in memory, would be too much.
        """
        if len(self._held) >= self._held_max:
            raise Overloaded(
                f"this node holds {len(self._held)} blobs (blobs.held_max)",
                hint="release what nobody will fetch any more: `async with`, or blob.release()",
            )
        if self._memory + memory > self._memory_bytes_max:
            raise Overloaded(
                f"{memory} bytes more in memory would exceed blobs.memory_bytes_max={self._memory_bytes_max}; "
                f"{self._memory} are held",
                hint="make the blob of a file, or release others",
            )

    def add(self, outline: Outline, content: Content) -> None:
        """Hold it, once more if it is held already: then the content given now is closed.

        Raises:
            Overloaded: See `check_room`; the content is closed then, too.
        """
        held = self._held.get(outline.id)
        if held is not None:
            held.times += 1
            if held.content is not content:
                content.close()
            return
        try:
            self.check_room(content.memory)
        except Overloaded:
            content.close()
            raise
        self._held[outline.id] = Held(outline, content)
        self._memory += content.memory

    def release(self, blob_id: bytes) -> None:
        """Hold it once less. What is not held is no error: the node may have stopped."""
        held = self._held.get(blob_id)
        if held is None:
            return
        held.times -= 1
        if not held.times:
            del self._held[blob_id]
            self._memory -= held.content.memory
            held.close_unused()

    def get(self, blob_id: bytes) -> Held | None:
        """What is held under this id."""
        return self._held.get(blob_id)

    def clear(self) -> None:
        """Release everything."""
        for held in self._held.values():
            held.times = 0
            held.close_unused()
        self._held.clear()
        self._memory = 0

    def stats(self) -> HoldingStats:
        return HoldingStats(
            held=len(self._held),
            held_bytes=sum(held.outline.size for held in self._held.values()),
            memory_bytes=self._memory,
            reads=self.reads,
            bytes_read=self.bytes_read,
        )


class BlobService:
    """`fdn.blob` of the wire specification, section 11: every public method is a request."""

    def __init__(self, holdings: Holdings, node_name: str, threads: Threads) -> None:
        self._holdings = holdings
        self._node_name = node_name
        self._threads = threads

    async def stat(self, request: Stat) -> dict[str, Any]:
        outline = self._find(request.id).outline
        return {"size": outline.size, "piece": outline.piece_bytes, "outline": outline.digest}

    async def outline(self, request: OutlineOf) -> bytes:
        outline = self._find(request.id).outline
        if request.first < 0 or not 0 < request.count <= OUTLINE_PIECES_MAX:
            raise BadRequest(
                f"digests of {request.count} pieces from {request.first}",
                hint=f"ask for 1 to {OUTLINE_PIECES_MAX} at once",
            )
        return outline.pieces[request.first * DIGEST_BYTES : (request.first + request.count) * DIGEST_BYTES]

    async def read(self, request: Read) -> Buffer:
        held = self._find(request.id)
        offset, length, size = request.offset, request.length, held.outline.size
        if offset < 0 or not 0 < length <= READ_BYTES_MAX or offset + length > size:
            raise BadRequest(
                f"bytes {offset} to {offset + length} of a blob of {size}",
                hint=f"ask for 1 to {READ_BYTES_MAX} bytes that it has",
            )
        held.readers += 1
        try:
            if held.content.blocks:
                data = await self._threads.run(held.content.read, offset, length)
            else:
                data = held.content.read(offset, length)
        finally:
            held.readers -= 1
            held.close_unused()
        self._holdings.reads += 1
        self._holdings.bytes_read += length
        return data

    def _find(self, blob_id: bytes) -> Held:
        found = self._holdings.get(blob_id)
        if found is None:
            raise NotFound(
                f"node {self._node_name!r} does not hold blob {blob_id.hex()[:64]}",
                hint="it was released, or its holder was started again; ask for it anew",
            )
        return found

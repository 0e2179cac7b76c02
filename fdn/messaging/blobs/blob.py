"""`fdn.Blob`: a large immutable object, named by its content."""

import os
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from fdn.errors import Error
from fdn.messaging.blobs.outline import Buffer
from fdn.messaging.blobs.reference import HOLDERS_MAX, Reference

__all__ = ("Blob", "BlobHome", "Progress", "homes_of")

Progress = Callable[[int, int], object]


class BlobHome(Protocol):
    """The blobs of one node, as a `Blob` needs them."""

    def knows(self, reference: Reference) -> bool:
        """Whether this node sees one of the holders."""

    def pieces(self, reference: Reference) -> AsyncIterator[Buffer]: ...

    async def read(self, reference: Reference, progress: Progress | None) -> memoryview: ...

    async def save(
        self, reference: Reference, path: str | os.PathLike[str], progress: Progress | None, hold: bool
    ) -> None: ...

    def release(self, reference: Reference) -> None: ...


_homes: "weakref.WeakKeyDictionary[AbstractEventLoop, list[BlobHome]]" = weakref.WeakKeyDictionary()


def homes_of(loop: AbstractEventLoop) -> list[BlobHome]:
    """The nodes that run on this loop; they put themselves in, and take themselves out."""
    return _homes.setdefault(loop, [])


class Blob:
    """A reference to a large object, which may be sent in any message; the bytes are fetched by whoever wants them.

    ```python
    blob = await node.blob("model.bin")  # held by this node until it is released, or stops
    await node.call("train.load", blob)

    async def load(blob: fdn.Blob) -> None:  # on another node
        await blob.save("/var/cache/model.bin", progress=lambda done, size: ...)
    ```

    Equal content is an equal blob, whoever made it. A received one fetches by way of the node that runs on the current
    event loop; if several do, by one that sees a holder.

    Attributes:
        reference: What travels.
    """

    __slots__ = ("_home", "_times", "reference")

    def __init__(self, reference: Reference, home: BlobHome | None = None, times: int = 0) -> None:
        self.reference = reference
        self._home = home
        self._times = times  # how often its node holds it on our account

    @property
    def id(self) -> str:
        """BLAKE3-256 of the content, as 64 hex digits: what `b3sum` says."""
        return self.reference.id.hex()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self.reference.size

    @property
    def holders(self) -> tuple[str, ...]:
        """Ids of the nodes that are known to hold it."""
        return self.reference.holders

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and other.reference.id == self.reference.id

    def __hash__(self) -> int:
        return hash(self.reference.id)

    def __repr__(self) -> str:
        return f"<fdn.Blob {self.id[:12]} of {self.size} bytes, held by {', '.join(self.holders) or 'nobody'}>"

    async def __aenter__(self) -> "Blob":
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Hold it no longer on this object's account. Transfers of it that are under way go elsewhere, or fail.

        For a blob that was received and not held, nothing. Idempotent.
        """
        while self._times and self._home is not None:
            self._times -= 1
            self._home.release(self.reference)

    def pieces(self) -> AsyncIterator[Buffer]:
        """The content in order, piece by piece, each checked. Leaving the loop ends the transfer.

        Raises (when it is read):
            NotFound: Nobody holds it any more.
            Unreachable: No holder could be reached for `blobs.patience_s`.
            DeadlineExceeded: The scope's deadline passed.
            Corrupt: What every holder sent was not the blob.
        """
        return self._node().pieces(self.reference)

    async def read(self, progress: Progress | None = None) -> memoryview:
        """The content in memory, checked; read only.

        Args:
            progress: Called on the event loop with the bytes that are there and the size, after each piece.

        Raises:
            BadRequest: It is larger than `blobs.read_bytes_max`.
            As `pieces`.
        """
        return await self._node().read(self.reference, progress)

    async def save(self, path: str | os.PathLike[str], progress: Progress | None = None, hold: bool = False) -> None:
        """Fetch it into a file. `path` is replaced in one step when everything has come and was checked.

        What has come before a failure, a cancellation or a crash stays beside it as `NAME.<id>.part`, and is the
        beginning of the next attempt.

        Args:
            path: The target; its folder must exist.
            progress: As for `read`; what an earlier attempt left counts.
            hold: Hold the file here from then on, as a further source, until `release`.

        Raises:
            Conflict: Another transfer saves it there.
            OSError: It cannot be written.
            As `pieces`.
        """
        home = self._node()
        await home.save(self.reference, path, progress, hold)
        if hold:
            self._home = home
            self._times += 1

    def held_by(self, *nodes: str) -> "Blob":
        """The same blob, with further holders in its reference."""
        holders = tuple(dict.fromkeys((*self.holders, *nodes)))[:HOLDERS_MAX]
        reference = Reference(
            self.reference.id, self.reference.size, self.reference.piece, self.reference.outline, holders
        )
        return Blob(reference, self._home)

    def _node(self) -> BlobHome:
        if self._home is not None:
            return self._home
        homes = homes_of(get_running_loop())
        if not homes:
            raise Error(
                "no node runs on this event loop, so nothing can fetch a blob", hint="use it where the node lives"
            )
        return next((home for home in homes if home.knows(self.reference)), homes[0])

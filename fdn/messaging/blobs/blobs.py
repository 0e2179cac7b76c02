"""The blobs of one node: those that it holds, and those that it fetches."""

import asyncio
import contextlib
import dataclasses
import inspect
import os
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from threading import get_ident
from typing import Any

import blake3

from fdn.errors import BadRequest
from fdn.messaging.blobs.blob import Blob, Progress, homes_of
from fdn.messaging.blobs.content import Content, FileContent, MemoryContent, Spool
from fdn.messaging.blobs.fetching import Ask, Fetcher, FetchStats, Transfer
from fdn.messaging.blobs.holdings import BlobService, Holdings, HoldingStats
from fdn.messaging.blobs.outline import Buffer, Outline
from fdn.messaging.blobs.reference import Reference
from fdn.messaging.blobs.saving import PartFile, wrong_reference
from fdn.messaging.blobs.threads import Threads
from fdn.settings import BlobSettings

__all__ = ("BlobSource", "Blobs", "BlobsStats")

BlobSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | Iterable[bytes | bytearray | memoryview]
    | AsyncIterable[bytes | bytearray | memoryview]
)
_LONE = (str, os.PathLike)


@dataclasses.dataclass(frozen=True, slots=True)
class BlobsStats:
    """Counters since the start, and what is held now."""

    holdings: HoldingStats
    fetched: FetchStats


class Blobs:
    """See the module. All methods but `release` belong to the data plane's loop; what waits for disks runs on threads.

    Args:
        node: Node id.
        ask: Calls a node's `fdn.blob.*`.
        others: Ids of the members that can be reached now.
        knows: Whether a node id is one of a member.
        pause: Waits for so many seconds.

    Attributes:
        service: What answers `fdn.blob.*`.
    """

    def __init__(
        self,
        node: str,
        name: str,
        settings: BlobSettings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        ask: Ask,
        others: Callable[[], Sequence[str]],
        knows: Callable[[str], bool],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._node = node
        self._settings = settings
        self._loop = loop
        self._thread = get_ident()
        self._knows = knows
        self._threads = Threads()
        self._holdings = Holdings(settings.held_max, settings.memory_bytes_max)
        self._fetcher = Fetcher(ask, others, settings, loop, rng, pause)
        self.service = BlobService(self._holdings, name, self._threads)
        homes_of(loop).append(self)

    async def make(self, source: BlobSource) -> Blob:
        """Hold it from now on.

        Raises:
            OSError: The file cannot be read, or what comes cannot be spooled.
            Conflict: The file changed while it was read.
            Overloaded: The node holds too many, or too much in memory.
            BadRequest: It is no source, or has too many pieces.
        """
        self._holdings.check_room()
        try:
            content, outline = await self._outlined(source)
        except ValueError as error:
            raise BadRequest(f"no blob can be made of it: {error}", hint="raise blobs.piece_bytes") from error
        self._holdings.add(outline, content)
        reference = Reference(outline.id, outline.size, outline.piece_bytes, outline.digest, (self._node,))
        return Blob(reference, self, times=1)

    def knows(self, reference: Reference) -> bool:
        return any(self._knows(node) for node in reference.holders)

    async def pieces(self, reference: Reference) -> AsyncGenerator[Buffer, None]:
        transfer = Transfer(self._fetcher, reference)
        whole = blake3.blake3()
        async with contextlib.aclosing(transfer.pieces(await transfer.outline())) as pieces:
            async for piece in pieces:
                whole.update(piece)
                yield piece
        if whole.digest() != reference.id:
            raise wrong_reference(reference.id, whole.digest())

    async def read(self, reference: Reference, progress: Progress | None) -> memoryview:
        if reference.size > self._settings.read_bytes_max:
            raise BadRequest(
                f"a blob of {reference.size} bytes exceeds blobs.read_bytes_max={self._settings.read_bytes_max}",
                hint="save it to a file, or take it piece by piece",
            )
        came = 0
        buffer = memoryview(b"")
        async for piece in self.pieces(reference):
            if not came:  # not before: a size that somebody claims reserves no memory
                buffer = memoryview(bytearray(reference.size))
            buffer[came : came + len(piece)] = piece
            came += len(piece)
            if progress is not None:
                progress(came, reference.size)
        return buffer.toreadonly()

    async def save(
        self, reference: Reference, path: str | os.PathLike[str], progress: Progress | None, hold: bool
    ) -> None:
        if hold:
            self._holdings.check_room()
        transfer = Transfer(self._fetcher, reference)
        outline = await transfer.outline()
        part = await self._threads.run(PartFile, path, outline)
        try:
            if progress is not None:
                progress(part.size, reference.size)
            async with contextlib.aclosing(transfer.pieces(outline, part.pieces)) as pieces:
                async for piece in pieces:
                    await self._threads.run(part.append, piece)
                    if progress is not None:
                        progress(part.size, reference.size)
            await self._threads.run(part.finish)
        finally:
            part.close()
        if hold:
            self._holdings.add(outline, await self._threads.run(FileContent.open, path))

    def release(self, reference: Reference) -> None:
        if get_ident() == self._thread:
            self._holdings.release(reference.id)
        else:  # a program of `fdn.sync`
            self._loop.call_soon_threadsafe(self._holdings.release, reference.id)

    async def close(self) -> None:
        """Hold nothing any more. Idempotent."""
        homes = homes_of(self._loop)
        if self in homes:
            homes.remove(self)
        self._holdings.clear()
        self._threads.close()

    def stats(self) -> BlobsStats:
        return BlobsStats(self._holdings.stats(), self._fetcher.stats())

    async def _outlined(self, source: Any) -> tuple[Content, Outline]:
        piece_bytes = self._settings.piece_bytes
        if isinstance(source, _LONE):
            file = await self._threads.run(FileContent.open, source)
            try:
                return file, await self._threads.run(file.outline, piece_bytes)
            except BaseException:
                file.close()
                raise
        if isinstance(source, AsyncIterable) or (isinstance(source, Iterable) and not _is_buffer(source)):
            return await self._spooled(source)
        try:
            memory = MemoryContent(source)
        except (TypeError, ValueError) as error:
            raise BadRequest(
                f"no blob can be made of a {type(source).__name__}: {error}",
                hint="expected a path, a contiguous buffer, or an iterable of buffers",
            ) from error
        self._holdings.check_room(memory.memory)
        return memory, await self._threads.run(memory.outline, piece_bytes)

    async def _spooled(self, source: Any) -> tuple[Content, Outline]:
        spool = await self._threads.run(Spool, self._settings.spool_dir, self._settings.piece_bytes)
        try:
            async for part in _each(source):
                await self._threads.run(spool.write, part)
            return await self._threads.run(spool.finish)
        except BaseException:
            spool.close()
            raise


async def _each(source: Any) -> AsyncIterator[Buffer]:
    """The buffers of an iterable of either kind, which is closed in the end if it is a generator."""
    try:
        if isinstance(source, AsyncIterable):
            async for part in source:
                yield part
        else:
            for part in source:
                yield part
    finally:
        if inspect.isasyncgen(source):
            await source.aclose()
        elif inspect.isgenerator(source):
            source.close()


def _is_buffer(source: object) -> bool:
    try:
        memoryview(source)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True

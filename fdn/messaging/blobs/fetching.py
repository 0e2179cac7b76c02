"""Fetching a blob: piece by piece from whoever holds it, a bounded window of requests ahead.

Every piece is checked when it comes. A holder that does not answer is left for the next one and tried again after a
pause, for as long as `blobs.patience_s` since anything came: that bridges a lost link. A holder that no longer holds
the blob, or sends what does not match, is not asked again. When all have failed, the members are asked who else has
it.
"""

import asyncio
import collections
import dataclasses
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from fdn.context import scope_var
from fdn.errors import BadRequest, Conflict, Corrupt, Denied, Error, NotFound
from fdn.messaging.blobs.holdings import OUTLINE_PIECES_MAX, OutlineOf, Read, Stat
from fdn.messaging.blobs.outline import DIGEST_BYTES, Buffer, Outline, digest
from fdn.messaging.blobs.reference import Reference
from fdn.settings import BlobSettings

__all__ = ("Ask", "FetchStats", "Fetcher", "Transfer")

Ask = Callable[[str, str, Any, float, Any], Awaitable[Any]]  # node, request, payload, seconds, type of the result
_FINAL: Final = (
    NotFound,
    Conflict,
    Corrupt,
    Denied,
    BadRequest,
)  # this holder will not give it, however often it is asked
_PAUSE_S: Final = 0.05  # after every holder has failed once; doubles
_PAUSE_MAX_S: Final = 2.0
_ASKED_MAX: Final = 32  # members that are asked who holds a blob
_LOOK_EVERY_S: Final = 1.0
_LOOK_S_MAX: Final = 2.0  # for their answers


@dataclasses.dataclass(frozen=True, slots=True)
class FetchStats:
    """Counters since the start."""

    pieces: int  # that came and were good
    bytes: int
    retried: int  # requests made again, there or elsewhere
    corrupt: int  # answers that did not match


class Fetcher:
    """What all transfers of one node share.

    Args:
        ask: Calls `fdn.blob.*` on a node.
        others: Ids of the members that can be reached now.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        ask: Ask,
        others: Callable[[], Sequence[str]],
        settings: BlobSettings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self.ask = ask
        self.pause = pause
        self.settings = settings
        self.loop = loop
        self.rng = rng
        self._others = others
        self.pieces = self.bytes = self.retried = self.corrupt = 0

    def stats(self) -> FetchStats:
        return FetchStats(self.pieces, self.bytes, self.retried, self.corrupt)

    async def locate(self, reference: Reference, asked: Collection[str]) -> list[str]:
        """Members that hold it, of at most `_ASKED_MAX` that were not in `asked`."""
        members = [node for node in self._others() if node not in asked][:_ASKED_MAX]
        answers = await asyncio.gather(*(self._holds(node, reference) for node in members))
        return [node for node, holds in zip(members, answers, strict=True) if holds]

    async def _holds(self, node: str, reference: Reference) -> bool:
        timeout_s = min(self.settings.piece_timeout_s, _LOOK_S_MAX)
        try:
            answer = await self.ask(node, "fdn.blob.stat", Stat(reference.id), timeout_s, Any)
        except Error:
            return False
        wanted = {"size": reference.size, "piece": reference.piece, "outline": reference.outline}
        return isinstance(answer, dict) and wanted.items() <= answer.items()


class Transfer:
    """One blob on its way. It may be left and gone on with, at any piece."""

    def __init__(self, fetcher: Fetcher, reference: Reference) -> None:
        self._fetcher = fetcher
        self._reference = reference
        self._holders = list(reference.holders)
        self._given_up: set[str] = set()
        self._looked_at = -_LOOK_EVERY_S
        self._looking = asyncio.Lock()  # all requests under way lose a holder together
        self._came_at = fetcher.loop.time()

    async def outline(self) -> Outline:
        """The digests, checked against the reference.

        Raises:
            As `pieces`.
        """
        reference = self._reference
        count = reference.count
        while True:
            digests = bytearray()
            holder = ""
            for first in range(0, count, OUTLINE_PIECES_MAX):
                wanted = min(OUTLINE_PIECES_MAX, count - first)
                request = OutlineOf(reference.id, first, wanted)
                part, holder = await self._request("fdn.blob.outline", request, wanted * DIGEST_BYTES)
                digests += part
            if digest(digests) == reference.outline:
                return Outline(reference.id, reference.size, reference.piece, bytes(digests))
            mismatch = self._mismatch(f"the outline from node {holder}" if count else "an empty outline")
            if not count:
                raise mismatch
            await self._give_up(holder, mismatch)

    async def pieces(self, outline: Outline, first: int = 0) -> AsyncGenerator[Buffer, None]:
        """The pieces in order, from `first` on, each checked. At most `blobs.window_pieces` are asked for ahead.

        Raises:
            NotFound: Nobody holds it any more.
            Unreachable: No holder could be reached for `blobs.patience_s`.
            DeadlineExceeded: The scope's deadline has passed, or no holder answered in that time.
            Corrupt: What every holder sent was not the blob.
        """
        window = self._fetcher.settings.window_pieces
        asked: collections.deque[asyncio.Task[Buffer]] = collections.deque()
        following = first
        try:
            while asked or following < outline.count:
                while following < outline.count and len(asked) < window:
                    asked.append(self._fetcher.loop.create_task(self._piece(outline, following)))
                    following += 1
                piece = await asked[0]
                asked.popleft()
                self._fetcher.pieces += 1
                self._fetcher.bytes += len(piece)
                yield piece
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _piece(self, outline: Outline, index: int) -> Buffer:
        offset, length = outline.span(index)
        request = Read(outline.id, offset, length)
        while True:
            piece, holder = await self._request("fdn.blob.read", request, length)
            if outline.matches(index, piece):
                return piece
            await self._give_up(holder, self._mismatch(f"piece {index} from node {holder}"))

    async def _request(self, name: str, payload: msgspec.Struct, length: int) -> tuple[Buffer, str]:
        """What the first holder that answers says, and which that was."""
        fetcher, settings = self._fetcher, self._fetcher.settings
        failures = 0
        while True:
            holder = await self._holder()
            try:
                answer = await fetcher.ask(holder, name, payload, settings.piece_timeout_s, memoryview)
                if not isinstance(answer, memoryview) or len(answer) != length:
                    raise self._mismatch(f"the answer of node {holder} to {name}")
                self._came_at = fetcher.loop.time()
                return answer, holder
            except _FINAL as error:
                await self._give_up(holder, error)
            except Error:
                now = fetcher.loop.time()
                scope = scope_var.get()
                late = scope is not None and scope.deadline_at and now >= scope.deadline_at
                if late or now - self._came_at >= settings.patience_s:
                    raise
                failures += 1
                fetcher.retried += 1
                self._pass_over(holder)
                if failures % len(self._holders) == 0:
                    await self._look_further()
                    await fetcher.pause(self._pause(failures // len(self._holders)))

    def _pause(self, rounds: int) -> float:
        most: float = min(_PAUSE_S * 2.0 ** min(rounds, 10), _PAUSE_MAX_S)
        return most * (0.5 + self._fetcher.rng.random() / 2)

    async def _holder(self) -> str:
        if not self._holders:
            await self._find_other(None)
        return self._holders[0]

    def _pass_over(self, holder: str) -> None:
        # All requests under way fail together; the first of them puts the holder last, the others find it done.
        if len(self._holders) > 1 and self._holders[0] == holder:
            self._holders.append(self._holders.pop(0))

    async def _give_up(self, holder: str, error: Error) -> None:
        """Ask this holder no more.

        Raises:
            Error: This one, if there is no other.
        """
        self._fetcher.retried += 1
        self._given_up.add(holder)
        if holder in self._holders:
            self._holders.remove(holder)
        if not self._holders:
            await self._find_other(error)

    async def _find_other(self, error: Error | None) -> None:
        await self._look_further()
        if not self._holders:
            raise error or NotFound(
                f"no member holds blob {self._reference.id.hex()}", hint="ask its maker for it anew"
            )

    async def _look_further(self) -> None:
        """Ask the members who else has it, unless that was just done."""
        fetcher = self._fetcher
        async with self._looking:
            if fetcher.loop.time() - self._looked_at >= _LOOK_EVERY_S:
                known = {*self._holders, *self._given_up}
                found = await fetcher.locate(self._reference, known)
                self._holders[:0] = [node for node in found if node not in self._given_up]  # these answer
                self._looked_at = fetcher.loop.time()

    def _mismatch(self, what: str) -> Corrupt:
        self._fetcher.corrupt += 1
        return Corrupt(
            f"{what} does not match blob {self._reference.id.hex()}", hint="fetch it again, or from another holder"
        )

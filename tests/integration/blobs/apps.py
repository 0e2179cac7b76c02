"""What the nodes of these tests do: make, hold, fetch and lose large objects."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

import fdn
from transports.shm.segment import segment_of

app = fdn.App("blobs")
held: list[Any] = []


class Fetched(msgspec.Struct):
    """How a transfer went.

    Attributes:
        peak: Bytes of memory that it took at most, above what the process had before.
        resumed_at: Bytes that were there when it began.
    """

    peak: int
    resumed_at: int
    retried: int


@app.service("blobs")
class Blobs:
    def __init__(self, node: fdn.Node) -> None:
        self._node = node
        self._done = 0

    async def make(self, path: str) -> fdn.Blob:
        return await self._node.blob(path)

    async def fetch(self, blob: fdn.Blob, path: str) -> Fetched:
        told: list[int] = []

        def progress(done: int, size: int) -> None:
            told.append(done)
            self._done = done

        before = (await self._node.stats()).blobs.fetched.retried
        at_first = begin_peak()
        await blob.save(path, progress=progress)
        retried = (await self._node.stats()).blobs.fetched.retried - before
        return Fetched(peak() - at_first, told[0], retried)

    def done(self) -> int:
        return self._done

    def begin_peak(self) -> int:
        return begin_peak()

    def peak(self) -> int:
        return peak()


@app.service("shared")
class Shared:
    def __init__(self, node: fdn.Node) -> None:
        self._node = node

    def hold(self, array: Any) -> bool:
        """Whether what came lies in shared memory."""
        held.append(array)
        return segment_of(array) is not None

    def total(self) -> float:
        return sum(float(array.sum()) for array in held)

    def drop(self) -> None:
        held.clear()

    async def pass_on(self, to: str, count: int, value: int) -> list[bool]:
        array = self._node.shared_array(count, "uint8")
        array[:] = value
        return [await self._node.call(f"shared.hold@{to}", array)]

    async def keep(self, count: int) -> None:
        array = self._node.shared_array(count, "uint8")
        array[:] = 1
        held.append(array)

    async def cast_to(self, to: str, count: int) -> None:
        array = self._node.shared_array(count, "uint8")
        array[:] = 1
        await self._node.cast(f"shared.hold@{to}", array)

    async def stats(self) -> dict[str, int]:
        counted: dict[str, int] = msgspec.to_builtins((await self._node.stats()).shared)
        return counted

    def die_soon(self) -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)


def begin_peak() -> int:
    """Let the system measure the highest memory from now on; what there is now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Highest resident memory, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

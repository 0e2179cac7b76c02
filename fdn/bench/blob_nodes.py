"""A node that holds a blob and one that fetches it, each a process, as `fdn bench blob` drives them."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

import fdn
from fdn.app import App
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import exchange, orders_on_loop
from fdn.node import Node
from fdn.settings import Settings, SharedSettings

__all__ = ("holder", "taker")

_MIB: Final = 1024 * 1024
_TIMEOUT_S: Final = 300.0


def holder(endpoint: str, folder: str, shared: bool) -> None:
    """Make a blob of a file, or of shared memory, for whoever asks."""
    app = App("bench")

    @app.service("bench.make")
    async def make(size: int, node: Node) -> fdn.Blob:
        if shared:
            buffer = await asyncio.to_thread(node.shared_buffer, size)
            await asyncio.to_thread(_fill, buffer)
            return await node.blob(buffer)
        path = Path(folder, "original")
        await asyncio.to_thread(_write, path, size)
        return await node.blob(path)

    async def main() -> None:
        async with Node(app, settings=_settings("holder", endpoint, shared)) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def _fill(buffer: memoryview) -> None:
    piece = os.urandom(_MIB)
    for start in range(0, len(buffer), _MIB):
        buffer[start : start + _MIB] = piece[: len(buffer) - start]


def _write(path: Path, size: int) -> None:
    piece = os.urandom(_MIB)
    with open(path, "wb") as file:
        file.writelines(piece[: size - start] for start in range(0, size, _MIB))


def taker(endpoint: str, join: str, shared: bool) -> None:
    """Join the holder, and fetch as ordered: `make`, then `take`."""
    made: list[fdn.Blob] = []

    async def main() -> None:
        async with Node(settings=_settings("taker", endpoint, shared, join)) as node:

            async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
                if order["order"] == "make":
                    made.append(await node.call("bench.make", order["size"], returns=fdn.Blob, timeout=_TIMEOUT_S))
                    return {"size": made[-1].size}
                return await _take(made[-1])

            await orders_on_loop({}, carry_out)

    run_loop(main)


async def _take(blob: fdn.Blob) -> dict[str, Any]:
    """Fetch all of it, checked, and keep nothing: what the disk can do is not what is measured."""
    taken, started = 0, time.perf_counter()
    async for piece in blob.pieces():
        taken += len(piece)
    return {"received": taken, "elapsed_s": time.perf_counter() - started}


def _settings(name: str, endpoint: str, shared: bool, *join: str) -> Settings:
    return Settings(name=name, cluster=CLUSTER, bind=endpoint, join=join, shared=SharedSettings(enabled=shared))

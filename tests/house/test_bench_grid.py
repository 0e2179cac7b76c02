"""`python3 -m tools bench --grid`: a longer way between two processes, and every cell of the grid."""

import asyncio
import contextlib
import json
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fdn.bench import erlang
from tools import bench
from tools.peers import delay_proxy, environment, grid, machine
from tools.peers.delay_proxy import DelayProxy
from tools.peers.grid import GridPlan
from tools.progress import StepFailedError

ROOT = Path(__file__).parents[2]


def on_select(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main())


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def echo_behind(proxy: DelayProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = await proxy.listen(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()
    await writer.wait_closed()
    server.close()


def test_everything_passes_in_order_and_later() -> None:
    async def main() -> None:
        proxy = DelayProxy(0.02)
        loop = asyncio.get_running_loop()
        async for reader, writer in echo_behind(proxy):
            started = loop.time()
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            assert loop.time() - started >= 0.04
            sent = bytes(range(256)) * 40_000  # more than a window
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            proxy.delay_s = 0.0
            writer.write_eof()
        await proxy.close()

    on_select(main)


def test_no_more_than_a_window_is_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_proxy, "WINDOW_BYTES", 100_000)
    held: list[int] = []

    class Watched(delay_proxy._End):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            held.append(self._bytes)

    monkeypatch.setattr(delay_proxy, "_End", Watched)

    async def main() -> None:
        proxy = DelayProxy(0.005)
        async for reader, writer in echo_behind(proxy):
            writer.write(bytes(2_000_000))
            await reader.readexactly(2_000_000)
        await proxy.close()

    on_select(main)
    assert max(held) < 100_000 + 300_000  # one read more than the window


def test_whoever_is_not_there_is_gone() -> None:
    async def main() -> None:
        proxy = DelayProxy()
        port = await proxy.listen(1)  # where nobody listens
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await proxy.close()

    on_select(main)


def cell(who: str, per_s: float, senders: int = 1) -> dict[str, Any]:
    figures = {"per_s": per_s, "lowest": per_s, "highest": per_s, "mb_s": 1.0}
    return {"round_trip_ms": 20.0, "size": 524_288, "senders": senders, "who": who, **figures}


def test_cells_below_one_are_told_too() -> None:
    cells = [cell("fdn", 10.0), cell("fdn, 4 lanes", 40.0), cell("b0", 20.0), cell("erlang", 80.0)]
    cells += [cell("fdn", 90.0, 8), cell("fdn, 4 lanes", 40.0, 8), cell("b0", 20.0, 8), cell("erlang", 10.0, 8)]
    result = {"cells": cells, "skipped": {"erlang": "not installed"}}
    head, first, second, last = grid.table(result)
    assert "to erlang" in head
    assert first.split()[:5] == ["20", "ms", "512", "KiB", "1"]
    assert first.split()[-2:] == ["2.00x", "0.50x"]
    assert second.split()[-2:] == ["4.50x", "9.00x"]
    assert last == "erlang was not measured: not installed"
    told = {"cells": 2, "below": 1, "lowest": 0.5, "mean": 2.12, "highest": 9.0}
    assert grid.summary(result, "erlang") == told


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans: list[GridPlan] = []

    def run(root: Path, plan: GridPlan, out: Path | None) -> int:
        plans.append(plan)
        return 0

    with pytest.raises(StepFailedError, match="there is no folder"):
        grid.run(ROOT, GridPlan(), tmp_path / "none" / "grid.json")
    monkeypatch.setattr(grid, "run", run)
    assert bench.bench(ROOT, ["--grid", "--quick"]) == 0
    assert bench.bench(ROOT, ["--grid"]) == 0
    assert (plans[0].senders, plans[1].senders) == ((1, 128), (1, 8, 32, 128))
    with pytest.raises(SystemExit):
        bench.bench(ROOT, ["--grid", "--peers", "pyzmq"])


@pytest.mark.slow
def test_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environment, "ensure_all", lambda root, names: (None, {"erlang": erlang.missing()}))
    if not erlang.missing():
        monkeypatch.setattr(environment, "ensure_all", lambda root, names: (None, {}))
    out = tmp_path / "grid.json"
    plan = GridPlan(round_trips_s=(0.004,), sizes=(1024, 524_288), senders=(1, 4), seconds=0.1, rounds=1)
    assert grid.run(ROOT, plan, out) == 0
    result = json.loads(out.read_text())
    names = {"fdn", "fdn, 4 lanes", "b0"} | (set() if erlang.missing() else {"erlang"})
    assert len(result["cells"]) == 2 * 2 * len(names)
    for one in result["cells"]:
        assert one["who"] in names
        # Nobody is quicker than the way is long.
        assert 0 < one["per_s"] <= one["senders"] / 0.004
    assert capsys.readouterr().out.count("x") >= 4


def test_a_machine_says_how_busy_it_was() -> None:
    with machine.watched() as found:
        assert found["cores"] >= 1
    assert found["others_cores"] >= 0
    assert found["elapsed_s"] >= 0

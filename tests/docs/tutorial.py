"""The tutorial's app, started from its text, with each of its processes killed in turn while a customer asks.

    python -m tests.docs.tutorial        prints what happened, as JSON

The six processes are started by the very commands that the tutorial shows; a killed one is started again by its own.
"""

import dataclasses
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import fdn
import fdn.sync
from tests.docs.conftest import Stage, free_ports
from tests.docs.snippets import ROOT, blocks, commands

__all__ = ("Killed", "survive")

TUTORIAL: Final = ROOT / "docs" / "tutorial.md"
LINE: Final = [{"article": "lamp", "pieces": 12}]
CENTS: Final = 27_000
_AMPLE_S: Final = 30.0


@dataclasses.dataclass
class Killed:
    """What happened around the death of one process."""

    name: str
    quotes: int = 0  # answered between the kill and the return
    longest_ms: float = 0.0
    failed: list[str] = dataclasses.field(default_factory=list)


class _Customer:
    """Asks for one quote after the other, on a thread."""

    def __init__(self, *endpoints: str) -> None:
        self.now = Killed("nobody")
        self._endpoints = endpoints
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="customer")

    def __enter__(self) -> "_Customer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self._thread.join(_AMPLE_S)

    def _ask(self) -> None:
        with fdn.sync.Client(*self._endpoints) as client:
            while not self._enough.is_set():
                began = time.perf_counter()
                try:
                    quote = client.call("orders.quote", LINE, retry=10)
                    assert quote["cents"] == CENTS, quote
                except (fdn.Error, AssertionError) as error:
                    self.now.failed.append(f"{type(error).__name__}: {error}")
                now = self.now
                now.quotes += 1
                now.longest_ms = max(now.longest_ms, (time.perf_counter() - began) * 1000)


def survive(stage: Stage) -> list[Killed]:
    """Start everything, then kill and restart each process; what each death did to the customer."""
    processes: dict[str, Any] = {}
    told: dict[str, str] = {}
    for block in blocks(TUTORIAL):
        if block.mark == "file":
            stage.write(block.name, block.text)
        elif block.mark == "background":
            for command, _ in commands(block):
                name = command.split("--name ")[1].split()[0]
                told[name] = command
                processes[name] = stage.start(command)
    base = stage.base_port
    results = []
    with _Customer(*(f"tcp://127.0.0.1:{base + offset}" for offset in (0, 4, 16))) as customer:
        _until(lambda: customer.now.quotes >= 20, "the customer's first quotes")
        for name, command in told.items():
            killed = customer.now = Killed(name)
            processes[name].kill()
            processes[name].wait()
            _until(lambda killed=killed: killed.quotes >= 50, f"quotes while {name} is dead")
            processes[name] = stage.start(command)
            after = killed.quotes + 50
            _until(lambda killed=killed, after=after: killed.quotes >= after, f"quotes after {name} is back")
            results.append(killed)
    return results


def _until(true: Any, what: str) -> None:
    gives_up_at = time.monotonic() + _AMPLE_S
    while not true():
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"waited {_AMPLE_S:g} s for {what}")
        time.sleep(0.01)


def main() -> int:
    """Run it, print the results, and say with the exit status whether no call failed."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), free_ports())
        try:
            results = survive(stage)
        finally:
            stage.end()
    print(json.dumps([dataclasses.asdict(killed) for killed in results], indent=2))
    return 1 if any(killed.failed for killed in results) else 0


if __name__ == "__main__":
    sys.exit(main())

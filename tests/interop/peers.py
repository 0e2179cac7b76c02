"""The programs of other languages, driven over a pipe: a command a line, and lines that say what happened.

What they understand is told in `README.md`.
"""

import dataclasses
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tools import components

__all__ = ("LANGUAGES", "ROOT", "Failure", "Language", "Peer", "meaning")

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
PATIENCE_S: Final = 20.0  # a busy machine is slow; nothing is asserted about it


def meaning(written: Any) -> Any:
    """What a value stands for that is written in the notation of `vectors.json`."""
    match written:
        case {"bin": str(digits)}:
            return bytes.fromhex(digits)
        case {"map": list(items)}:
            return {meaning(key): meaning(value) for key, value in items}
        case {"int": str(digits)}:
            return int(digits)
        case dict():
            return {key: meaning(value) for key, value in written.items()}
        case list():
            return [meaning(value) for value in written]
    return written


@dataclasses.dataclass(frozen=True)
class Language:
    """One program: why it cannot run here, if so, and how to make it ready."""

    name: str
    missing: Callable[[Path], str]
    prepare: Callable[[Path], Sequence[str | Path]]


def _node(folder: Path) -> Sequence[str | Path]:
    del folder
    return ("node", HERE / "node" / "peer.js")


def _c(folder: Path) -> Sequence[str | Path]:
    done = subprocess.run(
        ["make", "-C", HERE / "c", f"BUILD={folder}"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return (folder / "peer",)


LANGUAGES: Final = {
    "node": Language("node", components.missing_node, _node),
    "c": Language("c", components.missing_c, _c),
}


class Failure(Exception):
    """A command of the peer's failed: the body of the ERROR."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(f"{body.get('code')}: {body.get('message')}")
        self.body = body
        self.code = body.get("code")


class Peer:
    """One running program. Commands have numbers, and what is said about one carries it."""

    def __init__(self, language: str, command: Sequence[str | Path]) -> None:
        self.language = language
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._numbers = itertools.count(1)
        self._said: list[dict[str, Any]] = []
        self._rest = b""

    def name(self, what: str) -> str:
        """A name of a service or subject that no other test of a shared cluster uses."""
        return f"{self.language}{self.process.pid}.{what}"

    def tell(self, verb: str, **arguments: Any) -> int:
        """Give a command, and return its number."""
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "do": verb, **arguments}).encode() + b"\n")
        return number

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Give a command, and return its result.

        Raises:
            Failure: It failed.
        """
        return self.result(self.tell(verb, **arguments))

    def result(self, number: int) -> Any:
        """What became of a command; see `ask`."""
        line = self.wait(lambda line: line.get("re") == number and ("ok" in line or "error" in line))
        if "error" in line:
            raise Failure(line["error"])
        return line["ok"]

    def next(self, number: int, key: str) -> Any:
        """The next that is said about a command under this key, such as an `item` or `event`."""
        return self.wait(lambda line: line.get("re") == number and key in line)[key]

    def news(self, key: str) -> dict[str, Any]:
        """The next line that is about no command and has this key."""
        return self.wait(lambda line: "re" not in line and key in line)

    def items(self, number: int) -> list[Any]:
        """All items of a stream, to its end."""
        self.wait(lambda line: line.get("re") == number and ("ok" in line or "error" in line), keep=True)
        return [line["item"] for line in self.said(number, "item")]

    def said(self, number: int, key: str) -> list[dict[str, Any]]:
        """What has been said by now about a command under this key, and not been taken yet."""
        self.ask("nothing")
        mine: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for line in self._said:
            (mine if line.get("re") == number and key in line else others).append(line)
        self._said = others
        return mine

    def wait(self, wanted: Callable[[dict[str, Any]], bool], *, keep: bool = False) -> dict[str, Any]:
        """The first line that is wanted, of those not yet taken."""
        give_up_at = time.monotonic() + PATIENCE_S
        looked_at = 0
        while True:
            for line in self._said[looked_at:]:
                looked_at += 1
                if wanted(line):
                    if not keep:
                        self._said.remove(line)
                    return line
            self._read(give_up_at)

    def _read(self, give_up_at: float) -> None:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, give_up_at - time.monotonic()))
        assert readable, f"{self.language} said nothing of the kind within {PATIENCE_S} s; unread: {self._said[-20:]}"
        chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        assert chunk, f"{self.language} ended with {self.process.wait(10)}; unread: {self._said[-20:]}"
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._said += [meaning(json.loads(line)) for line in lines]

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

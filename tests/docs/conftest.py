"""Runs what the documents show: each document in a folder, on ports and with a home of its own."""

import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.docs.snippets import ROOT

PORTS = 32  # the documents count from 7400


class Stage:
    """A folder, a group of free ports, and the processes that were started there."""

    def __init__(self, folder: Path, base_port: int) -> None:
        self.folder = folder
        self.base_port = base_port
        self._running: list[subprocess.Popen[str]] = []
        self._drains: list[threading.Thread] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FDN_", "PYTHON"))}
        self._env = kept | {
            "PYTHONPATH": f"{ROOT}:{folder}",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_PLUGINS": "fdn.testing.plugin",  # as it is where fdn is installed
            "XDG_CONFIG_HOME": str(folder / "config"),
            "FDN_JOIN": f"127.0.0.1:{base_port}",  # so that no command looks at 7400
        }

    def here(self, text: str) -> str:
        """Text from a document, on the ports of this stage."""
        return re.sub(r"\b74(\d\d)\b", lambda match: str(self.base_port + int(match[1])), text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(self.here(text), encoding="utf-8")
        return path

    def run(self, command: str) -> str:
        """What a command prints. It must end with 0."""
        done = subprocess.run(
            self._command(command),
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def popen(self, command: str) -> subprocess.Popen[str]:
        """Start a command; it is ended with the stage."""
        process = subprocess.Popen(
            self._command(command),
            cwd=self.folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a node, and return when it says that it runs."""
        process = self.popen(command)
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if " runs at " in line:
                # Nobody reads on, and a full pipe would stop the process.
                drain = threading.Thread(target=_drain, args=(process.stderr,), daemon=True)
                drain.start()
                self._drains.append(drain)
                return process
        pytest.fail(f"{command}: ended with {process.wait()} and said\n{''.join(said)}")

    def end(self) -> None:
        """Kill what runs, and close its pipes."""
        for process in self._running:
            process.kill()
            process.wait()
        for drain in self._drains:
            drain.join()
        for process in self._running:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _command(self, command: str) -> list[str]:
        program, *arguments = shlex.split(self.here(command), comments=True)
        return {"python": [sys.executable], "fdn": [sys.executable, "-m", "fdn.cli"]}[program] + arguments


def _drain(stream: IO[str]) -> None:
    for _ in stream:
        pass


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, free_ports())
    yield made
    made.end()


def free_ports() -> int:
    """The first of a group of free ports, below those that the system gives out by itself."""
    first = 20_000 + os.getpid() * PORTS % 8_000
    for base in range(first, first + 4_000, PORTS):
        sockets = [socket.socket() for _ in range(PORTS)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        else:
            return base
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free group of ports")

"""A command on a terminal of its own: what it shows there, and what a person types."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ("FDN", "Terminal", "plain")

FDN: Final = (sys.executable, "-m", "fdn.cli")
_PATIENCE_S: Final = 30.0
_SEQUENCE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return _SEQUENCE.sub("", text)


class Terminal:
    """One process on a terminal of its own; use it as a context manager, which kills it.

    Attributes:
        seen: Everything that was shown so far.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._here, there = pty.openpty()
        self.seen = ""
        self._read = 0
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "TERM": "xterm", "COLUMNS": "200"},
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
            preexec_fn=_take_over,
        )
        os.close(there)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        os.close(self._here)

    def type(self, text: str) -> None:
        os.write(self._here, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.type("\x03")

    def wait_for(self, text: str) -> str:
        """Return what was shown from the last such call on up to `text`, once it is there."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while (at := self.seen.find(text, self._read)) < 0:
            readable, _, _ = select.select([self._here], [], [], max(give_up_at - time.monotonic(), 0))
            more = self._take() if readable else ""
            assert more, f"no {text!r} in {self.seen[self._read :]!r}"
        shown = self.seen[self._read : at]
        self._read = at + len(text)
        return shown

    def wait(self) -> int:
        """The exit status, once everything is shown."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while select.select([self._here], [], [], max(give_up_at - time.monotonic(), 0))[0] and self._take():
            pass
        return self._process.wait(max(give_up_at - time.monotonic(), 0.1))

    def _take(self) -> str:
        try:
            more = os.read(self._here, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: nobody is at the other end any more
            return ""
        self.seen += more
        return more


def _take_over() -> None:
    """In the child: make the terminal its own, so that Ctrl-C is a signal, and hear it even if the tests do not."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)

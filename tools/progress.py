"""Steps that take a while: one line each with its seconds, and a command's output only when it failed."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

__all__ = ("Step", "StepFailedError", "describe", "run_quietly")

_LINE_WIDTH: Final = 100


class StepFailedError(Exception):
    """A step that the verb cannot do without has failed. The text is for the person at the terminal."""


class Step:
    """One line of progress: the title while it runs, the seconds and the outcome once it is over.

    On a terminal the line is redrawn with the latest news of the command; elsewhere it is written once, at the end.
    """

    def __init__(self, title: str, stream: TextIO) -> None:
        self._title = title
        self._stream = stream
        self._begun = time.monotonic()
        self._live = stream.isatty()
        self.news("")

    def news(self, line: str) -> None:
        """Redraw with what the command said last."""
        if self._live:
            text = f"{self._title} … {time.monotonic() - self._begun:.0f} s  {line.strip()}"
            self._stream.write(f"\r\x1b[K{text[:_LINE_WIDTH]}")
            self._stream.flush()

    def over(self, outcome: str) -> None:
        """Write the line for good."""
        start = "\r\x1b[K" if self._live else ""
        self._stream.write(f"{start}{self._title:<44} {outcome:<6} {time.monotonic() - self._begun:6.1f} s\n")
        self._stream.flush()


def run_quietly(title: str, command: Sequence[str | Path], cwd: Path, stream: TextIO = sys.stderr) -> tuple[bool, str]:
    """Run a command under one line of progress.

    Args:
        title: What the person at the terminal is waiting for.
        command: The command; it gets no input and this process' environment.
        cwd: Where it runs.
        stream: Where the line goes: stderr when stdout belongs to the verb's own data.

    Returns:
        Whether it exited with 0, and all it printed.
    """
    step = Step(title, stream)
    output: list[str] = []
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                output.append(line)
                step.news(line)
            good = process.wait() == 0
        except BaseException:
            # Ctrl-C reaches the command too, SIGTERM does not; none may go on writing behind our back.
            process.terminate()
            step.over("broken off")
            raise
    step.over("ok" if good else "FAILED")
    return good, "".join(output)


def describe(command: Sequence[str | Path]) -> str:
    """The command as one would type it."""
    return shlex.join(str(part) for part in command)

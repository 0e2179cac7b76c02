"""How far the work is: a bar on a terminal, and otherwise a line now and then."""

import dataclasses
from collections.abc import Mapping
from typing import Final, TextIO

__all__ = ("Progress",)

_CELLS: Final = 28
_REDRAW_S: Final = 0.1
_STEPS: Final = 5  # lines in all where there is no terminal


@dataclasses.dataclass(slots=True)
class Progress:
    """Draws on one stream.

    Attributes:
        stream: Usually standard error.
        total: Pieces of work.
        bar: Whether the stream is a terminal that can redraw a line.
        started: When the work began, in the seconds that `update` is given.
    """

    stream: TextIO
    total: int
    bar: bool
    started: float
    _drawn_at: float = -1.0
    _steps: int = 0
    _width: int = 0

    def update(self, done: int, by_node: Mapping[str, int], now: float) -> None:
        """Show that `done` pieces are done, if it is time to."""
        if self.bar:
            if now - self._drawn_at < _REDRAW_S and done < self.total:
                return
            self._drawn_at = now
            cells = _CELLS * done // max(self.total, 1)
            self._redraw(f"[{'#' * cells}{'.' * (_CELLS - cells)}] {self._text(done, by_node, now)}")
        elif done * _STEPS // max(self.total, 1) > self._steps:
            self._steps = done * _STEPS // max(self.total, 1)
            self.stream.write(self._text(done, by_node, now) + "\n")
            self.stream.flush()

    def clear(self) -> None:
        """Wipe the bar, so that a line of text may stand there."""
        if self._width:
            self._redraw("")
            self.stream.write("\r")
            self.stream.flush()

    def _redraw(self, text: str) -> None:
        self.stream.write("\r" + text.ljust(self._width))
        self.stream.flush()
        self._width = len(text)

    def _text(self, done: int, by_node: Mapping[str, int], now: float) -> str:
        rate = done / max(now - self.started, 1e-6)
        shares = "  ".join(f"{name} {count}" for name, count in sorted(by_node.items()))
        return f"{done}/{self.total} files  {rate:.0f}/s  {shares}"

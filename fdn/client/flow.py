"""Both ends of a stream's window. Wire format: `docs/spec/0001-wire.md`, section 4.6.

Totals are absolute and count from the CALL, items and octets of their bodies. A sender may begin an item while both of
its counts are below the totals granted, so it may overshoot by one item's bytes.
"""

import collections
from typing import Any

from fdn.client.codec import pair_of
from fdn.errors import Error

__all__ = ("Inflow", "Outflow")


class Inflow:
    """The receiving end: what has come and is not read.

    Args:
        items: Window in items.
        size: Window in octets.
        granted: Whether the sender knows the first window already, from the CALL.

    Attributes:
        ended: Whether nothing more will come.
        error: Why it ended, if it failed.
    """

    def __init__(self, items: int, size: int, *, granted: bool) -> None:
        self._window = (items, size)
        self._granted = self._window if granted else (0, 0)
        self._got_items = self._got_bytes = self._read_items = self._read_bytes = 0
        self._waiting: collections.deque[tuple[Any, int]] = collections.deque()
        self.ended = False
        self.error: Error | None = None

    def __len__(self) -> int:
        """Items to read."""
        return len(self._waiting)

    @property
    def window(self) -> list[int]:
        """As the CALL tells it."""
        return list(self._window)

    def put(self, value: Any, size: int) -> bool:
        """An item came in; False if it is beyond the window, and not taken."""
        if self._got_items >= self._granted[0] or self._got_bytes >= self._granted[1]:
            return False
        self._got_items += 1
        self._got_bytes += size
        self._waiting.append((value, size))
        return True

    def take(self) -> Any:
        """The oldest item; there must be one."""
        value, size = self._waiting.popleft()
        self._read_items += 1
        self._read_bytes += size
        return value

    def end(self, error: Error | None = None) -> None:
        """Nothing more comes; what has come can still be read."""
        if not self.ended:
            self.ended = True
            self.error = error

    def grant(self) -> list[int] | None:
        """New totals to tell the sender, once half of the window has been read; else None."""
        items, size = self._read_items + self._window[0], self._read_bytes + self._window[1]
        gain = max((items - self._granted[0]) / self._window[0], (size - self._granted[1]) / self._window[1])
        if self.ended or gain < 0.5:
            return None
        self._granted = (items, size)
        return [items, size]


class Outflow:
    """The sending end.

    Args:
        window: What may be sent at first; None sets no limit.
    """

    def __init__(self, window: tuple[int, int] | None) -> None:
        self._granted = window
        self._sent = (0, 0)

    @property
    def may_send(self) -> bool:
        """Whether an item may be sent now."""
        granted = self._granted
        return granted is None or (self._sent[0] < granted[0] and self._sent[1] < granted[1])

    def sent(self, size: int) -> None:
        """An item with a body of so many octets is on its way."""
        self._sent = (self._sent[0] + 1, self._sent[1] + size)

    def on_credit(self, body: Any) -> None:
        """A CREDIT of this stream came in."""
        granted = pair_of(body)
        if granted is not None and self._granted is not None:
            self._granted = (max(self._granted[0], granted[0]), max(self._granted[1], granted[1]))

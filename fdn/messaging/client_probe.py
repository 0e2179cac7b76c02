"""Notices that clients have died.

A client that dies says nothing, and libzmq tells of it only when something is sent. So a client for which work is open
that may stay silent for long (a stream that it does not read, a service that it offers) is sent a word without meaning
now and then.
"""

import asyncio
import collections
from collections.abc import Callable
from typing import Final

from fdn.messaging.payloads import encode
from fdn.runtime.sessions import Session
from transports.wire.envelope import Envelope, Kind

__all__ = ("ClientProbe",)

_PROBE_S: Final = 1.0  # between two words to one client
# A CREDIT of an epoch that never was: section 6 of spec 0001 has it ignored.
_MEANINGLESS: Final = Envelope(Kind.CREDIT, "", 0, 0, None, encode((0, 0, 0)))


class ClientProbe:
    """Probes those that are watched.

    Args:
        give_up: Ends a client's session, for this reason.
    """

    def __init__(self, give_up: Callable[[Session, str], None], loop: asyncio.AbstractEventLoop) -> None:
        self._give_up = give_up
        self._loop = loop
        self._watched: collections.Counter[Session] = collections.Counter()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, session: Session) -> None:
        """Probe it from now on, until `release` was called as often."""
        self._watched[session] += 1
        if self._timer is None:
            self._timer = self._loop.call_later(_PROBE_S, self._probe_all)

    def release(self, session: Session) -> None:
        """One of the reasons to watch it has gone."""
        self._watched[session] -= 1
        if self._watched[session] <= 0:
            del self._watched[session]

    def close(self) -> None:
        """Stop probing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _probe_all(self) -> None:
        self._timer = None
        for session in list(self._watched):
            # A queue that is full belongs to one that is there, and only slow.
            if not session.listener.send(session.source, _MEANINGLESS) and session.listener.gone:
                self._give_up(session, "it is gone")
        if self._watched:
            self._timer = self._loop.call_later(_PROBE_S, self._probe_all)

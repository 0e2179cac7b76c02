"""What a client serves, and the calls that its node passes on to it. Wire format: section 4.7."""

import collections
from collections.abc import Collection, Mapping
from typing import Any, Final

from fdn.client.codec import Meta, Received, pair_of
from fdn.client.flow import Inflow, Outflow
from fdn.client.pending import WINDOW_BYTES, WINDOW_ITEMS
from fdn.client.signals import Signal
from fdn.errors import BadRequest, ConfigError, Error

__all__ = ("WAITING_MAX", "Job", "Service")

WAITING_MAX: Final = 1024  # casts, and calls beyond `concurrency` from a node that does not keep to it
_NAME_CHARACTERS_MAX: Final = 256


class Job:
    """One CALL or CAST to a handler here.

    Args:
        service: Whose.
        received: The envelope.
        epoch: Of the connection that it came in on; an answer goes there or nowhere.
        now: Now.

    Attributes:
        number: The node's id for it; 0 for a CAST.
        payload: The argument, plain values.
        headers: The caller's.
        caller: Node or client id of the caller.
        deadline_at: When nobody waits any more, or 0.0.
        request: The items that the caller streams, if it does.
        reply: The window of a streamed reply.
        streamed: Whether an item has been sent.
        over: Whether it has been answered, or needs no answer any more.
        done: Whether the handler has come to its end.
        signal: Fires when any of these changes.
    """

    def __init__(self, service: "Service", received: Received, epoch: int, now: float) -> None:
        meta = received.meta
        headers = meta.get(Meta.HEADERS)
        self.service = service
        self.number = received.id
        self.epoch = epoch
        self.payload = received.body
        self.headers: Mapping[str, str] = headers if isinstance(headers, dict) else {}
        self.caller = str(meta.get(Meta.ORIGIN, ""))
        self.deadline_at = now + received.deadline_ms / 1000 if received.deadline_ms else 0.0
        streams = meta.get(Meta.REQUEST_STREAM) is True
        self.request = Inflow(WINDOW_ITEMS, WINDOW_BYTES, granted=False) if streams else None
        self.reply = Outflow(pair_of(meta.get(Meta.WINDOW)))
        self.streamed = False
        self.over = False
        self.done = False
        self.signal = Signal()

    def end(self) -> None:
        """No answer is needed any more."""
        self.over = True
        if self.request is not None:
            self.request.end()
        self.signal.fire()


class Service:
    """One name that this client serves, made known again on every connection.

    Args:
        name: `service.method`, or a plain function's.
        number: Its id.
        version: The service's own.
        capabilities: Labels.
        concurrency: Jobs under way at once.
        takes_items: Whether the handler wants a request stream.
        handler: The driver's.

    Attributes:
        confirmed: Whether the node offers it on this connection.
        error: Why it ended, once it has.
        withdrawn: Whether that was this client's wish.
        running: Jobs under way.
        dropped: Casts that came while `WAITING_MAX` waited.
        signal: Fires when `confirmed` or `error` changes.
    """

    def __init__(
        self,
        name: str,
        number: int,
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int = 64,
        takes_items: bool = False,
        handler: Any = None,
    ) -> None:
        if not 0 < len(name) <= _NAME_CHARACTERS_MAX or name.startswith("fdn.") or "@" in name:
            raise ConfigError(f"{name!r} cannot be served", hint="use `service.method`, or a plain name")
        if concurrency < 1:
            raise ConfigError(f"concurrency={concurrency}", hint="expected at least 1")
        self.name = name
        self.number = number
        self.wish = {"version": version, "capabilities": sorted(capabilities), "concurrency": concurrency}
        self.concurrency = concurrency
        self.takes_items = takes_items
        self.handler = handler
        self.confirmed = False
        self.error: Error | None = None
        self.withdrawn = False
        self.running = 0
        self.dropped = 0
        self.signal = Signal()
        self._waiting: collections.deque[Job] = collections.deque()

    def on_confirmed(self) -> None:
        """The node offers it."""
        self.confirmed = True
        self.signal.fire()

    def on_lost(self) -> None:
        """The connection is gone, and with it whoever waits for answers."""
        self.confirmed = False
        self._waiting.clear()

    def end(self, error: Error) -> None:
        """The node does not offer it any more, or never did."""
        self.confirmed = False
        self.error = self.error or error
        self.signal.fire()

    def misfit(self, job: Job) -> Error | None:
        """Why this job cannot be done, if it cannot."""
        if self.takes_items == (job.request is not None):
            return None
        wants = "takes a stream of items" if self.takes_items else "takes no stream of items"
        return BadRequest(f"{self.name} {wants}", hint="see the handler's signature")

    def admit(self, job: Job) -> bool:
        """Put it last in the queue; False if that is full."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(job)
        return True

    def next_job(self, now: float) -> Job | None:
        """One to begin now: `running` counts it until `on_done`."""
        while self._waiting and self.running < self.concurrency:
            job = self._waiting.popleft()
            if job.over or (job.deadline_at and job.deadline_at <= now):
                job.over = True  # nobody waits any more
                continue
            self.running += 1
            return job
        return None

    def on_done(self) -> None:
        """A job has ended."""
        self.running -= 1

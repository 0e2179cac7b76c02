"""The gateway: what clients, which know one node, may call on the whole cluster.

A client's CALL or CAST is made again by this node, balanced like its own, with the client's deadline and trace. The
payload passes through as it is.
"""

import asyncio

import msgspec

from fdn.context import scope_var
from fdn.errors import Error, Overloaded, to_wire
from fdn.messaging.calls import Caller
from fdn.messaging.dispatch import scope_of
from fdn.messaging.payloads import encode
from fdn.runtime.data_plane import Origin, Ticket
from fdn.settings import Settings
from transports.wire.envelope import Envelope, Kind

__all__ = ("Gateway",)

_raw = msgspec.msgpack.Decoder(msgspec.Raw)


class Gateway:
    """Forwards for clients; at most `calls.in_flight_max` at once."""

    def __init__(self, caller: Caller, node: str, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._node = node
        self._loop = loop
        self._in_flight_max = settings.calls.in_flight_max
        self._default_timeout_s = settings.calls.timeout_s
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._serial = 0  # names casts, which have no id

    def forward(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """Take a client's CALL or CAST."""
        if len(self._tasks) >= self._in_flight_max:
            if envelope.kind == Kind.CALL:
                full = Overloaded(
                    f"node {self._node} forwards {self._in_flight_max} calls of clients (calls.in_flight_max)",
                    hint="use another node as well, or make fewer at once",
                )
                self._fail(origin, envelope.id, full)
            return
        ticket.held += 1
        self._serial -= 1
        key = (origin.peer, envelope.id if envelope.kind == Kind.CALL else self._serial)
        task = self._loop.create_task(self._forward(origin, envelope, ticket), name="fdn-gateway")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def cancel(self, client: str, call_id: int) -> None:
        """The client gave this call up."""
        task = self._tasks.get((client, call_id))
        if task is not None:
            task.cancel()

    def client_gone(self, client: str) -> None:
        """Nobody waits for this client's calls any more. Its casts, which nobody ever waits for, go on."""
        for key in [key for key in self._tasks if key[0] == client and key[1] >= 0]:
            self._tasks[key].cancel()

    async def drain(self) -> None:
        """Return when nothing is under way; bound it with a timeout."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """Give up everything under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        ticket.release()
        timeout_s = envelope.deadline_ms / 1000 or self._default_timeout_s
        scope_var.set(scope_of(envelope, self._loop.time() + timeout_s))
        try:
            if envelope.kind == Kind.CAST:
                await self._caller.cast(envelope.to, envelope.body)
                return
            answer = await self._caller.call(envelope.to, envelope.body, timeout_s, _raw, None)
        except Error as error:
            if envelope.kind == Kind.CALL:
                self._fail(origin, envelope.id, error)
        else:
            origin.answer(Envelope(Kind.REPLY, "", envelope.id, 0, None, answer))

    def _fail(self, origin: Origin, call_id: int, error: Error) -> None:
        origin.answer(Envelope(Kind.ERROR, "", call_id, 0, None, encode(to_wire(error, node=self._node))))

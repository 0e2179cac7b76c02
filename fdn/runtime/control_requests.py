"""Calls on the coordination channel: what nodes and clients ask of a node itself, answered without the user's loop.

`fdn members`, `fdn info`, pings and the like keep working while the user's code is stuck.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fdn.errors import BadRequest, DeadlineExceeded, Error, NotFound, Overloaded, Unreachable, from_wire, to_wire
from fdn.runtime.sessions import Session
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind

__all__ = ("Answer", "ControlRequests")

Answer = Callable[[Any], Any | Awaitable[Any]]
_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_ANSWERING_MAX = 256  # requests being answered at once; further ones are refused


class ControlRequests:
    """Both directions: answers to others, and requests of our own.

    Args:
        node: Our node id, for errors.
        send: Sends an envelope to a node on coordination or gossip; False if there is no way.
    """

    def __init__(
        self, node: str, loop: asyncio.AbstractEventLoop, first_id: int, send: Callable[[str, Envelope, Channel], bool]
    ) -> None:
        self._node = node
        self._loop = loop
        self._next_id = first_id
        self._send = send
        self._pending: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers: dict[str, Answer] = {}

    async def request(
        self, node: str, target: str, payload: Any, timeout_s: float, channel: Channel = Channel.COORDINATION
    ) -> Any:
        """Ask another node.

        Raises:
            Unreachable: There is no link to it.
            DeadlineExceeded: No answer in time.
            Error: As the node answered.
        """
        self._next_id = (self._next_id + 1) & 0xFFFF_FFFF_FFFF_FFFF
        call_id = self._next_id
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[call_id] = (node, future)
        try:
            body = msgspec.Raw(_encode(payload))
            if not self._send(node, Envelope(Kind.CALL, target, call_id, int(timeout_s * 1000), None, body), channel):
                raise Unreachable(f"there is no {channel} link to node {node}", hint="`fdn members` shows its state")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"node {node} did not answer {target} within {timeout_s:g} s") from error
        finally:
            del self._pending[call_id]

    async def answer_here(self, target: str, payload: Any) -> Any:
        """What this node itself answers, in the plain values that would cross the network.

        Raises:
            NotFound: There is no such request.
        """
        answer = self.answers.get(target)
        if answer is None:
            raise NotFound(f"there is no request {target!r}")
        result = answer(payload)
        return _decode(_encode(await result if inspect.isawaitable(result) else result))

    def on_envelope(self, session: Session, envelope: Envelope) -> bool:
        """Take a CALL, REPLY or ERROR. Returns False for any other kind."""
        if envelope.kind == Kind.CALL:
            self._on_call(session, envelope)
        elif envelope.kind in (Kind.REPLY, Kind.ERROR):
            node, future = self._pending.get(envelope.id, ("", None))
            if future is not None and node == session.peer and not future.done():
                self._settle(future, envelope)
        else:
            return envelope.kind == Kind.CANCEL  # answers here are quick; a late one finds nobody waiting
        return True

    async def close(self) -> None:
        """Give up what is being answered, and fail who waits for an answer: nobody is left to hear it."""
        for node, future in self._pending.values():
            if not future.done():
                future.set_exception(Unreachable(f"this node stopped before node {node} had answered"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _settle(self, future: asyncio.Future[Any], envelope: Envelope) -> None:
        try:
            value = _decode(envelope.body)
        except (ValueError, RecursionError) as error:
            future.set_exception(Error(f"the answer cannot be read: {error}"))
            return
        if envelope.kind == Kind.REPLY:
            future.set_result(value)
        else:
            future.set_exception(from_wire(value))

    def _on_call(self, session: Session, envelope: Envelope) -> None:
        answer = self.answers.get(envelope.to)
        if answer is None:
            hint = "services are called on the data channel" if not envelope.to.startswith("fdn.") else ""
            self._fail(
                session, envelope.id, NotFound(f"this node does not answer {envelope.to[:200]!r} here", hint=hint)
            )
            return
        if len(self._tasks) >= _ANSWERING_MAX:
            full = Overloaded(f"{_ANSWERING_MAX} requests are being answered", hint="try again")
            self._fail(session, envelope.id, full)
            return
        try:
            payload = _decode(envelope.body)
        except (ValueError, RecursionError) as error:
            self._fail(session, envelope.id, BadRequest(f"the payload cannot be read: {error}"))
            return
        try:
            result = answer(payload)
            if not inspect.isawaitable(result):
                session.answer(Envelope(Kind.REPLY, "", envelope.id, 0, None, msgspec.Raw(_encode(result))))
                return
        except Exception as error:
            self._fail(session, envelope.id, error)
            return
        task = self._loop.create_task(self._answer_later(session, envelope.id, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, session: Session, call_id: int, result: Awaitable[Any]) -> None:
        try:
            session.answer(Envelope(Kind.REPLY, "", call_id, 0, None, msgspec.Raw(_encode(await result))))
        except Exception as error:
            self._fail(session, call_id, error)

    def _fail(self, session: Session, call_id: int, error: Exception) -> None:
        if not isinstance(error, Error):
            _log.error("answering a request failed", exc_info=error, extra={"peer": session.peer})
        session.answer(
            Envelope(Kind.ERROR, "", call_id, 0, None, msgspec.Raw(_encode(to_wire(error, node=self._node))))
        )

"""Who knows what this node offers and wants: both sides of the request `fdn.node.knows`, on the control plane's loop.

What a node says of itself travels as its record, pushed to all. Whoever must know that it has arrived asks each living
member, which answers once it holds that version of the record *and* its user's loop has taken it over: an event that is
published there from then on finds its way. A member whose loop is stuck does not answer, and so is not aware.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fdn.errors import BadRequest, DeadlineExceeded, Error, Overloaded, Unreachable
from fdn.runtime.control_plane import ControlPlane
from fdn.runtime.view import View
from topologies.records import RecordsSettings

__all__ = ("KNOWS", "OFFERS_BYTES_MAX", "Awareness")

KNOWS: Final = "fdn.node.knows"
OFFERS_BYTES_MAX: Final = RecordsSettings().record_bytes_max - 256  # beside them, the record holds the node's state
_PATIENCE_S: Final = 0.5  # for one question
_WAITING_MAX: Final = 128  # askers that wait here at once
_PATIENCE_MS_MAX: Final = 10_000


class Awareness:
    """See the module.

    Args:
        control: Whose loop this runs on.
        caught_up: Returns when the user's loop has taken over all views that it was handed before.
    """

    def __init__(
        self, control: ControlPlane, loop: asyncio.AbstractEventLoop, caught_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._control = control
        self._loop = loop
        self._caught_up = caught_up
        self._waiting = 0

    async def wait_told(self, timeout_s: float) -> tuple[str, ...]:
        """Return when every living member has taken over our record as it is now, or the time is up.

        Returns:
            The names of those that have not.
        """
        ends_at = self._loop.time() + timeout_s
        told = {node: self._loop.create_task(self._told(node, ends_at)) for node in _living(self._control.view())}
        try:
            async with asyncio.timeout_at(ends_at):
                await self._until_all(told)
        except TimeoutError:
            pass  # those that are left are named
        finally:
            for task in told.values():
                task.cancel()
        members = self._control.view().members
        return tuple(sorted(members[node].name for node, task in told.items() if node in members and not _yes(task)))

    async def answer(self, payload: Any) -> bool:
        """`fdn.node.knows`: whether we hold this version of a node's record; waits for it a little, if it must."""
        match payload:
            case [str(node), [int(generation), int(counter)], int(patience_ms)]:
                wanted = (generation, counter)
            case _:
                raise BadRequest(f"{KNOWS} takes a list", hint="[node id, [generation, counter], milliseconds]")
        if self._waiting >= _WAITING_MAX:
            raise Overloaded(f"{_WAITING_MAX} others wait for an answer to {KNOWS}", hint="try again")
        self._waiting += 1
        try:
            async with asyncio.timeout(min(max(patience_ms, 0), _PATIENCE_MS_MAX) / 1000):
                while (self._control.record_version(node) or (-1, -1)) < wanted:
                    await self._control.next_view()
                await self._caught_up()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def _until_all(self, told: "dict[str, asyncio.Task[bool]]") -> None:
        """Return when all have answered, but for those that have died or left meanwhile, which are taken out."""
        while waiting := [task for task in told.values() if not task.done()]:
            change = self._control.next_view()
            either: list[asyncio.Future[Any]] = [*waiting, change]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            for node in told.keys() - _living(self._control.view()):
                told.pop(node).cancel()

    async def _told(self, node: str, ends_at: float) -> bool:
        """Ask again and again: a question or its answer may be lost with the link that it travels on."""
        me = self._control.node
        while (left_s := ends_at - self._loop.time()) > 0:
            patience_s = min(left_s, _PATIENCE_S)
            question = [me, self._control.record_version(me), int(patience_s * 1000)]
            try:
                if await self._control.ask(node, KNOWS, question, patience_s) is True:
                    return True
            except DeadlineExceeded:
                pass
            except Unreachable:
                await asyncio.wait([self._control.next_view()], timeout=patience_s)  # there may be a link by then
            except Error:
                return False  # it is older than this request, or overloaded
        return False


def _living(view: View) -> set[str]:
    return {node for node, member in view.members.items() if not member.me and member.status in ("alive", "suspect")}


def _yes(task: "asyncio.Task[bool]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None and task.result()

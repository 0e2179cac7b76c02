"""The request `fdn.node.rtt`: one node measures its round trips to the others, on each of the four channels.

Coordination and gossip are answered by the control plane over there; data and events by its user's loop, and are sent
from the user's loop here, so that they tell what calls and events really meet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from fdn.errors import BadRequest, Error, NotFound
from fdn.runtime.loop_call import run_on
from fdn.runtime.view import Member, View
from transports.channel import Channel

__all__ = ("RTT", "ControlSide", "RoundTrips")

RTT: Final = "fdn.node.rtt"
_CONTROL: Final = (Channel.COORDINATION, Channel.GOSSIP)
_COUNT_MAX: Final = 1000
_TIMEOUT_MS_MAX: Final = 60_000
_AT_ONCE_MAX: Final = 8  # members: more would measure one another
_LIVING: Final = ("alive", "suspect")


class ControlSide(Protocol):
    """What is needed of the control plane."""

    def view(self) -> View: ...

    async def ping(self, node: str, channel: Channel, timeout_s: float) -> None: ...


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request's payload.

    Attributes:
        nodes: Names or ids of members; empty means all others.
        channels: Which; empty means all four.
        count: Round trips on each.
        timeout_ms: How long each may take; a series ends with the first that is not answered.
    """

    nodes: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ()
    count: int = 10
    timeout_ms: int = 1000


class RoundTrips:
    """See the module. `answer` belongs to the control plane's loop.

    Args:
        control: The control plane.
        loop: The user's loop.
        ping: Pings a member on `data` or `events`, on that loop.
    """

    def __init__(
        self,
        control: ControlSide,
        loop: asyncio.AbstractEventLoop,
        ping: Callable[[str, Channel, float], Awaitable[None]],
    ) -> None:
        self._control = control
        self._loop = loop
        self._ping = ping

    async def answer(self, payload: Any) -> list[dict[str, Any]]:
        """A map for each member and channel: `node`, `name`, `channel`, `samples_us` (sorted), `error` (str).

        Raises:
            BadRequest: The payload is not what it should be.
            NotFound: A member that it names is not there.
        """
        wish = _read(payload)
        members = _members(self._control.view(), wish.nodes)
        channels = wish.channels or tuple(Channel)
        turn = asyncio.Semaphore(_AT_ONCE_MAX)

        async def measure(member: Member) -> list[dict[str, Any]]:
            async with turn:
                return [await self._series(member, channel, wish) for channel in channels]

        return [row for rows in await asyncio.gather(*map(measure, members)) for row in rows]

    async def _series(self, member: Member, channel: Channel, wish: _Wish) -> dict[str, Any]:
        samples: list[float] = []
        timeout_s = wish.timeout_ms / 1000

        async def here() -> None:
            await _sample(self._control.ping, member.node, channel, timeout_s, wish.count, samples)

        async def there() -> None:
            await _sample(self._ping, member.node, channel, timeout_s, wish.count, samples)

        error = ""
        try:
            if channel in _CONTROL:
                await here()
            else:
                # Each ping has its own bound over there, unless user code holds that loop.
                await run_on(self._loop, there, timeout_s * (wish.count + 1))
        except Error as problem:
            error = problem.message
        except TimeoutError:
            error = "the loop of this node's own user code does not turn"
        return {
            "node": member.node,
            "name": member.name,
            "channel": channel.value,
            "samples_us": sorted(samples),
            "error": error,
        }


async def _sample(
    ping: Callable[[str, Channel, float], Awaitable[None]],
    node: str,
    channel: Channel,
    timeout_s: float,
    count: int,
    samples: list[float],
) -> None:
    time = asyncio.get_running_loop().time
    await ping(node, channel, timeout_s)  # opens the link where it is not open, and is not counted
    for _ in range(count):
        started = time()
        await ping(node, channel, timeout_s)
        samples.append(round((time() - started) * 1e6, 1))


def _read(payload: Any) -> _Wish:
    try:
        wish = msgspec.convert({} if payload is None else payload, _Wish)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{RTT}: {error}", hint="expected a map of nodes, channels, count and timeout_ms") from error
    for name, value, most in (
        ("count", wish.count, _COUNT_MAX),
        ("timeout_ms", wish.timeout_ms, _TIMEOUT_MS_MAX),
    ):
        if not 1 <= value <= most:
            raise BadRequest(f"{RTT}: {name}={value}", hint=f"expected 1 to {most}")
    return wish


def _members(view: View, names: Collection[str]) -> Sequence[Member]:
    if not names:
        others = [member for member in view.members.values() if not member.me and member.status in _LIVING]
        return sorted(others, key=lambda member: (member.name, member.node))
    found: Mapping[str, Member | None] = {name: view.named(name) for name in names}
    for name, member in found.items():
        if member is None:
            raise NotFound(f"no member is named {name!r}", hint="`fdn members` lists them")
    return [member for member in found.values() if member is not None]

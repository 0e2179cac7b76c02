"""Further system requests, for whoever looks for what is wrong: channels, round trips, counters, stacks, the loop.

They run on the control plane and are answered while the user's code is stuck; where a part of the answer has to come
from the user's loop, it is left out when that does not turn.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fdn.messaging.channel_report import CHANNELS, channel_report
from fdn.messaging.round_trips import RTT, RoundTrips
from fdn.runtime.control_plane import ControlPlane
from fdn.runtime.control_requests import Answer
from fdn.runtime.data_plane import DataPlaneStats
from fdn.runtime.inspection import loop_state, source_lines, thread_stacks
from fdn.runtime.loop_call import run_on
from transports.channel import Channel

__all__ = ("diagnostics",)

_PATIENCE_S: Final = 0.5  # for the user's loop


def diagnostics(
    control: ControlPlane,
    loop: asyncio.AbstractEventLoop,
    endpoints: Callable[[], Mapping[str, str]],
    data_stats: Callable[[], DataPlaneStats],
    work_stats: Callable[[], Mapping[str, Any]],
    ping: Callable[[str, Channel, float], Awaitable[None]],
) -> dict[str, Answer]:
    """The requests by name.

    Args:
        control: Whose loop they run on.
        loop: The user's.
        endpoints: The advertised ones, by channel.
        data_stats: The data plane's counters; called on the user's loop.
        work_stats: Counters of what is above it, by part: frozen dataclasses; called on the user's loop.
        ping: Pings a member on `data` or `events`; on the user's loop.
    """

    async def channels(payload: Any) -> list[dict[str, Any]]:
        return channel_report(control.stats(), await _asked(loop, data_stats), endpoints(), control.view().members)

    async def work(payload: Any) -> dict[str, Any] | None:
        parts = await _asked(loop, work_stats)
        return None if parts is None else {name: dataclasses.asdict(part) for name, part in parts.items()}

    async def stacks(payload: Any) -> list[dict[str, Any]]:
        return await asyncio.to_thread(source_lines, thread_stacks())

    def state(payload: Any) -> dict[str, Any]:
        me = next(member for member in control.view().members.values() if member.me)
        counted = control.stats()
        return {
            "state": me.state,
            "lag_ms": round(counted.data_lag_s * 1000, 3),
            "lag_worst_ms": round(counted.data_lag_worst_s * 1000, 3),
            "where": control.where(),
            **loop_state(loop),
        }

    return {
        CHANNELS: channels,
        RTT: RoundTrips(control, loop, ping).answer,
        "fdn.node.work": work,
        "fdn.node.stacks": stacks,
        "fdn.node.loop": state,
    }


async def _asked(loop: asyncio.AbstractEventLoop, ask: Callable[[], Any]) -> Any:
    """What a plain function on the user's loop returns; None if that does not turn."""

    async def there() -> Any:
        return ask()

    try:
        return await run_on(loop, there, _PATIENCE_S)
    except TimeoutError:
        return None

import asyncio
from typing import Any

import pytest

from fdn.errors import BadRequest, NotFound, Unreachable
from fdn.messaging.round_trips import RoundTrips
from fdn.runtime.view import Member, View
from tests.unit.fdn.harness import virtual
from transports.channel import Channel

MEMBERS = {
    "a-id": Member("a-id", "a", "alive", (1, 0), {}, {}, me=True),
    "b-id": Member("b-id", "b", "alive", (1, 0), {}, {}),
    "c-id": Member("c-id", "c", "suspect", (1, 0), {}, {}),
    "d-id": Member("d-id", "d", "dead", (1, 0), {}, {}),
}


class Side:
    """Both planes of a node whose peers answer after `seconds`."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.pinged: list[tuple[str, Channel]] = []

    def view(self) -> View:
        return View(MEMBERS, {})

    async def ping(self, node: str, channel: Channel, timeout_s: float) -> None:
        self.pinged.append((node, channel))
        if self.seconds > timeout_s:
            await asyncio.sleep(timeout_s)
            raise Unreachable(f"{node} is silent")
        await asyncio.sleep(self.seconds)


def trips(side: Side) -> RoundTrips:
    return RoundTrips(side, asyncio.get_running_loop(), side.ping)


@virtual
async def test_all_living_members_on_all_channels():
    side = Side()
    rows = await trips(side).answer(None)
    assert [(row["name"], row["channel"]) for row in rows] == [
        (name, channel) for name in ("b", "c") for channel in ("coordination", "gossip", "data", "events")
    ]
    assert all(row["samples_us"] == pytest.approx([2000.0] * 10) for row in rows)
    assert side.pinged.count(("b-id", Channel.DATA)) == 11  # the first opens the link


@virtual
async def test_one_member_one_channel():
    side = Side()
    (row,) = await trips(side).answer({"nodes": ["d"], "channels": ["gossip"], "count": 2})
    assert (row["node"], row["channel"], len(row["samples_us"])) == ("d-id", "gossip", 2)


@virtual
async def test_a_series_ends_with_the_first_that_is_not_answered():
    side = Side(seconds=5.0)
    rows = await trips(side).answer({"nodes": ["b"], "count": 50, "timeout_ms": 100})
    assert [(row["samples_us"], row["error"]) for row in rows] == [([], "b-id is silent")] * 4
    assert len(side.pinged) == 4


@virtual
async def test_a_loop_of_our_own_that_does_not_turn():
    side = Side()

    async def never(node: str, channel: Channel, timeout_s: float) -> None:
        await asyncio.get_running_loop().create_future()

    rows = await RoundTrips(side, asyncio.get_running_loop(), never).answer({"nodes": ["b"], "count": 1})
    assert [row["error"] for row in rows] == ["", ""] + ["the loop of this node's own user code does not turn"] * 2


@pytest.mark.parametrize(
    "payload", [7, [], {"count": 0}, {"count": 1001}, {"timeout_ms": 0}, {"channels": ["post"]}, {"node": "b"}], ids=str
)
@virtual
async def test_requests_that_make_no_sense(payload: Any):
    with pytest.raises(BadRequest, match=r"fdn\.node\.rtt"):
        await trips(Side()).answer(payload)


@virtual
async def test_a_member_that_is_not_there():
    with pytest.raises(NotFound, match="'z'"):
        await trips(Side()).answer({"nodes": ["z"]})

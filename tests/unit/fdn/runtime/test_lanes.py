import asyncio
from typing import Any

import pytest

from fdn.errors import Overloaded, Unreachable
from fdn.runtime.lanes import Lanes
from fdn.runtime.send_options import NO_OPTIONS, SendOptions
from fdn.settings import Settings
from tests.unit.fdn.harness import body, until, virtual
from tests.unit.fdn.runtime.harness import Peer, spin, welcome
from tests.unit.fdn.runtime.test_data_plane import DATA, EVENTS, Rig, call, member
from transports.channel import Channel
from transports.memory import MemoryNetwork
from transports.wire.envelope import Envelope, Kind

URGENT = SendOptions(priority=1)
BULK = 100_000


class Side:
    """The data plane of node `me` with so many lanes, and a peer that admits so many."""

    def __init__(self, parallelism: int = 3, admitted: int = 64, **data: Any) -> None:
        self.network = MemoryNetwork()
        self.rig = Rig(self.network, {"parallelism": parallelism, **data})
        self.credit = (0, 0)
        self.peer = Peer(
            self.network, answer=lambda hello: welcome(hello, self.peer.who, lanes=admitted, credit=self.credit)
        )
        self.rig.show(member(self.peer.who))
        self.lanes: Lanes = self.rig.plane.lanes(self.peer.node, DATA)

    async def send(self, number: int, options: SendOptions = NO_OPTIONS, size: int = 0) -> int:
        link, connection = await self.lanes.reach(options, size)
        self.lanes.send(connection, call(number), options, 0.0)
        return link.lane

    @property
    def open(self) -> list[int]:
        return [link.lane for link in self.lanes.links if link.connection is not None]


def key_of(lane: int, lanes: int) -> SendOptions:
    return next(
        SendOptions(f"k{number}") for number in range(1000) if _lane(f"k{number}", lanes) == lane
    )  # fmt: skip


def _lane(key: str, lanes: int) -> int:
    from fdn.runtime.flow.lane_choice import LaneTable

    return LaneTable(lanes).lane_of(key)


@virtual
async def test_lanes_are_made_once_and_opened_when_they_are_chosen():
    side = Side()
    assert side.rig.plane.lanes(side.peer.node, DATA) is side.lanes
    assert side.rig.plane.lanes(side.peer.node, EVENTS) is not side.lanes
    assert side.open == []
    assert await side.send(1) == 0
    await until(lambda: side.open == [0, 1, 2])  # the others are ready when they are needed
    assert sorted(hello.lane for hello in side.peer.hellos) == [0, 1, 2]
    assert len({hello.epoch for hello in side.peer.hellos}) == 3
    assert set(side.rig.plane.stats().links) == {f"{side.peer.node} data{lane}" for lane in ("", " 1", " 2")}


@virtual
async def test_with_one_lane_there_is_nothing_to_choose():
    side = Side(parallelism=1)
    assert [await side.send(number, options) for number, options in enumerate((NO_OPTIONS, URGENT, key_of(0, 1)))] == [
        0
    ] * 3
    assert side.open == [0]
    assert side.rig.plane.stats().links.keys() == {f"{side.peer.node} data"}


@virtual
async def test_the_peer_may_admit_fewer():
    side = Side(parallelism=8, admitted=2)
    lanes = {await side.send(number, SendOptions(f"k{number}")) for number in range(50)}
    assert lanes == {0, 1}
    assert side.lanes.active == 2


@virtual
async def test_a_key_keeps_its_lane_and_bulk_has_the_last():
    side = Side()
    await side.send(0)
    for lane in range(3):
        assert {await side.send(number, key_of(lane, 3)) for number in range(5)} == {lane}
    assert side.lanes.why == "its key: order is kept"
    await until(lambda: side.open == [0, 1, 2])
    assert await side.send(9, NO_OPTIONS, BULK) == 2
    assert side.lanes.why.startswith("large")


@virtual
async def test_fewer_lanes_are_used_when_they_are_limited_and_keys_move_when_all_is_received():
    side = Side()
    await side.send(0)
    options = key_of(2, 3)
    assert await side.send(1, options) == 2
    side.lanes.limit(1)
    assert await side.send(2, options) == 2
    assert await side.send(3, key_of(1, 3)) == 0  # never used before
    side.lanes.table.on_received(2, side.lanes.table.mark(2))
    assert await side.send(4, options) == 0
    side.lanes.limit(99)
    assert side.lanes.active == 3


@virtual
async def test_what_was_on_a_lost_lane_holds_no_key_there():
    side = Side()
    await side.send(0)
    options = key_of(2, 3)
    await side.send(1, options)
    side.lanes.limit(2)
    lane = side.lanes.links[2]
    losses = lane.losses
    side.peer.crash()
    await until(lambda: lane.losses > losses)
    side.peer.listen()
    assert await side.send(2, options) < 2


@virtual
async def test_each_lane_has_credit_of_its_own():
    side = Side()
    side.credit = (1, 1000)
    await side.send(0)
    await until(lambda: side.open == [0, 1, 2])
    for number in range(1, 4):
        await side.send(number, key_of(1, 3))
    await until(lambda: len(side.peer.heard) == 2)  # one of lane 0, one of lane 1
    connections = [link.connection for link in side.lanes.links]
    assert [connection.has_credit for connection in connections if connection is not None] == [False, False, True]
    epoch = side.lanes.links[1].epoch
    dialled = await side.rig.enter(side.peer.who)
    dialled.connection.send_exempt(Envelope(Kind.CREDIT, body=body([epoch, 100, 100_000])))
    await until(lambda: len(side.peer.heard) == 4)


@virtual
async def test_waiting_for_room_or_refusing_to():
    side = Side(parallelism=1)
    side.credit = (1, 1000)
    await side.send(0)
    number = 0
    _link, connection = await side.lanes.reach(NO_OPTIONS, 0)
    while not connection.full:
        number += 1
        connection.send(call(number))
    assert side.lanes.try_reach(NO_OPTIONS, 0) is None
    with pytest.raises(Overloaded, match=f"queue to node {side.peer.node} is full on the data channel"):
        await side.lanes.reach(SendOptions(refuse=True), 0)
    waiting = asyncio.ensure_future(side.lanes.reach(NO_OPTIONS, 0))
    await spin()
    assert not waiting.done()
    side.peer.crash()
    with pytest.raises(Unreachable, match="lost while messages waited for room"):
        await waiting
    assert side.lanes.try_reach(NO_OPTIONS, 0) is None


@virtual
async def test_a_priority_or_a_name_goes_by_rank():
    side = Side(parallelism=1)
    side.credit = (1, 100_000)
    await side.send(0)
    await side.send(1)
    await side.send(2, URGENT)
    await side.send(3, SendOptions(latest="speed"))
    await side.send(4, SendOptions(latest="speed"))
    link = side.lanes.links[0]
    assert link.connection is not None
    assert link.connection.stats().superseded == 1
    link.connection.grant(100, 1_000_000)
    await until(lambda: len(side.peer.heard) == 4)
    assert [envelope.id for envelope in side.peer.heard] == [0, 2, 4, 1]


@virtual
async def test_what_came_over_a_lane_is_answered_over_the_same():
    side = Side()
    await side.send(0)
    await until(lambda: side.open == [0, 1, 2])
    for lane in (2, 1, 0):
        origin = await side.rig.asked_by(side.peer.who, lane=lane, epoch=lane + 1)
        before = [link.connection.stats().messages_sent for link in side.lanes.links if link.connection is not None]
        origin.answer(Envelope(Kind.REPLY, "", 1))
        origin.outlet().try_send(Envelope(Kind.ITEM, "", 1))
        await spin()
        after = [link.connection.stats().messages_sent for link in side.lanes.links if link.connection is not None]
        assert [now - then for now, then in zip(after, before, strict=True)] == [
            2 * (lane == each) for each in range(3)
        ]


@virtual
async def test_more_lanes_at_the_other_side_than_here():
    side = Side(parallelism=2)
    await side.send(0)
    origin = await side.rig.asked_by(side.peer.who, lane=7, epoch=8)
    origin.answer(Envelope(Kind.REPLY, "", 77))
    await until(lambda: any(envelope.id == 77 for envelope in side.peer.heard))
    assert len(side.lanes.links) == 2


@virtual
async def test_all_lanes_close_with_the_member_and_when_idle():
    side = Side(parallelism=3)
    await side.send(0)
    await until(lambda: side.open == [0, 1, 2])
    await asyncio.sleep(3 * Settings().links.idle_close_s)
    assert side.open == []
    await side.send(1)
    await until(lambda: side.open == [0, 1, 2])
    links = list(side.lanes.links)
    side.rig.show()
    assert all(link.connection is None for link in links)
    with pytest.raises(Unreachable):
        side.rig.plane.lanes(side.peer.node, Channel.DATA)


@virtual
async def test_closing_the_plane_says_goodbye_on_every_lane():
    side = Side(parallelism=2)
    await side.send(0)
    await until(lambda: side.open == [0, 1])
    side.peer.heard.clear()
    await side.rig.plane.close()
    await spin()
    assert [envelope.kind for envelope in side.peer.heard] == [Kind.BYE] * 2


@virtual
async def test_what_can_be_spared_makes_room_for_what_is_more_urgent():
    side = Side(parallelism=1)
    side.credit = (1, 100_000)
    refused: list[tuple[str, int, Exception]] = []
    side.rig.plane.on_refused = lambda node, envelope, error: refused.append((node, envelope.id, error))
    await side.send(0)
    _, connection = await side.lanes.reach(NO_OPTIONS, 0)
    number = 0
    while not connection.full:
        number += 1
        side.lanes.send(connection, call(number), SendOptions(priority=-1), 0.0)
    before = connection.stats().queued_messages
    assert await side.send(100_000, URGENT) == 0
    assert await side.send(100_001, SendOptions("k")) == 0
    assert [(node, each) for node, each, _ in refused] == [(side.peer.node, 1), (side.peer.node, 2)]
    assert isinstance(refused[0][2], Overloaded)
    assert (connection.stats().shed, connection.stats().queued_messages) == (2, before)
    with pytest.raises(Overloaded):
        await side.lanes.reach(SendOptions(priority=-1, refuse=True), 0)  # its own class is not shed for it

"""What only the twin can do; the rest is in `test_contract.py`."""

import asyncio

import pytest

from tests.unit.transports.harness import Dialled, Listening, Rig, cast, reply, scenario
from transports.channel import Channel
from transports.errors import EndpointInvalid
from transports.limits import Limits
from transports.transport import EventKind

A, B = "memory://a", "memory://b"
PATIENT = Limits(heartbeat_interval_s=100, heartbeat_timeout_s=1000, heartbeat_stalled_s=1000)
BRISK = Limits(heartbeat_interval_s=0.001, heartbeat_timeout_s=0.01, heartbeat_stalled_s=0.01, connect_timeout_s=0.01)


@pytest.fixture
def rig() -> Rig:
    return Rig("memory")


def two(rig: Rig, limits: Limits) -> tuple[Listening, Listening, Dialled]:
    here, there = rig.transport(limits), rig.transport(limits)
    return Listening(here, A), Listening(there, B), Dialled(here, B)


@scenario
async def test_a_cut_holds_both_directions_and_a_heal_delivers_in_order(rig: Rig):
    _, there, dialled = two(rig, PATIENT)
    await dialled.connected()
    dialled.connection.send(cast(1))
    await there.inbox.count(1)
    rig.network.cut(A, B)
    for number in range(2, 6):
        dialled.connection.send(cast(number))
        there.listener.send(there.inbox.entries[0].source, reply(number))
        await asyncio.sleep(0)
    third = Listening(rig.transport(), "memory://c")  # who is not cut off is not harmed
    other = await Dialled(rig.transport(), B).connected()
    other.connection.send(cast(100))
    await there.inbox.count(2)
    assert there.inbox.ids == [1, 100]
    assert third.endpoint == "memory://c"
    rig.network.heal(B, A)
    await there.inbox.count(6)
    await dialled.inbox.count(4)
    assert there.inbox.ids == [1, 100, 2, 3, 4, 5]
    assert dialled.inbox.ids == [2, 3, 4, 5]
    assert dialled.events.kinds == [EventKind.CONNECTED]


@scenario
async def test_a_cut_that_outlasts_the_heartbeats_ends_the_connection(rig: Rig):
    _, there, dialled = two(rig, BRISK)
    await dialled.connected()
    rig.network.cut(A, B)
    dialled.connection.send(cast(1))
    event = await dialled.events.kind(EventKind.CLOSED)
    assert "silent" in event.detail
    rig.network.heal(A, B)
    again = Dialled(rig.transport(), B)
    again.connection.send(cast(2))
    await there.inbox.count(1)
    assert there.inbox.ids == [2]


@scenario
async def test_a_dial_into_a_cut_is_not_answered(rig: Rig):
    here, there = rig.transport(BRISK), rig.transport(BRISK)
    Listening(here, A)
    listening = Listening(there, B)
    rig.network.cut(A, B)
    listening.listener.close()  # gone or not: nobody can tell
    dialled = Dialled(here, B)
    await dialled.events.kind(EventKind.UNREACHABLE)
    assert dialled.events.kinds == [EventKind.UNREACHABLE]


@scenario
async def test_a_listener_that_closes_behind_a_cut_is_noticed_when_it_heals(rig: Rig):
    _, there, dialled = two(rig, PATIENT)
    await dialled.connected()
    rig.network.cut(A, B)
    there.listener.close()
    await asyncio.sleep(0)
    assert dialled.events.kinds == [EventKind.CONNECTED]
    rig.network.heal(A, B)
    await dialled.events.kind(EventKind.CLOSED)


@scenario
async def test_only_memory_endpoints_are_accepted_and_zero_makes_a_name(rig: Rig):
    transport = rig.transport()
    with pytest.raises(EndpointInvalid, match="memory://NAME"):
        transport.dial(Channel.DATA, "tcp://127.0.0.1:1", lambda batch: None, lambda event: None)
    names = {Listening(transport, "memory://n:0").endpoint for _ in range(3)}
    assert len(names) == 3
    assert "memory://n:0" not in names


@scenario
async def test_transports_on_different_loops_and_threads_talk(rig: Rig):
    loop, far = rig.parked()
    listening = Listening(far, A)
    dialled = await Dialled(rig.transport(), A).connected()

    async def answer() -> None:
        await listening.inbox.count(500)
        for batch in listening.inbox.entries:
            for envelope in batch.envelopes:
                assert listening.listener.send(batch.source, reply(envelope.id))  # fewer than answers_hwm

    answering = asyncio.create_task(asyncio.to_thread(loop.run_until_complete, answer()))
    for number in range(500):
        dialled.connection.send(cast(number))
        await asyncio.sleep(0)
    await dialled.inbox.count(500)
    await answering
    assert dialled.inbox.ids == list(range(500))

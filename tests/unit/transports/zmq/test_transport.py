"""The whole transport: what it leaves behind when it is closed."""

import asyncio
import gc

import psutil

from tests.unit.transports.harness import Dialled, Listening, Rig, cast, scenario
from transports.limits import Limits
from transports.transport import EventKind


@scenario
async def test_nothing_is_left_behind(rig: Rig):
    process = psutil.Process()

    async def live_and_die() -> None:
        one, other = rig.transport(), rig.transport(Limits(connect_timeout_s=0.05))
        listeners = [Listening(one, rig.fresh) for _ in range(4)]
        dialled = [Dialled(other, listening.endpoint) for listening in listeners * 2]
        for each in dialled:
            each.connection.send(cast(1))
        await listeners[0].inbox.count(2)
        refused = Dialled(other, rig.nowhere())
        await refused.events.kind(EventKind.REFUSED)
        Dialled(other, rig.nowhere())  # still dialling
        dialled[0].connection.close()
        listeners[1].listener.close()
        await dialled[1].events.kind(EventKind.CLOSED)
        await rig.close()

    await live_and_die()  # what the first use of anything keeps for good
    gc.collect()
    descriptors, threads, tasks = process.num_fds(), process.num_threads(), len(asyncio.all_tasks())
    for _ in range(3):
        await live_and_die()
    gc.collect()
    assert process.num_fds() <= descriptors
    assert process.num_threads() <= threads
    assert len(asyncio.all_tasks()) == tasks


@scenario
async def test_a_refused_dial_in_a_row_of_many_leaks_no_descriptor(rig: Rig):
    transport, endpoint = rig.transport(), rig.nowhere()
    await Dialled(transport, endpoint).events.kind(EventKind.REFUSED)
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(60):
        await Dialled(transport, endpoint).events.kind(EventKind.REFUSED)
    # libzmq's reaper thread closes them some time later; a leak would run into the timeout.
    while process.num_fds() > before + 8:  # noqa: ASYNC110  # nobody tells when a descriptor is closed
        await asyncio.sleep(0)


@scenario
async def test_closing_waits_for_what_lingers_and_delivers_it(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    transport = rig.transport()
    dialled = Dialled(transport, listening.endpoint)
    for number in range(1000):
        dialled.connection.send(cast(number, bytes(1000)))
    dialled.connection.close(linger_s=10)
    await transport.close()
    await listening.inbox.count(1000)


@scenario
async def test_closing_does_not_wait_longer_than_the_linger(rig: Rig):
    transport = rig.transport()
    dialled = Dialled(transport, rig.nowhere())
    dialled.connection.send(cast(1))
    dialled.connection.close(linger_s=0.05)
    await transport.close()


def test_a_loop_that_was_never_run_can_be_left():
    loop = asyncio.new_event_loop()

    async def body() -> None:
        rig = Rig("zmq")
        Listening(rig.transport(), rig.fresh)
        await rig.close()

    loop.run_until_complete(body())
    loop.close()

"""Sockets on the loop: no stall, and no socket that starves another."""

import asyncio

import pytest
import zmq

from tests.unit.transports.harness import Dialled, Listening, Log, Rig, cast, reply, scenario
from transports.channel import Channel
from transports.limits import Limits
from transports.zmq.reactor import Pump, Reactor


class Pair:
    """An inproc PAIR whose near end is in a reactor; the far end is written from the test."""

    def __init__(self, context: zmq.Context, reactor: Reactor, channel: Channel, log: Log[str], name: str) -> None:
        self.far = context.socket(zmq.PAIR)
        self.far.bind(f"inproc://{name}")
        self.near = context.socket(zmq.PAIR)
        self.near.connect(f"inproc://{name}")
        self._log = log
        self._name = name
        self.pump = Pump(reactor, self.near, channel, self._read)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.far.send(b"", zmq.NOBLOCK)

    def _read(self) -> None:
        self.near.recv(zmq.NOBLOCK)
        self._log(self._name)

    def close(self) -> None:
        self.pump.close()
        self.near.close(0)
        self.far.close(0)


def test_a_flood_yields_after_its_budget_and_control_goes_first():
    async def body() -> None:
        log = Log[str]()
        reactor = Reactor(asyncio.get_running_loop(), Limits(drain_messages_max=5, drain_s_max=1000))
        with zmq.Context() as context:
            pairs = [Pair(context, reactor, channel, log, channel.value) for channel in reversed(Channel)]
            for pair in pairs:
                pair.fill(20)
            await log.until(lambda: len(log.entries) == 80)
            for pair in pairs:
                pair.close()
        rounds = [log.entries[start : start + 20] for start in range(0, 80, 20)]
        assert all(turn == [channel.value for channel in Channel for _ in range(5)] for turn in rounds)

    asyncio.run(body())


def test_time_is_a_budget_too_and_one_message_is_always_read():
    async def body() -> None:
        log = Log[str]()
        reactor = Reactor(asyncio.get_running_loop(), Limits(drain_s_max=1e-9))
        with zmq.Context() as context:
            data = Pair(context, reactor, Channel.DATA, log, "data")
            gossip = Pair(context, reactor, Channel.GOSSIP, log, "gossip")
            data.fill(5)
            gossip.fill(5)
            await log.until(lambda: len(log.entries) == 10)
            assert log.entries == ["gossip", "data"] * 5
            data.close()
            gossip.close()

    asyncio.run(body())


def test_a_handler_that_raises_does_not_silence_the_socket():
    async def body() -> None:
        loop = asyncio.get_running_loop()
        raised = Log[object]()
        loop.set_exception_handler(lambda loop, context: raised(context["exception"]))
        log = Log[str]()
        reactor = Reactor(loop, Limits())
        with zmq.Context() as context:
            pair = Pair(context, reactor, Channel.DATA, log, "x")
            read = pair.pump._read

            def stumble() -> None:
                pair.near.recv(zmq.NOBLOCK)
                raise ZeroDivisionError

            pair.pump._read = stumble
            pair.fill(3)
            await raised.until(lambda: len(raised.entries) == 3)
            pair.pump._read = read
            pair.fill(1)
            await log.until(lambda: bool(log.entries))
            pair.close()
        assert all(isinstance(error, ZeroDivisionError) for error in raised.entries)

    asyncio.run(body())


def test_a_closed_pump_is_not_called_again():
    async def body() -> None:
        log = Log[str]()
        reactor = Reactor(asyncio.get_running_loop(), Limits())
        with zmq.Context() as context:
            pair = Pair(context, reactor, Channel.DATA, log, "x")
            pair.fill(3)
            pair.close()
            pair.pump.close()
            await asyncio.sleep(0)
        assert log.entries == []

    asyncio.run(body())


@pytest.mark.parametrize("window", [1, 3, 64])
@scenario
async def test_traffic_both_ways_never_stalls(rig: Rig, window: int):
    """Sends consume the edge that announces what arrives: without a second look at the events this hangs."""
    listening = Listening(rig.transport(), rig.fresh)
    dialled = await Dialled(rig.transport(), listening.endpoint).connected()
    total, sent, answered = 3000, 0, 0
    while answered < total:
        while sent < total and sent - answered < window:
            dialled.connection.send(cast(sent))
            sent += 1
        await asyncio.sleep(0)
        batches = listening.inbox.entries.copy()
        listening.inbox.entries.clear()
        for batch in batches:
            for envelope in batch.envelopes:
                assert listening.listener.send(batch.source, reply(envelope.id))
        answered = sum(len(batch.envelopes) for batch in dialled.inbox.entries)
    assert dialled.inbox.ids == list(range(total))

"""Sockets on the loop: no stall, and no socket that starves another."""

import asyncio
from collections.abc import Callable
from typing import cast as cast_to

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


class SteppedLoop:
    """A loop that does what the test says, when it says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def step(self) -> None:
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """It never tells: whatever is read here was found by asking."""

    def remove_reader(self, fd: int) -> None:
        pass


def stepped(spin_s: float) -> tuple[SteppedLoop, Reactor]:
    loop = SteppedLoop()
    return loop, Reactor(cast_to(asyncio.AbstractEventLoop, loop), Limits(spin_s=spin_s))


def test_it_keeps_on_asking_for_a_moment_after_each_message_and_then_sleeps():
    log = Log[str]()
    loop, reactor = stepped(0.5)
    with zmq.Context() as context:
        pair = Pair(context, reactor, Channel.DATA, log, "data")
        loop.step()  # the look that every new socket gets
        assert loop.ready == []
        pair.pump.writable_after_send()
        for now in (0.1, 0.2, 0.4):  # each within 0.5 s of the last
            loop.now = now
            pair.fill(1)
            loop.step()
        assert log.entries == ["data"] * 3
        loop.now = 0.89
        loop.step()
        assert loop.ready
        loop.now = 0.9
        loop.step()
        assert loop.ready == []
        pair.fill(1)
        loop.step()
        assert len(log.entries) == 3  # asleep: only the descriptor would tell
        pair.close()


@pytest.mark.parametrize(("spin_s", "channel"), [(0.0, Channel.DATA), (0.5, Channel.COORDINATION)])
def test_without_it_and_for_control_sockets_nobody_is_asked(spin_s: float, channel: Channel):
    log = Log[str]()
    loop, reactor = stepped(spin_s)
    with zmq.Context() as context:
        pair = Pair(context, reactor, channel, log, "x")
        loop.step()
        pair.pump.writable_after_send()
        assert loop.ready == []
        pair.close()


def test_a_handler_that_raises_does_not_end_the_asking_for_good():
    log = Log[str]()
    loop, reactor = stepped(0.5)
    with zmq.Context() as context:
        pair = Pair(context, reactor, Channel.DATA, log, "x")
        loop.step()
        read = pair.pump._read

        def stumble() -> None:
            pair.near.recv(zmq.NOBLOCK)
            raise ZeroDivisionError

        pair.pump._read = stumble
        pair.pump.writable_after_send()
        pair.fill(2)
        with pytest.raises(ZeroDivisionError):
            loop.step()
        pair.pump._read = read
        loop.step()
        assert log.entries == ["x"]
        pair.fill(1)
        loop.step()
        assert log.entries == ["x", "x"]
        pair.close()


@scenario
async def test_calls_and_answers_pass_while_both_ends_keep_on_asking(rig: Rig):
    limits = Limits(spin_s=0.01)
    listening = Listening(rig.transport(limits), rig.fresh)
    dialled = await Dialled(rig.transport(limits), listening.endpoint).connected()
    for number in range(200):
        dialled.connection.send(cast(number))
        await listening.inbox.count(number + 1)
        assert listening.listener.send(listening.inbox.entries[-1].source, reply(number))
        await dialled.inbox.count(number + 1)
    assert dialled.inbox.ids == list(range(200))


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

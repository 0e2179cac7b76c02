"""Two OS processes over TCP and ipc: everything sent is received, and a killed peer is noticed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.unit.transports.harness import Dialled, Rig, cast, scenario
from transports.channel import Channel
from transports.limits import Limits
from transports.transport import EventKind

ROOT = Path(__file__).parents[3]
COUNTER = """
import asyncio, sys
import msgspec
from transports.channel import Channel
from transports.wire.envelope import Envelope
from transports.zmq import ZmqTransport

async def main():
    transport = ZmqTransport(asyncio.get_running_loop())
    ids = []
    def receive(batch):
        ids.extend(envelope.id for envelope in batch.envelopes)
        if batch.envelopes[-1].to == "end":
            body = msgspec.Raw(msgspec.msgpack.encode([len(ids), ids == sorted(ids)]))
            listener.send(batch.source, Envelope(6, "", 0, 0, None, body))
    listener = transport.listen(Channel.COORDINATION, sys.argv[1], receive)
    print(listener.endpoint, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def rig() -> Rig:
    return Rig("zmq")


@contextmanager
def counting(endpoint: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", COUNTER, endpoint]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
@scenario
async def test_everything_sent_is_received(rig: Rig, scheme: str, tmp_path: Path):
    count = 100_000
    with counting("tcp://127.0.0.1:0" if scheme == "tcp" else f"ipc://{tmp_path / 'c'}") as (_, endpoint):
        dialled = Dialled(rig.transport(), endpoint)
        body = b"x" * 100
        for number in range(count):
            if dialled.connection.full:
                await dialled.connection.wait_room()
            dialled.connection.send(cast(number, body))
        end = cast(count)
        end.to = "end"
        dialled.connection.send(end)
        [answer] = await dialled.inbox.count(1)
        assert msgspec.msgpack.decode(answer.body) == [count + 1, True]


@scenario
async def test_a_killed_peer_is_noticed_and_a_redial_refused(rig: Rig):
    with counting("tcp://127.0.0.1:0") as (process, endpoint):
        dialled = await Dialled(rig.transport(), endpoint).connected()
        process.kill()
        await dialled.events.kind(EventKind.CLOSED)
        process.wait(20)  # the kernel may close the connection before the listening socket
        again = Dialled(rig.transport(), endpoint)
        await again.events.kind(EventKind.REFUSED)


@scenario
async def test_a_stopped_peer_is_noticed_by_its_silence_and_is_unreachable_but_not_gone(rig: Rig):
    limits = Limits(heartbeat_interval_s=0.05, heartbeat_timeout_s=0.3, handshake_timeout_s=0.3)
    with counting("tcp://127.0.0.1:0") as (process, endpoint):
        transport = rig.transport(limits)
        dialled = await Dialled(transport, endpoint, Channel.COORDINATION).connected()
        process.send_signal(signal.SIGSTOP)
        try:
            await dialled.events.kind(EventKind.CLOSED)
            stopped = Dialled(transport, endpoint, Channel.COORDINATION)
            event = await stopped.events.kind(EventKind.UNREACHABLE)
            assert "no greeting" in event.detail
        finally:
            process.send_signal(signal.SIGCONT)
        back = await Dialled(transport, endpoint, Channel.COORDINATION).connected()
        assert back.events.kinds == [EventKind.CONNECTED]

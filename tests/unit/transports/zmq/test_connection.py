"""The ends of a dial, told apart; the rest is in `test_contract.py`."""

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import zmq

from tests.unit.transports.harness import Dialled, Listening, Rig, cast, scenario
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.limits import Limits
from transports.transport import EventKind
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind
from transports.zmq.connection import ZmqConnection

BRISK = Limits(
    connect_timeout_s=0.2,
    handshake_timeout_s=0.2,
    heartbeat_interval_s=0.05,
    heartbeat_timeout_s=0.2,
    heartbeat_stalled_s=0.2,
)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and never say a word."""
    with contextlib.suppress(OSError):
        while await reader.read(1000):
            pass
    writer.close()


@scenario
async def test_a_port_that_accepts_and_says_nothing_is_unreachable_and_gets_no_frame(rig: Rig):
    async with serving(hold) as endpoint:
        dialled = Dialled(rig.transport(BRISK), endpoint)
        dialled.connection.send(cast(1))
        event = await dialled.events.kind(EventKind.UNREACHABLE)
        assert "handshake_timeout_s" in event.detail
        assert dialled.connection.stats().batches_sent == 0


@scenario
async def test_a_machine_that_does_not_answer_is_unreachable(rig: Rig):
    # A full backlog drops what else arrives: the nearest thing to an unplugged machine that loopback has.
    with sockets.socket() as full, contextlib.ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = others.enter_context(sockets.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        dialled = Dialled(rig.transport(BRISK), f"tcp://127.0.0.1:{full.getsockname()[1]}")
        event = await dialled.events.kind(EventKind.UNREACHABLE)
        assert "connect_timeout_s" in event.detail


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, b"SSH-2.0-x\r\n" * 9, b""])
@scenario
async def test_a_port_of_another_kind_has_failed(rig: Rig, answer: bytes):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with serving(serve) as endpoint:
        dialled = Dialled(rig.transport(), endpoint)
        await dialled.events.kind(EventKind.FAILED)
        assert dialled.events.kinds == [EventKind.FAILED]


@scenario
async def test_a_peer_that_falls_silent_is_closed_by_its_heartbeats(rig: Rig):
    """A proxy that stops passing anything on: what a pulled cable or a stopped machine looks like from here."""
    listening = Listening(rig.transport(), rig.fresh, Channel.COORDINATION)
    port = Endpoint.parse(listening.endpoint).port
    cable = asyncio.Event()
    cable.set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if cable.is_set():
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async with serving(serve) as endpoint:
        dialled = await Dialled(rig.transport(BRISK), endpoint, Channel.COORDINATION).connected()
        dialled.connection.send(cast(1))
        await listening.inbox.count(1)
        cable.clear()
        await dialled.events.kind(EventKind.CLOSED)
    listening.listener.close()


@scenario
async def test_a_name_is_tried_address_by_address(rig: Rig):
    listening = Listening(rig.transport(), "tcp://127.0.0.1:0")
    dialled = Dialled(rig.transport(), listening.endpoint.replace("127.0.0.1", "localhost"))
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    assert dialled.events.kinds == [EventKind.CONNECTED]
    assert dialled.connection.endpoint.startswith("tcp://localhost:")


@scenario
async def test_an_address_that_refuses_is_followed_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    listening = Listening(rig.transport(), "tcp://127.0.0.1:0")
    nowhere = Endpoint.parse(rig.nowhere())

    async def two(endpoint: Endpoint) -> list[Endpoint]:
        return [nowhere, Endpoint.parse(listening.endpoint)]

    monkeypatch.setattr("transports.zmq.connection.resolve", two)
    dialled = Dialled(rig.transport(), "tcp://two-homes.example:7400")
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    assert dialled.events.kinds == [EventKind.CONNECTED]


@scenario
async def test_a_name_that_does_not_resolve_is_unreachable(rig: Rig):
    dialled = Dialled(rig.transport(), "tcp://no-such-host.invalid:7400")
    event = await dialled.events.kind(EventKind.UNREACHABLE)
    assert "does not resolve" in event.detail


@scenario
async def test_closing_while_it_resolves_leaves_no_task(rig: Rig):
    dialled = Dialled(rig.transport(), "tcp://no-such-host.invalid:7400")
    dialled.connection.close()
    await asyncio.sleep(0)
    assert dialled.events.kinds == []
    assert len(asyncio.all_tasks()) == 1


@scenario
async def test_last_words_are_heard_even_when_the_end_is_noticed_first(rig: Rig):
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.set(zmq.RCVTIMEO, 10_000)
        router.bind("tcp://127.0.0.1:0")
        dialled = Dialled(rig.transport(), router.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        connection = (await dialled.connected()).connection
        assert isinstance(connection, ZmqConnection)
        # From here on the loop does not run: the message and the end of the connection both wait to be noticed.
        connection.send(cast(1))
        source, _ = router.recv_multipart()
        router.send_multipart([source, encode_batch([Envelope(Kind.BYE)])])
        router.close(10_000)
    assert connection._monitor._socket.poll(10_000)
    connection._monitor._pump.turn()
    assert [envelope.kind for envelope in dialled.inbox.envelopes] == [Kind.BYE]
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]


@scenario
async def test_it_never_dials_again_by_itself(rig: Rig):
    listening, dialled = rig.pair()
    await dialled.connected()
    assert isinstance(dialled.connection, ZmqConnection)
    assert dialled.connection._socket.get(zmq.RECONNECT_IVL) == 2**31 - 1
    listening.listener.close()
    await dialled.events.kind(EventKind.CLOSED)
    again = Listening(rig.transport(), listening.endpoint)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):  # libzmq's default would be back after 100 ms
            await again.inbox.count(1)
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]

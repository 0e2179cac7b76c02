"""Whatever is sent to a port, those who speak the protocol go on as if nothing had happened."""

import asyncio
import os
import random
import struct

import pytest
import zmq

from tests.unit.transports.harness import Dialled, Listening, Rig, cast, reply, scenario
from transports.endpoint import Endpoint
from transports.limits import Limits
from transports.wire.batch import encode_batch

LIMITS = Limits(frame_bytes_max=1 << 20, handshake_timeout_s=0.3)
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)


@pytest.fixture
def rig() -> Rig:
    return Rig("zmq")


class Honest:
    """A peer that calls and is answered, before, during and after the attack."""

    def __init__(self, rig: Rig) -> None:
        self.listening = Listening(rig.transport(LIMITS), rig.fresh)
        self.port = Endpoint.parse(self.listening.endpoint).port
        self.dialled = Dialled(rig.transport(LIMITS), self.listening.endpoint)
        self.number = 1_000_000

    async def works(self) -> None:
        self.number += 1
        self.dialled.connection.send(cast(self.number))
        await self.listening.inbox.until(lambda: self.number in self.listening.inbox.ids)
        batch = next(b for b in self.listening.inbox.entries if self.number in [e.id for e in b.envelopes])
        assert self.listening.listener.send(batch.source, reply(self.number))
        await self.dialled.inbox.until(lambda: self.number in self.dialled.inbox.ids)


OCTETS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8\r\n\r\n" * 4,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n" * 4,
    "zeros": bytes(10_000),
    "noise": random.Random(7).randbytes(10_000),
    "greeting then noise": GREETING + random.Random(8).randbytes(10_000),
    "greeting then a command of 2^63 octets": GREETING + b"\x06" + struct.pack(">Q", 1 << 63),
    "half a greeting": GREETING[:20],
    "nothing": b"",
}


@pytest.mark.parametrize("octets", OCTETS.values(), ids=OCTETS.keys())
@scenario
async def test_plain_tcp(rig: Rig, octets: bytes):
    honest = Honest(rig)
    await honest.works()
    _, writer = await asyncio.open_connection("127.0.0.1", honest.port)
    writer.write(octets)
    await honest.works()
    writer.close()
    await honest.works()


@pytest.mark.parametrize("octets", [b"", GREETING[:20], GREETING], ids=["nothing", "half a greeting", "no handshake"])
@scenario
async def test_a_handshake_that_never_ends_is_ended(rig: Rig, octets: bytes):
    honest = Honest(rig)
    reader, writer = await asyncio.open_connection("127.0.0.1", honest.port)
    writer.write(octets)
    await reader.read()  # until the listener closes, after handshake_timeout_s
    writer.close()
    await honest.works()


@scenario
async def test_many_half_open_connections(rig: Rig):
    honest = Honest(rig)
    await honest.works()
    writers = [(await asyncio.open_connection("127.0.0.1", honest.port))[1] for _ in range(50)]
    await honest.works()
    for writer in writers:
        writer.close()
    await honest.works()


@scenario
async def test_a_dealer_that_sends_garbage(rig: Rig):
    honest = Honest(rig)
    await honest.works()
    noise = random.Random(9)
    good = encode_batch([cast(7)])
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.SNDHWM, 0)
        socket.connect(honest.listening.endpoint)
        for _ in range(300):
            damaged = bytearray(good)
            damaged[noise.randrange(2)] ^= 1 << noise.randrange(1, 8)
            socket.send_multipart([noise.randbytes(noise.randrange(200)) for _ in range(noise.randrange(1, 5))])
            socket.send(damaged)
        socket.send(b"\x01" + b"\x91" * 100_000)
        socket.send_multipart([good, *[b"x"] * 100])
        socket.send(good)
        await honest.listening.inbox.until(lambda: 7 in honest.listening.inbox.ids)
        await honest.works()
    assert honest.listening.listener.stats().malformed >= 300
    await honest.works()


@scenario
async def test_a_frame_that_is_too_large_ends_only_its_sender(rig: Rig):
    honest = Honest(rig)
    await honest.works()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(honest.listening.endpoint)
        socket.send(os.urandom(16) * (1 << 17))
        await honest.works()
    assert honest.listening.listener.stats().malformed == 0


@scenario
async def test_other_socket_types_are_not_let_in(rig: Rig):
    honest = Honest(rig)
    await honest.works()
    with zmq.Context() as context:
        for kind in (zmq.PUB, zmq.PULL, zmq.PAIR):
            with context.socket(kind) as socket, socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                socket.connect(honest.listening.endpoint)
                assert await asyncio.to_thread(monitor.poll, 10_000)
                socket.disable_monitor()
            await honest.works()


@scenario
async def test_a_second_dialler_cannot_take_the_replies_of_the_first(rig: Rig):
    """With ROUTER_HANDOVER a peer that gives itself the routing id of another would be sent its answers."""
    honest = Honest(rig)
    await honest.works()
    [victim] = {batch.source for batch in honest.listening.inbox.entries}
    with zmq.Context() as context, context.socket(zmq.DEALER) as thief:
        thief.set(zmq.ROUTING_ID, b"\1" + victim[1:])  # libzmq keeps ids that begin with zero for itself
        thief.connect(honest.listening.endpoint)
        thief.send(encode_batch([cast(1)]))
        await honest.listening.inbox.until(lambda: 1 in honest.listening.inbox.ids)
        with context.socket(zmq.DEALER) as twin:
            twin.set(zmq.ROUTING_ID, b"\1" + victim[1:])  # the id of the thief, this time
            twin.connect(honest.listening.endpoint)
            twin.send(encode_batch([cast(2)]))
            await honest.works()
            assert 2 not in honest.listening.inbox.ids
            assert honest.listening.listener.send(b"\1" + victim[1:], reply(5))
            assert await asyncio.to_thread(thief.poll, 10_000)
            assert not twin.poll(0)
        await honest.works()

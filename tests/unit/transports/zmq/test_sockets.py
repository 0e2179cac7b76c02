import asyncio

import pytest
import zmq

from tests.unit.transports.harness import Inbox, Listening, Rig, cast, scenario
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.limits import Limits
from transports.wire.batch import encode_batch
from transports.zmq.sockets import make_socket, milliseconds, read_message


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER])
def test_every_queue_and_wait_is_bounded(channel: Channel, kind: int):
    limits = Limits()
    with zmq.Context() as context, make_socket(context, kind, channel, Endpoint("tcp", "::1", 1), limits) as socket:
        assert socket.get(zmq.SNDHWM) == limits.send_hwm
        assert socket.get(zmq.RCVHWM) == limits.receive_hwm
        assert socket.get(zmq.MAXMSGSIZE) == limits.frame_bytes_max
        assert socket.get(zmq.LINGER) == 0
        assert socket.get(zmq.IPV6) == 1
        assert socket.get(zmq.HANDSHAKE_IVL) == 3000
        assert socket.get(zmq.HEARTBEAT_IVL) == 1000
        # A receiver whose user code is wedged stops reading pongs; its links must survive that.
        patient = channel in (Channel.DATA, Channel.EVENTS)
        assert socket.get(zmq.HEARTBEAT_TIMEOUT) == (30_000 if patient else 5_000)
        assert socket.get(zmq.ROUTING_ID) == b""


def test_zero_would_switch_a_timer_off():
    assert [milliseconds(seconds) for seconds in (1e-9, 0.0011, 2.0)] == [1, 2, 2000]


def test_a_message_is_read_whole_and_large_parts_without_a_copy():
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.bind("inproc://x")
        far.connect("inproc://x")
        with pytest.raises(zmq.Again):
            read_message(near)
        far.send_multipart([b"small"])
        assert read_message(near) == (b"small", ())
        far.send_multipart([bytes(100_000), b"one", b""])
        frame, attachments = read_message(near)
        assert isinstance(frame, memoryview)
        assert len(frame) == 100_000
        assert [bytes(part) for part in attachments] == [b"one", b""]


@scenario
async def test_attachments_are_handed_up_and_counted(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(listening.endpoint)
        frame = encode_batch([cast(1)])
        socket.send_multipart([frame, b"a" * 1000, bytes(1 << 20)])
        socket.send_multipart([frame, *[b""] * 65])
        socket.send_multipart([frame])
        await listening.inbox.count(2)
    first, second = listening.inbox.entries
    assert [len(attachment) for attachment in first.attachments] == [1000, 1 << 20]
    assert first.size == len(frame) + 1000 + (1 << 20)
    assert second.attachments == ()
    assert listening.listener.stats().malformed == 1


@scenario
async def test_a_frame_beyond_the_limit_costs_its_sender_the_connection(rig: Rig):
    limits = Limits(frame_bytes_max=1 << 18)
    inbox = Inbox()
    listener = rig.transport(limits).listen(Channel.DATA, rig.fresh, inbox)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.RECONNECT_IVL, -1)
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.connect(listener.endpoint)
        socket.send(bytes(1 << 19))
        assert await asyncio.to_thread(monitor.poll, 10_000)
        socket.disable_monitor()
        monitor.close(0)
    assert inbox.entries == []

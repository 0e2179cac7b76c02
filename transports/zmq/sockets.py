"""What every socket of this transport has in common: its options, and how a message is read from it."""

import math
from collections.abc import Sequence

import zmq

from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.limits import Limits
from transports.parcel import Buffer

__all__ = ("make_socket", "milliseconds", "read_message", "send_message")

# Below this a copy is cheaper than keeping libzmq's message alive, and does not pin its 8 KiB receive buffer.
_COPY_BYTES_MAX = 32 * 1024


def make_socket(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, channel: Channel, endpoint: Endpoint, limits: Limits
) -> "zmq.Socket[bytes]":
    """A socket with the options that dialled and bound sockets share.

    `ROUTING_ID` and `ROUTER_HANDOVER` are never set: with them a second dialler could take the first one's replies.
    """
    stalls = channel.carries_payloads
    heartbeat_ms = milliseconds(limits.heartbeat_stalled_s if stalls else limits.heartbeat_timeout_s)
    socket = context.socket(kind)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, limits.send_hwm)
    socket.set(zmq.RCVHWM, limits.receive_hwm)
    socket.set(zmq.MAXMSGSIZE, limits.frame_bytes_max)
    socket.set(zmq.HEARTBEAT_IVL, milliseconds(limits.heartbeat_interval_s))
    socket.set(zmq.HEARTBEAT_TIMEOUT, heartbeat_ms)
    socket.set(zmq.HEARTBEAT_TTL, heartbeat_ms)
    socket.set(zmq.HANDSHAKE_IVL, milliseconds(limits.handshake_timeout_s))
    socket.set(zmq.IPV6, int(endpoint.is_ipv6))
    return socket


def read_message(socket: "zmq.Socket[bytes]") -> tuple[bytes | memoryview, Sequence[memoryview]]:
    """Read the batch frame and what follows it, as buffers of libzmq's own memory where they are large.

    Raises:
        zmq.Again: There is none.
    """
    first = socket.recv(zmq.NOBLOCK, copy=False)
    frame = first.bytes if len(first) <= _COPY_BYTES_MAX else first.buffer
    if not first.more:
        return frame, ()
    attachments: list[memoryview] = []
    more = True
    while more:
        part = socket.recv(zmq.NOBLOCK, copy=False)  # a message arrives whole or not at all
        attachments.append(part.buffer)
        more = part.more
    return frame, attachments


def send_message(socket: "zmq.Socket[bytes]", frame: bytes, attachments: Sequence[Buffer]) -> None:
    """Send a batch frame and its attachments; large ones from where they are, which libzmq keeps alive until then.

    Raises:
        zmq.Again: There is no room; nothing was sent.
    """
    socket.send(frame, zmq.NOBLOCK | zmq.SNDMORE)
    for part in attachments[:-1]:
        socket.send(part, zmq.NOBLOCK | zmq.SNDMORE, copy=False)  # whether there is room was decided by the first
    socket.send(attachments[-1], zmq.NOBLOCK, copy=False)


def milliseconds(seconds: float) -> int:
    """Seconds as whole milliseconds, at least one: 0 switches most of libzmq's timers off."""
    return max(1, math.ceil(seconds * 1000))

"""The bounds of a transport: every queue, frame and wait has one, and each says what raising it costs."""

import dataclasses
import math

__all__ = ("FRAME_SLACK_BYTES", "Limits")

KIB = 1024
MIB = 1024 * KIB

# What `frame_bytes_max` keeps free for everything but the body: version, array, address, ids and meta
# (64 KiB at most, docs/spec/0001-wire.md section 7).
FRAME_SLACK_BYTES = 128 * KIB


_MAY_BE_NONE = ("spin_s", "io_nice")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one transport. The defaults carry the budgets of DESIGN.md section 7 on two cores.

    Attributes:
        frame_bytes_max: Largest frame accepted; libzmq drops the connection of a peer that announces more. Must be
            the same on every node, or the larger sender loses its links. Raising it lets one peer hold more memory.
        batch_bytes_max: A batch is closed when its estimated size reaches this. Larger batches cost less a message
            and delay what waits behind them.
        batch_messages_max: A batch is closed at this many envelopes; at most 65 535, the array16 of the wire.
        outbox_messages_max: Envelopes waiting in one connection before it is `full`. Counted when a batch closes, so a
            connection may hold one batch more.
        outbox_bytes_max: The same in bytes. One envelope larger than this still passes when nothing else waits.
        exempt_bytes_max: Bytes waiting in one connection past which even what needs no credit (replies, handshakes,
            core messages) is dropped and counted: the peer asks without reading the answers.
        send_hwm: Batches (ZeroMQ messages) that libzmq may hold for one peer on the sending side. Small on purpose:
            what waits in our own queue is coalesced, expires and is counted; what waits in libzmq does none of that.
            Measured one way, 100 B, two processes: 8 to 256 carry the same; 64 leaves room for batches of one.
        receive_hwm: The same on the receiving side.
        answers_hwm: Batches (each a ZeroMQ message) that a listener may have under way to one dialler that has no
            listener of its own; one answer each while it is quiet, up to 16 KiB of them when it is busy. Below the
            calls that a client has in flight, answers are refused; above, a client that does not read holds that much
            of our memory.
        drain_messages_max: Batches read from one socket in one turn, before other sockets and callbacks have theirs.
        drain_s_max: Seconds that such a turn may take, handlers included.
        spin_s: Seconds for which the data sockets are asked again and again after a message was sent or received,
            before the loop may sleep; 0 for never. Spares two wake-ups in a round trip, and takes a core for as long.
        heartbeat_interval_s: Seconds between ZMTP pings on an otherwise silent connection.
        heartbeat_timeout_s: Seconds without any answer after which a coordination or gossip connection is dropped.
        heartbeat_stalled_s: The same on data and events. libzmq stops reading, pongs too, while a receiver whose user
            code is wedged has a full queue; this must exceed the longest such stall that is to be survived.
        connect_timeout_s: Seconds that a dial may wait for TCP to connect, name resolution included.
        handshake_timeout_s: Seconds that a peer may take for the ZMTP handshake once TCP is connected.
        attachments_max: Frames that may follow a batch.
        io_nice: Nice value of the I/O threads, 0 to 19: how much they yield to others where processors are short. 0
            leaves them alone.
        chunk_bytes: Messages whose payload has a part larger than this go in pieces of this size. Larger pieces carry
            more a second, and what is urgent waits for one. Measured: 256 KiB carries half of what 1 MiB does.
        transfer_bytes_max: Largest message, in pieces.
        transfers_active_max: Messages of one connection that are sent in pieces at once, taking turns.
        transfers_max: Those that a peer may have under way to us; past it they are refused.
        outbox_bulk_bytes_max: Bytes of such messages that wait in one connection before senders of more have to. They
            are not copied: it bounds what callers keep alive.
        exempt_bulk_bytes_max: The same for large answers, which nobody waits to send; past it they are dropped and
            counted.
        bulk_bytes_per_s: Pace of the pieces of one connection; below what the network carries, it leaves room between
            them.
        bulk_window_bytes: Bytes of large messages that one peer may begin before we have taken up those before; one
            more than this still passes. The memory that it may fill here, beside its credit.
        assembly_bytes_max: The same of all peers together. Past it a message is refused, and its sender told.
        pooled_bytes_max: Memory of messages taken up that is kept for the next. It saves the page faults of new memory,
            and is given back after some idle time.
        sockets_max: Sockets of one ZeroMQ context. Three for each dialled connection (libzmq's default of 1023 ends at
            80 peers); an empty slot costs 12 bytes.
    """

    frame_bytes_max: int = 16 * MIB + FRAME_SLACK_BYTES
    batch_bytes_max: int = 64 * KIB
    batch_messages_max: int = 512
    outbox_messages_max: int = 4096
    outbox_bytes_max: int = 4 * MIB
    exempt_bytes_max: int = 64 * MIB
    send_hwm: int = 64
    receive_hwm: int = 64
    answers_hwm: int = 1024
    drain_messages_max: int = 64
    drain_s_max: float = 0.002
    spin_s: float = 0.0
    io_nice: int = 0
    heartbeat_interval_s: float = 1.0
    heartbeat_timeout_s: float = 5.0
    heartbeat_stalled_s: float = 30.0
    connect_timeout_s: float = 3.0
    handshake_timeout_s: float = 3.0
    attachments_max: int = 64
    chunk_bytes: int = 1 * MIB
    transfer_bytes_max: int = 1025 * MIB
    transfers_active_max: int = 4
    transfers_max: int = 16
    outbox_bulk_bytes_max: int = 16 * MIB
    exempt_bulk_bytes_max: int = 1024 * MIB
    bulk_bytes_per_s: float = math.inf
    bulk_window_bytes: int = 64 * MIB
    assembly_bytes_max: int = 2048 * MIB
    pooled_bytes_max: int = 64 * MIB
    sockets_max: int = 16_384

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in _MAY_BE_NONE):
                raise ValueError(f"{field.name}={value} is not a bound; give a positive number")
        if self.batch_messages_max > 65_535:
            raise ValueError(
                f"batch_messages_max={self.batch_messages_max} exceeds 65535, the most that a batch may hold"
            )
        smallest = 2 * FRAME_SLACK_BYTES
        if self.frame_bytes_max < max(smallest, 2 * self.batch_bytes_max):
            raise ValueError(
                f"frame_bytes_max={self.frame_bytes_max} is too small: give at least {smallest}, "
                f"and twice batch_bytes_max={self.batch_bytes_max}"
            )
        if self.heartbeat_interval_s >= min(self.heartbeat_timeout_s, self.heartbeat_stalled_s):
            raise ValueError(
                f"heartbeat_interval_s={self.heartbeat_interval_s} must be below heartbeat_timeout_s="
                f"{self.heartbeat_timeout_s} and heartbeat_stalled_s={self.heartbeat_stalled_s}"
            )

    @property
    def body_bytes_max(self) -> int:
        """The largest body that fits into one frame."""
        return self.frame_bytes_max - FRAME_SLACK_BYTES

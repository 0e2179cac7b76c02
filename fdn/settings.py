"""Every setting of a node: its type, unit, default and range, and what is traded by changing it.

A `Settings` is checked when it is made and never changes afterwards. `fdn.config_file` builds one from flags,
environment and files; a program makes one itself: `Settings(join=("10.0.0.1:7400",), calls=CallSettings(timeout_s=1))`.

Units and bounds are part of the name: `_s` is seconds, `_bytes` is bytes, `_max` is a count that is never passed.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final, TypeVar

from fdn.addresses import Bind, parse_advertise, parse_bind, parse_join
from fdn.errors import ConfigError
from fdn.units import format_size
from transports.channel import Channel

__all__ = (
    "BlobSettings",
    "CallSettings",
    "DataSettings",
    "DeliverySettings",
    "EventSettings",
    "FactSettings",
    "LinkSettings",
    "LogSettings",
    "RelaySettings",
    "Settings",
    "SharedSettings",
    "check_value",
    "setting_fields",
)

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB
_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}")

_KINDS: Final[dict[object, str]] = {
    float: "a number",
    int: "a whole number",
    str: "a string",
    bool: "true or false",
    tuple[str, ...]: "a list of strings",
}

_T = TypeVar("_T", int, float)


def _within(default: _T, low: _T, high: _T) -> _T:
    """A number with its range. Typed as the number, because that is what an instance holds."""
    value: _T = dataclasses.field(default=default, metadata={"low": low, "high": high})
    return value


def _one_of(default: str, *others: str) -> str:
    value: str = dataclasses.field(default=default, metadata={"choices": (default, *others)})
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """`links`: connections to peers, one per peer and channel."""

    KEY: ClassVar[str] = "links"

    # Seconds before the first redial of a lost connection; doubled with each failure, with jitter. Lower finds a
    # restarted peer sooner, and knocks more often on one that is down.
    redial_min_s: float = _within(0.05, 0.001, 60.0)

    # Seconds that the redial pause never passes. Higher is kinder to a network with many dead peers; a peer that
    # comes back may then be seen that much later.
    redial_max_s: float = _within(2.0, 0.01, 600.0)

    # Seconds from the connection to the peer's WELCOME. Higher tolerates a busier peer; lower moves on sooner from
    # an address where something answers that is not fdn.
    handshake_timeout_s: float = _within(2.0, 0.05, 60.0)

    # Seconds without traffic after which a `data` or `events` link closes. Higher saves the handshake of the next
    # use, and keeps the descriptors of idle peers for as long.
    idle_close_s: float = _within(60.0, 0.1, 86400.0)

    # Connections that a listener admits, per channel. Each costs a descriptor and the memory of its queues; past it a
    # HELLO is refused as overloaded.
    sessions_max: int = _within(4096, 1, 1_000_000)

    # Messages that wait for a link which is not open yet. Higher carries a burst over a slow handshake; past it the
    # sender waits or is refused.
    pending_messages_max: int = _within(4096, 1, 1_000_000)

    def __post_init__(self) -> None:
        _check(self, self.KEY)
        if self.redial_min_s > self.redial_max_s:
            raise ConfigError(
                f"links.redial_min_s = {self.redial_min_s:g} is above links.redial_max_s = {self.redial_max_s:g}",
                hint="raise links.redial_max_s, or lower links.redial_min_s",
                key="links.redial_min_s",
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """`data`: the plane on the user's event loop, which carries calls, casts and events."""

    KEY: ClassVar[str] = "data"

    # Messages that one peer may have sent and we not yet handled. Higher rides out longer pauses of a handler, and
    # lets more work wait here when it could run elsewhere.
    credit_messages: int = _within(8192, 16, 10_000_000)

    # The same in bytes: the memory that one peer may fill here. Multiply by the number of peers for the worst case.
    credit_bytes: int = _within(8 * _MIB, 64 * _KIB, 4 * _GIB)

    # Connections (lanes) side by side to each peer, at most. More carry one key's messages past another's large ones
    # and fill long fat networks; each costs two descriptors and a credit window at both ends, and messages without a
    # key are no longer ordered among each other.
    parallelism: int = _within(1, 1, 64)

    # What a send does when the queue to its node is full, because that node grants no credit or the network is slow:
    # wait (for the deadline at most) or refuse with Overloaded, at once, so that whoever sends can do something else.
    when_full: str = _one_of("wait", "refuse")

    # Whether batches from 1 KiB are compressed (zlib, level 1) where they shrink. One core does about 150 MB/s, so it
    # pays on networks below 1 Gbit/s, and only costs on faster ones.
    compression: str = _one_of("off", "on")

    # What adapts to what is seen of each link: `on` sends less ahead than the credit allows while that would only wait
    # longer at the other side, and smaller batches over slow networks; `lanes` also uses fewer than `parallelism` lanes
    # while they do not pay; `off` measures only. At idle none of them changes anything.
    adapt: str = _one_of("on", "lanes", "off")

    # Seconds of work that may be under way to a peer which is the bottleneck. Lower keeps more of it here, where it can
    # be overtaken, expire or go elsewhere; below the pauses of its handlers it lets them run dry.
    backlog_s: float = _within(0.25, 0.005, 60.0)

    # Seconds without a beat of the user's loop after which its lag is gossiped and callers avoid this node. Lower
    # steers calls away sooner; below a handler's ordinary pauses it makes traffic flutter.
    stall_warn_s: float = _within(0.5, 0.05, 3600.0)

    # Seconds after which the node is alive but not reachable: its registrations drain, its sessions are not renewed.
    # Lower frees its work sooner; a long garbage collection or import must still fit.
    stall_max_s: float = _within(15.0, 0.1, 86400.0)

    # Seconds between beats. Lower notices a stall sooner, and wakes an idle loop more often.
    beat_interval_s: float = _within(0.25, 0.01, 60.0)

    # What an idle node does: sleep until something comes, or ask its sockets again and again for a moment after each
    # message. `spin` answers sooner, and takes a core of its own while there is traffic.
    latency: str = _one_of("sleep", "spin")

    # Seconds that `latency = "spin"` goes on after a message. Higher catches rarer ones, at the price of a busy core.
    spin_s: float = _within(0.001, 0.00001, 1.0)

    # Messages that a sending task may queue before it gives the loop a turn, even while there is room. Higher favours
    # throughput of one sender, lower the latency of everything else on the loop.
    sends_per_pass_max: int = _within(512, 1, 65536)

    # Bytes of one message's body: a GiB, and what is around it. Higher passes larger objects whole, and lets one of
    # them take as much memory here.
    body_bytes_max: int = _within(1 * _GIB + 1 * _MIB, 1 * _KIB, 64 * _GIB)

    # Bytes of a body that goes in one frame: to and from clients, and peers that take nothing in pieces. The same on
    # every node, or those that send more lose their links.
    frame_bytes_max: int = _within(16 * _MIB, 128 * _KIB, 1 * _GIB)

    # Bodies with a part above this go in pieces of this size, between which everything else passes. Lower lets urgent
    # messages pass sooner; higher carries more a second.
    chunk_bytes: int = _within(1 * _MIB, 64 * _KIB, 16 * _MIB)

    # Bytes of large messages that one peer may have begun, or we not yet taken up; one more than this still passes.
    # Higher lets it run further ahead of slow handlers, in our memory.
    bulk_window_bytes: int = _within(64 * _MIB, 1 * _MIB, 64 * _GIB)

    # The same of all peers together. Past it a large message is refused, and its sender hears Overloaded.
    assembly_bytes_max: int = _within(2 * _GIB, 1 * _MIB, 256 * _GIB)

    # Bytes a second that large messages take of one connection; 0 sets no pace. Below what the network carries, it
    # leaves time between the pieces for everything else on the machine.
    bulk_bytes_per_s: float = _within(0.0, 0.0, 1e12)

    # How much the I/O threads of this plane yield to everything else where processors are short, those of coordination
    # above all: their nice value (Linux). Higher keeps heartbeats on time beside saturated data, and carries less.
    io_nice: int = _within(0, 0, 19)

    def __post_init__(self) -> None:
        _check(self, self.KEY)
        for lower, upper in (("beat_interval_s", "stall_warn_s"), ("stall_warn_s", "stall_max_s")):
            if getattr(self, lower) >= getattr(self, upper):
                raise ConfigError(
                    f"data.{lower} = {getattr(self, lower):g} is not below data.{upper} = {getattr(self, upper):g}",
                    hint=f"raise data.{upper}, or lower data.{lower}",
                    key=f"data.{lower}",
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """`calls`: requests that wait for an answer, and the services that answer."""

    KEY: ClassVar[str] = "calls"

    # Seconds that a call may take when its caller set no deadline. Higher waits longer for a node that will never
    # answer; there is no way to wait for ever.
    timeout_s: float = _within(5.0, 0.001, 86400.0)

    # Calls of this node that may await an answer at once. Higher lets more wait, in memory; past it `call` raises
    # Overloaded.
    in_flight_max: int = _within(65536, 1, 10_000_000)

    # Worker tasks of a service that does not say itself. Higher overlaps more waiting; it adds no CPU.
    concurrency: int = _within(64, 1, 65536)

    # Requests that wait for a free worker of one service. Higher queues longer before callers hear Overloaded, and
    # they then wait for answers that come too late.
    mailbox_max: int = _within(65536, 1, 10_000_000)

    # Items of one stream that may wait at its reader. Higher lets a producer run further ahead of a slow reader.
    stream_window_items: int = _within(1024, 1, 1_000_000)

    # The same in bytes; one item more than this still passes. A node's open streams may hold so much each.
    stream_window_bytes: int = _within(1 * _MIB, 1 * _KIB, 1 * _GIB)

    # Names that clients of this node may serve in all. All travel in one record to every member.
    client_services_max: int = _within(1024, 1, 100_000)

    # Calls of one name that may be under way at this node's clients at once, and as many that wait.
    client_service_calls_max: int = _within(1024, 1, 1_000_000)

    # Further attempts, on other nodes where there are any, after an error that is `retryable`. Each multiplies the
    # load at the worst moment, so the default is none.
    retries: int = _within(0, 0, 16)

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """`events`: publish and subscribe."""

    KEY: ClassVar[str] = "events"

    # Connections (lanes) side by side to each peer, at most; as `data.parallelism`.
    parallelism: int = _within(1, 1, 64)

    # Whether batches are compressed; as `data.compression`.
    compression: str = _one_of("off", "on")

    # Events that wait in one subscription which does not say itself. Higher rides out longer pauses of its reader;
    # past it the subscription's policy decides.
    queue_max: int = _within(8192, 1, 10_000_000)

    # The same in bytes of payload.
    queue_bytes_max: int = _within(16 * _MIB, 1 * _KIB, 4 * _GIB)

    # Subscriptions of this node, those of its clients included. All their patterns travel in one record to every
    # member: prefer few wide ones.
    subscriptions_max: int = _within(1024, 1, 100_000)

    # Seconds that subscribing waits for the members to confirm that they know. Higher waits longer for one that is
    # busy or cannot be reached, before it is named as unaware.
    subscribe_timeout_s: float = _within(2.0, 0.01, 3600.0)

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlobSettings:
    """`blobs`: large objects that are held here and fetched in pieces."""

    KEY: ClassVar[str] = "blobs"

    # Bytes of a piece of the blobs that are made here. Higher costs less a byte; lower finds a bad piece sooner, and
    # loses less when a link is cut.
    piece_bytes: int = _within(1 * _MIB, 64 * _KIB, 8 * _MIB)

    # Pieces that one transfer asks for ahead. So many are in memory at each end; higher fills a longer path.
    window_pieces: int = _within(8, 1, 256)

    # Seconds that one request for a piece may take before the next holder is asked.
    piece_timeout_s: float = _within(10.0, 0.01, 3600.0)

    # Seconds without a piece after which a transfer gives up. Higher bridges a longer cut of the network.
    patience_s: float = _within(60.0, 0.0, 86400.0)

    # Blobs that this node holds at once; past it making one raises Overloaded.
    held_max: int = _within(1024, 1, 1_000_000)

    # Bytes of those that lie in memory rather than in files.
    memory_bytes_max: int = _within(1 * _GIB, 0, 1024 * _GIB)

    # Largest blob that is read into memory at once; larger ones are saved, or taken piece by piece.
    read_bytes_max: int = _within(1 * _GIB, 0, 1024 * _GIB)

    # Where blobs made of iterables are kept, in files without a name; empty takes the system's folder for temporary
    # files, which on some systems lies in memory.
    spool_dir: str = ""

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """`delivery`: messages that are acknowledged. Those that are sent at most once, the default, cost none of it."""

    KEY: ClassVar[str] = "delivery"

    # Copies of messages, one for each node, that this node keeps because they are not acknowledged yet. Higher rides
    # out a longer absence of a receiver, and loses more should this node die; past it `when_full` decides.
    buffer_max: int = _within(8192, 1, 10_000_000)

    # The same in bytes of payload, a payload counted once for each node that it goes to.
    buffer_bytes_max: int = _within(16 * _MIB, 1 * _KIB, 4 * _GIB)

    # What a publisher that meets a full buffer gets, when it does not say itself: it waits, or Overloaded.
    when_full: str = _one_of("wait", "refuse")

    # Seconds before a message that is not acknowledged is sent again the first time, half of it by chance; longer where
    # acknowledgements take longer. It doubles with each time. Lower repairs a loss sooner, and sends more for nothing
    # to a receiver that is merely busy.
    retransmit_min_s: float = _within(0.25, 0.01, 60.0)

    # Seconds that this pause never passes.
    retransmit_max_s: float = _within(5.0, 0.01, 600.0)

    # Messages from one node, past the first that is missing, that are taken here. Higher lets more pass one that
    # finds no room; costs a number each.
    window_max: int = _within(8192, 16, 1_000_000)

    # Messages that may wait here for one before them (of their key, or by their cause). Past it they are dropped, and
    # sent again by their sender.
    held_max: int = _within(4096, 1, 1_000_000)

    # Seconds that a message with `causal=` waits for what comes before it. Higher keeps the order over longer losses;
    # past it the message is handed over regardless.
    held_max_s: float = _within(5.0, 0.01, 3600.0)

    # Streams of senders that are remembered, so that what they send again is known. Past it the one that was silent for
    # longest is forgotten.
    streams_max: int = _within(4096, 1, 1_000_000)

    # Messages of one origin that are remembered for `effectively_once`. Higher recognises a message that comes again
    # after a longer time; each costs some 100 bytes.
    dedup_window: int = _within(8192, 1, 10_000_000)

    # Origins (nodes, and clients that publish so) that are remembered for it. Multiply for the worst case.
    dedup_origins_max: int = _within(256, 1, 1_000_000)

    # Labels of `causal=` whose past is remembered.
    causal_labels_max: int = _within(1024, 1, 1_000_000)

    # What one message may name as its past. Higher keeps the order among more nodes; it travels with every message
    # that has the label, some 60 bytes each.
    causal_past_max: int = _within(128, 1, 256)

    def __post_init__(self) -> None:
        _check(self, self.KEY)
        if self.retransmit_min_s > self.retransmit_max_s:
            raise ConfigError(
                f"delivery.retransmit_min_s = {self.retransmit_min_s:g} is above delivery.retransmit_max_s = "
                f"{self.retransmit_max_s:g}",
                hint="raise delivery.retransmit_max_s, or lower delivery.retransmit_min_s",
                key="delivery.retransmit_min_s",
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """`relay`: talking to a member over others, where the direct way is down or much slower."""

    KEY: ClassVar[str] = "relay"

    # Talk over others, and pass on for others. Off, a member that cannot be connected to directly cannot be called.
    enabled: bool = True

    # Neighbours that are asked for a path at a time, while a direct way is bad. More find better paths, and each costs
    # two small messages in an interval.
    candidates: int = _within(3, 1, 64)

    # Nodes that a path may lead over. Higher finds ways through stranger networks, each node of which adds its delay.
    ttl: int = _within(3, 1, 5)

    # Seconds between two measurements of the way to each member in use. Lower notices sooner, and costs two small
    # messages each time.
    interval_s: float = _within(1.0, 0.05, 60.0)

    # A path must be so many times faster than a direct way that is up. Lower relays for smaller gains.
    factor: float = _within(3.0, 1.0, 1000.0)

    # ... and faster by so many seconds. Lower relays on fast networks too, where it rarely pays.
    gain_s: float = _within(0.02, 0.0001, 60.0)

    # Seconds for which another way must have been better before it is taken. Higher changes less often, and later.
    hold_s: float = _within(2.0, 0.1, 600.0)

    # Messages of one origin that may wait here to be passed on to one node. Past it the origin's connection over us
    # ends, and its calls fail.
    queue_messages_max: int = _within(1024, 1, 1_000_000)

    # The same in bytes.
    queue_bytes_max: int = _within(4 * _MIB, 64 * _KIB, 1 * _GIB)

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FactSettings:
    """`facts`: the stream of what changed (members, links, leader) that programs may follow."""

    KEY: ClassVar[str] = "facts"

    # Facts that one slow reader may leave unread; past it the oldest are dropped and counted.
    queue_max: int = _within(1024, 1, 1_000_000)

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """`shared`: memory that the nodes of one host share, through /dev/shm."""

    KEY: ClassVar[str] = "shared"

    # Whether nodes of this host and user pass arrays and buffers in shared memory as handles. Without, and on systems
    # without /dev/shm, they go as frames.
    enabled: bool = True

    # Bytes of shared memory that this node may have made and not given back. Past it, and where /dev/shm is full, users
    # get memory of the process's own, which goes as frames.
    bytes_max: int = _within(4 * _GIB, 0, 1024 * _GIB)

    # Segments that this node has made, or mapped, at once; each costs two descriptors. Past it what comes is copied.
    segments_max: int = _within(256, 0, 100_000)

    # Bytes that are kept to be used again: pages that were used before cost nothing to have.
    spare_bytes_max: int = _within(128 * _MIB, 0, 64 * _GIB)

    # Seconds between two looks for what killed processes have left in /dev/shm; there is one at each start, too.
    sweep_interval_s: float = _within(60.0, 0.1, 86400.0)

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`log`: what `fdn node run` writes to standard error. The library itself only logs through `logging`."""

    KEY: ClassVar[str] = "log"

    # The least severe level that is written. Debug writes a line per connection and per probe that failed.
    level: str = _one_of("info", "debug", "warning", "error")

    # Lines for people, or one JSON object a line for a collector.
    format: str = _one_of("console", "json")

    def __post_init__(self) -> None:
        _check(self, self.KEY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of one node."""

    KEY: ClassVar[str] = ""

    # The node's name for people, 1 to 64 of a-z 0-9 . _ -; empty makes one from the host's name and 32 random bits.
    name: str = ""

    # Nodes talk only to nodes that name the same cluster; the same letters as in `name`.
    cluster: str = "fdn"

    # Base address: the four channels listen on this port and the three above. Port 0 takes four ephemeral ports; a
    # trailing `+` takes the first group of four that is free, from this port upwards. IPv6 goes in brackets.
    bind: str = "tcp://127.0.0.1:0"

    # Where peers find this node when that is not where it binds (NAT, containers): a host, whose ports are the bound
    # ones, or a map of all channels: "coordination=tcp://H:P,gossip=tcp://H:P,data=tcp://H:P,events=tcp://H:P".
    advertise: str = ""

    # Base addresses of nodes that may already be there; any one that answers is enough. "host:port" means tcp.
    join: tuple[str, ...] = ()

    # Seconds that a start may take to reach one of `join`. Higher lets whole clusters start in any order.
    join_timeout_s: float = _within(10.0, 0.1, 86400.0)

    # A directory of this node's own, where its identity survives a restart; empty makes a new node of every start.
    data_dir: str = ""

    # Without keys, only this permits to listen where other machines can connect. Whoever reaches the ports can then
    # do anything that a member can.
    insecure: bool = False

    # Pace of the failure detector. A faster one (`local`) finds a dead machine sooner, and suspects one that is
    # merely busy; a slower one (`wan`) bears long and lossy paths. Empty takes `local` on loopback, `lan` elsewhere.
    preset: str = _one_of("", "local", "lan", "wan")

    # Seconds for which a leaving node finishes what it has begun. Higher loses less work, and stops later.
    drain_timeout_s: float = _within(10.0, 0.0, 86400.0)

    # Seconds that stopping may take after that, before sockets are closed regardless.
    stop_timeout_s: float = _within(5.0, 0.1, 3600.0)

    # What this node is in the cluster.
    role: str = _one_of("member")

    links: LinkSettings = dataclasses.field(default_factory=LinkSettings)
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    calls: CallSettings = dataclasses.field(default_factory=CallSettings)
    events: EventSettings = dataclasses.field(default_factory=EventSettings)
    delivery: DeliverySettings = dataclasses.field(default_factory=DeliverySettings)
    blobs: BlobSettings = dataclasses.field(default_factory=BlobSettings)
    shared: SharedSettings = dataclasses.field(default_factory=SharedSettings)
    relay: RelaySettings = dataclasses.field(default_factory=RelaySettings)
    facts: FactSettings = dataclasses.field(default_factory=FactSettings)
    log: LogSettings = dataclasses.field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        if isinstance(self.join, str):
            raise ConfigError(
                f'join = "{self.join}" is a string', hint=f'write a list: join = ["{self.join}"]', key="join"
            )
        object.__setattr__(self, "join", tuple(self.join))
        _check(self, self.KEY)
        object.__setattr__(self, "join", tuple(parse_join(address) for address in self.join))
        bind = self.bind_address
        if not (bind.base.is_loopback or self.insecure):
            raise ConfigError(
                f'bind = "{self.bind}" can be reached from other machines, and this node has no keys',
                hint="bind to 127.0.0.1, or say that you accept it: --insecure, or insecure = true",
                key="bind",
            )
        if bind.base.is_wildcard and not self.advertise:
            raise ConfigError(
                f'bind = "{self.bind}" stands for every address of this machine, which peers cannot dial',
                hint='say where they find this node: advertise = "HOST"',
                key="bind",
            )

    @property
    def bind_address(self) -> Bind:
        """`bind`, taken apart."""
        return parse_bind(self.bind)

    @property
    def advertise_address(self) -> str | dict[Channel, str]:
        """`advertise`, taken apart: a host, a map of every channel, or empty."""
        return parse_advertise(self.advertise) if self.advertise else ""

    @property
    def pace(self) -> str:
        """The failure detector's preset that is in force: `local`, `lan` or `wan`."""
        return self.preset or ("local" if self.bind_address.base.is_loopback else "lan")


def setting_fields() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Every setting by its full key (`data.credit_bytes`), in the order of this file."""
    for field in dataclasses.fields(Settings):
        if dataclasses.is_dataclass(field.type):
            for inner in dataclasses.fields(field.type):
                yield f"{field.name}.{inner.name}", inner
        else:
            yield field.name, field


def check_value(key: str, field: dataclasses.Field[Any], value: object) -> None:
    """Check one value against its field: type, range, choices, and the grammar of names and addresses.

    Raises:
        ValueError: It does not fit; the text says what is expected.
    """
    kind = field.type
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind in (str, bool):
        fits = type(value) is kind
    else:
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if not fits:
        raise ValueError(f"expected {_KINDS[kind]}")
    if "low" in field.metadata:
        low, high = field.metadata["low"], field.metadata["high"]
        if not low <= value <= high:  # NaN is in no range
            written = f" ({format_size(low)} to {format_size(high)})" if "_bytes" in key else ""
            raise ValueError(
                f"expected {low:g} to {high:g}{written}" if kind is float else f"expected {low} to {high}{written}"
            )
    if "choices" in field.metadata and value not in field.metadata["choices"]:
        raise ValueError("expected " + " or ".join(f'"{choice}"' for choice in field.metadata["choices"] if choice))
    _check_grammar(key, value)


def _check_grammar(key: str, value: object) -> None:
    match key, value:
        case ("name", str()) if value and not _NAME.fullmatch(value):
            raise ValueError("expected 1 to 64 characters of a-z 0-9 . _ -")
        case ("cluster", str()) if not _NAME.fullmatch(value):
            raise ValueError("expected 1 to 64 characters of a-z 0-9 . _ -")
        case ("bind", str()):
            parse_bind(value)
        case ("advertise", str()) if value:
            parse_advertise(value)
        case ("join", tuple()):
            for address in value:
                parse_join(address)


def _check(section: Any, prefix: str) -> None:
    """Check every field of a section, but for the nested sections, which have checked themselves."""
    for field in dataclasses.fields(section):
        key = f"{prefix}.{field.name}" if prefix else field.name
        value = getattr(section, field.name)
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            if not isinstance(value, field.type):
                raise ConfigError(f"{key} = {value!r}: expected a {field.type.__name__}", key=key)
            continue
        try:
            check_value(key, field, value)
        except ValueError as error:
            shown = f'"{value}"' if isinstance(value, str) else value
            raise ConfigError(f"{key} = {shown}: {error}", key=key) from None

"""What acknowledged delivery says on the wire: spec 0001, section 4.8. Reading trusts nothing that came in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from transports.wire.envelope import MetaKey

__all__ = (
    "ACK_RANGES_MAX",
    "DEPENDENCIES_MAX",
    "Ack",
    "Dependency",
    "MessageId",
    "Tag",
    "pack_ack",
    "pack_causal",
    "read_ack",
    "read_causal",
    "read_message_id",
    "read_tag",
)

ACK_RANGES_MAX: Final = 64  # in one ACK, and as many refusals
DEPENDENCIES_MAX: Final = 1024  # in one message
_LABEL_CHARACTERS_MAX: Final = 256
_NODE_CHARACTERS_MAX: Final = 256
_NUMBER_MAX: Final = 2**63 - 1
_ack_decoder = msgspec.msgpack.Decoder(tuple[int, list[tuple[int, int]], list[int]])


class Tag(NamedTuple):
    """The value of `MetaKey.DELIVERY`.

    Attributes:
        stream: Names the sender's numbering of what it sends to this one receiver; a random number above 0.
        floor: Nothing with a lower number will be sent any more: it was acknowledged, given up, or went elsewhere.
        previous: The number of the message before this one with the same key; 0 if there is none to wait for.
    """

    stream: int
    floor: int
    previous: int


class MessageId(NamedTuple):
    """What a message is, however often and on whatever way it comes.

    Attributes:
        origin: Who published it first: a node id, or a client's.
        sequence: Its number there.
        group: The queue group that this copy is for: one node may get a copy for its own sake, and one for a group.
    """

    origin: str
    sequence: int
    group: str = ""


class Dependency(NamedTuple):
    """A message that comes before, by who sent it where.

    Attributes:
        origin: Node id of the sender.
        dest: Node id of the receiver.
        stream: The sender's stream to that receiver.
        sequence: The message's number in it, or any later one that comes before, too.
    """

    origin: str
    dest: str
    stream: int
    sequence: int


class Ack(NamedTuple):
    """What a receiver has of one stream.

    Attributes:
        stream: The sender's.
        upto: It has accepted this number and all below.
        ranges: First and last number of what it has accepted above that.
        refused: Numbers of what nobody here wants: they are settled here, and may go elsewhere.
    """

    stream: int
    upto: int
    ranges: Sequence[tuple[int, int]] = ()
    refused: Sequence[int] = ()


def read_tag(meta: Mapping[int, Any]) -> Tag | None:
    """The tag in `meta`; None if there is none, or it is not what the specification says."""
    match meta.get(MetaKey.DELIVERY):
        case [int(stream), int(floor), int(previous)] if (
            0 < stream <= _NUMBER_MAX and 0 < floor <= _NUMBER_MAX and 0 <= previous <= _NUMBER_MAX
        ):
            return Tag(stream, floor, previous)
    return None


def read_message_id(meta: Mapping[int, Any]) -> MessageId | None:
    """Origin, sequence and group, if the first two are there and what they should be."""
    match meta.get(MetaKey.ORIGIN), meta.get(MetaKey.SEQUENCE):
        case str(origin), int(sequence) if len(origin) <= _NODE_CHARACTERS_MAX and 0 < sequence <= _NUMBER_MAX:
            match meta.get(MetaKey.GROUPS):
                case [str(group)]:
                    return MessageId(origin, sequence, group)
            return MessageId(origin, sequence)
    return None


def pack_causal(label: str, dependencies: Sequence[Dependency]) -> list[Any]:
    """The value of `MetaKey.CAUSAL`."""
    return [label, [list(dependency) for dependency in dependencies]]


def read_causal(meta: Mapping[int, Any]) -> tuple[str, tuple[Dependency, ...]] | None:
    """Label and dependencies; None if there are none, or they are not what the specification says."""
    match meta.get(MetaKey.CAUSAL):
        case [str(label), list(packed)] if len(label) <= _LABEL_CHARACTERS_MAX and len(packed) <= DEPENDENCIES_MAX:
            dependencies = [_dependency(each) for each in packed]
            if None not in dependencies:
                return label, tuple(each for each in dependencies if each is not None)
    return None


def _dependency(packed: object) -> Dependency | None:
    match packed:
        case [str(origin), str(dest), int(stream), int(sequence)] if (
            len(origin) <= _NODE_CHARACTERS_MAX
            and len(dest) <= _NODE_CHARACTERS_MAX
            and 0 < stream <= _NUMBER_MAX
            and 0 < sequence <= _NUMBER_MAX
        ):
            return Dependency(origin, dest, stream, sequence)
    return None


def pack_ack(ack: Ack) -> tuple[int, Any]:
    """`id` and body (not encoded yet) of an ACK."""
    return ack.stream, (ack.upto, tuple(ack.ranges), tuple(ack.refused))


def read_ack(stream: int, body: Any) -> Ack | None:
    """What an ACK says; None if it cannot be read."""
    try:
        upto, ranges, refused = _ack_decoder.decode(body)
    except (ValueError, RecursionError):
        return None
    if len(ranges) > ACK_RANGES_MAX or len(refused) > ACK_RANGES_MAX or any(last < first for first, last in ranges):
        return None
    return Ack(stream, upto, ranges, refused)

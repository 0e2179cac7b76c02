"""What replicas say to one another, and the bounds within which it is believed.

Messages are MessagePack arrays that begin with their name. Fields are only ever appended, with defaults. A *part* of
the tree is named by the hexadecimal digits that the BLAKE3 digests of all its keys begin with; the whole tree is `""`.
"""

from typing import Final

import msgspec

from topologies.errors import RemoteProtocolError

__all__ = (
    "Compare",
    "Entries",
    "Entry",
    "Listing",
    "Message",
    "Summary",
    "Version",
    "Want",
    "decode",
    "encode",
    "is_sane",
    "supersedes",
)

Version = tuple[int, int]  # compared as it stands; whoever writes raises it, such as a hybrid clock

_PART_MAX: Final = 2**63 - 1


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One key, its version and value."""

    key: bytes
    version: Version
    value: bytes


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What somebody holds of a key, without its value."""

    key: bytes
    version: Version
    digest: bytes  # of the value


class Compare(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """My digests of these parts; where yours differ, go into them."""

    parts: tuple[tuple[str, bytes], ...]


class Listing(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """All that I hold in these parts."""

    parts: tuple[tuple[str, tuple[Summary, ...]], ...]


class Want(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Send me these."""

    keys: tuple[bytes, ...]


class Entries(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Here they are. Answers `Listing` and `Want`."""

    entries: tuple[Entry, ...]


Message = Compare | Listing | Want | Entries

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> Message:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: They hold none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(
            f"no anti-entropy message: {error}; expected Compare, Listing, Want or Entries"
        ) from error


def supersedes(version: Version, digest: bytes, held_version: Version, held_digest: bytes) -> bool:
    """Whether the first replaces the second: later, or of one version (two writers used it) the higher digest.

    So that all replicas end up with the same one, whatever the order in which they hear of them.
    """
    return (version, digest) > (held_version, held_digest)


def is_sane(version: Version) -> bool:
    """Whether a version may be believed."""
    return all(0 <= part <= _PART_MAX for part in version)

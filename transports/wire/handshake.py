"""The handshake: HELLO on every connection of every channel, answered by WELCOME or REFUSED on that connection.

Wire format: `docs/spec/0001-wire.md`, section 5. Bodies are MessagePack maps, so that fields can be added.
"""

import enum
from collections.abc import Mapping
from typing import Annotated

import msgspec

__all__ = (
    "LANES_MAX",
    "PROTOCOL_VERSIONS",
    "Bye",
    "Hello",
    "Identity",
    "Refused",
    "RefusedCode",
    "Role",
    "Welcome",
    "common_version",
)

PROTOCOL_VERSIONS = (1, 1)  # lowest and highest that this code speaks
LANES_MAX = 64  # parallel connections of one dialler on one channel


class Role(enum.StrEnum):
    """Who is dialling: a member of the cluster, or a client that binds nothing."""

    NODE = "node"
    CLIENT = "client"


class RefusedCode(enum.StrEnum):
    """Why a HELLO was refused. `retry` in `Refused` says whether the same HELLO may succeed later."""

    WRONG_CLUSTER = "wrong_cluster"
    NO_COMMON_VERSION = "no_common_version"
    WRONG_CHANNEL = "wrong_channel"
    NAME_TAKEN = "name_taken"
    LEAVING = "leaving"
    OVERLOADED = "overloaded"
    MALFORMED = "malformed"


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a node is and where it listens.

    Attributes:
        node: The node id: the name and 64 random bits (`n1-0123456789abcdef`). A client makes one per process.
        name: The name for people.
        incarnation: (boot generation, counter), compared as a tuple.
        endpoints: Channel name to ZeroMQ endpoint; empty for a client.
    """

    node: str
    name: str = ""
    incarnation: tuple[int, int] = (0, 0)
    endpoints: Mapping[str, str] = {}


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """First frame on every connection.

    Attributes:
        versions: (lowest, highest) protocol version spoken.
        cluster: The cluster's name; a different one is refused.
        identity: Who dials.
        channel: The channel this connection is for.
        epoch: The dialler's link epoch, new for each connection; credit totals count from 0 in each epoch.
        role: Member or client.
        cluster_id: Minted by the bootstrap of consensus; empty while unknown.
        features: Optional parts of the protocol that the dialler speaks.
        fingerprint: BLAKE3 of the settings that must agree over the cluster; a difference is reported, not refused.
        offers: (version, digest) of the dialler's offers record.
        lane: Which of the dialler's parallel connections on this channel it is.
        probe: A file in the dialler's shared memory; whoever sees it is on the same host. Empty: it has none.
    """

    versions: tuple[int, int]
    cluster: str
    identity: Identity
    channel: str
    epoch: int
    role: Role = Role.NODE
    cluster_id: str = ""
    features: tuple[str, ...] = ()
    fingerprint: str = ""
    offers: tuple[int, str] = (0, "")
    lane: Annotated[int, msgspec.Meta(ge=0, lt=LANES_MAX)] = 0
    probe: str = ""


class Welcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a HELLO that was believed; goes back on the same connection.

    Attributes:
        version: The protocol version both speak from now on.
        cluster: The cluster's name.
        identity: Who answers.
        epoch: The dialler's link epoch, echoed.
        credit: (messages, bytes) that may be sent on this link epoch before the first CREDIT; (0, 0) is no limit.
        cluster_id: As in `Hello`.
        features: What the answerer speaks.
        fingerprint: As in `Hello`.
        offers: As in `Hello`.
        bulk: Bytes of large messages that may be begun on this link epoch before the first CREDIT for them; 0 is no
            limit.
        lanes: How many connections the answerer admits side by side on this channel, from one dialler.
    """

    version: int
    cluster: str
    identity: Identity
    epoch: int
    credit: tuple[int, int] = (0, 0)
    cluster_id: str = ""
    features: tuple[str, ...] = ()
    fingerprint: str = ""
    offers: tuple[int, str] = (0, "")
    lanes: Annotated[int, msgspec.Meta(ge=1)] = 1
    bulk: Annotated[int, msgspec.Meta(ge=0)] = 0


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a HELLO that was not believed: why, naming both sides."""

    code: str
    reason: str
    retry: bool = False


class Bye(msgspec.Struct, frozen=True, omit_defaults=True):
    """A goodbye: the sender closes this connection on purpose, so its end is no evidence of a failure."""

    reason: str = ""


def common_version(theirs: tuple[int, int], ours: tuple[int, int] = PROTOCOL_VERSIONS) -> int | None:
    """The highest protocol version that both ranges hold, or None."""
    highest = min(theirs[1], ours[1])
    return highest if highest >= max(theirs[0], ours[0]) else None

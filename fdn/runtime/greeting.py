"""What a node says in a handshake, and how it judges what others say.

Each plane has its own, built from the same immutable facts, so that neither asks the other before it admits a peer.
"""

from collections.abc import Callable, Mapping

import blake3
import msgspec

from transports.channel import Channel
from transports.transport import SHARED_MEMORY
from transports.wire.handshake import (
    LANES_MAX,
    PROTOCOL_VERSIONS,
    Hello,
    Identity,
    Refused,
    RefusedCode,
    Role,
    Welcome,
    common_version,
)

__all__ = ("HANDSHAKE_BYTES_MAX", "Greeter", "fingerprint")

# What is said in a handshake is kept, shown and echoed, so nobody may say as much as fits into a frame.
HANDSHAKE_BYTES_MAX = 16 * 1024


def fingerprint(agreed: Mapping[str, object]) -> str:
    """BLAKE3 of the settings that should be equal on every node, as 16 hex digits."""
    packed: bytes = msgspec.msgpack.encode(sorted(agreed.items()))
    return blake3.blake3(packed).hexdigest(length=8)


class Greeter:
    """One plane's side of every handshake.

    Args:
        cluster: The cluster's name.
        identity: Who we are; replaced with `now_known_as` when the incarnation rises.
        fingerprint_: See `fingerprint`.
        credit: (messages, bytes) that a peer may send per link epoch before our first CREDIT.
        object_to: A further judgement of a HELLO that is otherwise good; None admits.
        features: Optional parts of the protocol that we speak on this plane.
        probe: Our file in shared memory, or empty.
        sees: Whether another's is on this host.
        bulk: Bytes of large messages that a peer may begin per link epoch before our first CREDIT for them.
    """

    def __init__(
        self,
        cluster: str,
        identity: Identity,
        fingerprint_: str,
        credit: tuple[int, int] = (0, 0),
        object_to: Callable[[Hello], Refused | None] | None = None,
        features: tuple[str, ...] = (),
        probe: str = "",
        sees: Callable[[str], bool] = lambda probe: False,
        bulk: int = 0,
    ) -> None:
        self.cluster = cluster
        self.identity = identity
        self.fingerprint = fingerprint_
        self._credit = credit
        self._object_to = object_to
        self._features = features
        self._probe = probe
        self._sees = sees
        self._bulk = bulk

    def now_known_as(self, identity: Identity) -> None:
        """Greet with a new incarnation, or with endpoints that are known only now, from here on."""
        self.identity = identity

    def hello(self, channel: Channel, epoch: int, lane: int = 0) -> Hello:
        """What we say first on a connection that we dialled; `lane` is its number among parallel ones."""
        return Hello(
            versions=PROTOCOL_VERSIONS,
            cluster=self.cluster,
            identity=self.identity,
            channel=channel.value,
            epoch=epoch,
            role=Role.NODE,
            fingerprint=self.fingerprint,
            features=self._features,
            lane=lane,
            probe=self._probe,
        )

    def answer(self, hello: Hello, channel: Channel) -> Welcome | Refused:
        """Judge a HELLO that came in on `channel`. The reason of a refusal names both sides."""
        version = common_version(hello.versions)
        if version is None:
            ours, theirs = PROTOCOL_VERSIONS, hello.versions
            return Refused(
                RefusedCode.NO_COMMON_VERSION,
                f"node {self.identity.name!r} speaks protocol versions {ours[0]} to {ours[1]}, "
                f"{hello.identity.name!r} speaks {theirs[0]} to {theirs[1]}",
            )
        if hello.cluster != self.cluster:
            return Refused(
                RefusedCode.WRONG_CLUSTER,
                f"node {self.identity.name!r} belongs to cluster {self.cluster!r}, "
                f"{hello.identity.name!r} to cluster {hello.cluster!r}",
            )
        if hello.channel != channel.value:
            return Refused(
                RefusedCode.WRONG_CHANNEL,
                f"this is the {channel.value} channel of node {self.identity.name!r}, "
                f"{hello.identity.name!r} meant {hello.channel!r}",
            )
        if self._object_to is not None:
            objection = self._object_to(hello)
            if objection is not None:
                return objection
        return Welcome(
            version=version,
            cluster=self.cluster,
            identity=self.identity,
            epoch=hello.epoch,
            credit=self._credit,
            fingerprint=self.fingerprint,
            features=(*self._features, SHARED_MEMORY) if self._sees(hello.probe) else self._features,
            bulk=self._bulk,
            lanes=LANES_MAX if channel in (Channel.DATA, Channel.EVENTS) else 1,
        )

"""What a caller may say of one message beside its payload: a key, a priority, a name that supersedes, and patience.

They travel as meta 2 and 3 of docs/spec/0001-wire.md. A message without any of them never meets this module.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import blake3

from fdn.errors import BadRequest
from transports.wire.envelope import MetaKey

__all__ = ("KEY_BYTES_MAX", "NO_OPTIONS", "PRIORITIES", "Key", "SendOptions", "node_of_key", "options_from_wire")

Key: TypeAlias = str | bytes
KEY_BYTES_MAX: Final = 256
PRIORITIES: Final = range(-4, 5)


class SendOptions:
    """Options of one message, checked.

    Args:
        key: Messages of one key to one node arrive in the order of sending, however many lanes there are.
        priority: -4 to 4; 0 is usual, and higher departs first.
        latest: Supersedes the message of this name that still waits to leave for the same node. Its key, if it has no
            other.
        refuse: Raise `Overloaded` where it would have to wait for room.

    Raises:
        BadRequest: One of them is not possible.
    """

    __slots__ = ("key", "latest", "priority", "refuse")

    def __init__(self, key: Key | None = None, priority: int = 0, latest: str = "", refuse: bool = False) -> None:
        # Users' values: types are no promise here.
        if key is not None and not _is_key(key):
            raise BadRequest(
                f"key={key!r}", hint=f"expected a str or bytes of 1 to {KEY_BYTES_MAX} bytes: write key=str(number)"
            )
        if type(priority) is not int or priority not in PRIORITIES:
            raise BadRequest(
                f"priority={priority!r}",
                hint=f"expected a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}; 0 is usual",
            )
        if latest and not _is_key(latest):
            raise BadRequest(f"latest={latest!r}", hint=f"expected a name of 1 to {KEY_BYTES_MAX} bytes")
        self.key = latest if key is None and latest else key
        self.priority = priority
        self.latest = latest
        self.refuse = refuse

    def add_to(self, meta: dict[int, Any] | None) -> dict[int, Any] | None:
        """`meta` with what of this the receiver is told."""
        if self.key is None and not self.priority:
            return meta
        meta = {} if meta is None else meta
        if self.key is not None:
            meta[int(MetaKey.PARTITION_KEY)] = self.key
        if self.priority:
            meta[int(MetaKey.PRIORITY)] = self.priority
        return meta


def options_from_wire(meta: dict[int, Any] | None) -> SendOptions | None:
    """What the sender of a message that is passed on has said; None if nothing, or nothing that can be read."""
    if not meta or not (MetaKey.PARTITION_KEY in meta or MetaKey.PRIORITY in meta):
        return None
    try:
        return SendOptions(meta.get(MetaKey.PARTITION_KEY), meta.get(MetaKey.PRIORITY, 0))
    except BadRequest:
        return None


def node_of_key(key: Key, nodes: Sequence[str]) -> str:
    """The node that messages of this key go to, as long as `nodes` stay the same: rendezvous hashing.

    When one of them goes, only its keys move; when one comes, only those that it takes over.
    """
    if len(nodes) == 1:
        return nodes[0]
    packed = key.encode() if isinstance(key, str) else key
    return max(nodes, key=lambda node: blake3.blake3(packed + node.encode()).digest(length=8))


def _is_key(key: object) -> bool:
    try:
        packed = key.encode() if isinstance(key, str) else key
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return isinstance(packed, bytes) and 0 < len(packed) <= KEY_BYTES_MAX


NO_OPTIONS: Final = SendOptions()  # for those that say nothing, where there are several lanes to choose from

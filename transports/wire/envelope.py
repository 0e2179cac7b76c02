"""The envelope: one short MessagePack array for nodes and for clients in any language.

Wire format: `docs/spec/0001-wire.md`, section 4.
"""

import enum
from typing import Any

import msgspec

__all__ = ("NIL", "Envelope", "Kind", "MetaKey")

NIL = msgspec.Raw(b"\xc0")  # an absent body


class Kind(enum.IntEnum):
    """What an envelope is. Numbers are fixed for ever; a receiver ignores and counts those it does not know."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    BYE = 4
    CALL = 5
    REPLY = 6
    ERROR = 7
    ITEM = 8
    END = 9
    CANCEL = 10
    CAST = 11
    SUBSCRIBE = 12
    UNSUBSCRIBE = 13
    EVENT = 14
    ACK = 15
    CREDIT = 16
    CHUNK = 17
    CORE = 18
    RELAY = 19
    SENT = 20


class MetaKey(enum.IntEnum):
    """Keys of an envelope's `meta` map; unknown ones are ignored and counted."""

    TRACE = 1
    PARTITION_KEY = 2
    PRIORITY = 3
    DEDUP_ID = 4
    CODEC = 5
    ATTACHMENTS = 6
    ORIGIN = 7
    DEST = 8
    TTL = 9
    SEQUENCE = 10
    HEADERS = 11
    CAUSAL = 12
    HLC = 13
    ATTEMPT = 14
    SCHEMA = 15
    GROUPS = 16
    MISSED = 17
    WINDOW = 18
    REQUEST_STREAM = 19
    DELIVERY = 20
    PATH = 21
    SHARED = 22


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """One message: `[kind, to, id, deadline_ms, meta, body]`; trailing fields may be absent, extra ones are ignored.

    `body` is any MessagePack value. A decoded envelope holds it as `msgspec.Raw`, still encoded, a view into
    the received frame; an outgoing one holds `bytes` (sent as a MessagePack bin), `None`, or a `Raw`.

    Attributes:
        kind: A `Kind`, or a number that this version does not know.
        to: Where it goes: `service.method`, `service@instance`, a subject, a stream id, or `fdn.*`.
        id: Call or message id chosen by the sender, unsigned 64 bits; 0 when no answer is awaited.
        deadline_ms: Milliseconds left when the batch was encoded; 0 means the receiver's default.
        meta: `None`, or a map with `MetaKey` keys.
        body: The payload.
    """

    kind: int
    to: str = ""
    id: int = 0
    deadline_ms: int = 0
    meta: dict[int, Any] | None = None
    body: Any = None

"""Everything that `transports` raises.

    TransportError
    ├── LocalProtocolError       we asked for something the transport or the wire cannot do
    │   ├── OversizedEnvelope    an envelope that does not fit into one frame
    │   └── TransportClosed      listening or dialling after `close()`
    ├── RemoteProtocolError      a peer sent what the specification does not allow
    │   ├── MalformedBatch
    │   └── UnknownWireVersion
    ├── SegmentUnavailable       shared memory that is full, gone or not ours
    ├── EndpointInvalid          also a ValueError
    └── EndpointInUse

What a peer does wrong is counted and dropped inside the transport: a `RemoteProtocolError` reaches only those who
call the codec themselves. Facts are attributes, so that nobody has to parse a message.
"""

__all__ = (
    "EndpointInUse",
    "EndpointInvalid",
    "LocalProtocolError",
    "MalformedBatch",
    "OversizedEnvelope",
    "RemoteProtocolError",
    "SegmentUnavailable",
    "TransportClosed",
    "TransportError",
    "UnknownWireVersion",
)


class TransportError(Exception):
    """The root of this tree."""


class LocalProtocolError(TransportError):
    """This process misused the transport; the message says what to do instead."""


class OversizedEnvelope(LocalProtocolError):
    """An envelope whose body does not fit into one frame.

    Attributes:
        size: Bytes of the body.
        limit: The largest body that fits.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a body of {size} bytes exceeds the {limit} that frame_bytes_max leaves for one envelope; "
            "send it in pieces, or raise frame_bytes_max on every node"
        )
        self.size = size
        self.limit = limit


class SegmentUnavailable(TransportError):
    """Shared memory cannot be had: there is none, it is full, or what a peer named is not there."""


class TransportClosed(LocalProtocolError):
    """The transport has been closed; make a new one."""

    def __init__(self) -> None:
        super().__init__("this transport has been closed; nothing can be bound or dialled on it: make a new one")


class RemoteProtocolError(TransportError):
    """A peer sent something that `docs/spec/0001-wire.md` does not allow."""


class MalformedBatch(RemoteProtocolError):
    """A frame that is not a batch, or none of whose envelopes could be read.

    Attributes:
        reason: What was wrong.
        size: Bytes of the frame.
    """

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(f"a frame of {size} bytes is not a batch: {reason}")
        self.reason = reason
        self.size = size


class UnknownWireVersion(RemoteProtocolError):
    """A frame whose first octet is no version that this code reads.

    Attributes:
        version: The octet.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"a frame begins with version octet {version}; this side reads version 1")
        self.version = version


class EndpointInvalid(TransportError, ValueError):
    """An endpoint that cannot be parsed, bound or dialled.

    Attributes:
        endpoint: As it was given.
        reason: What is wrong with it, and what was expected.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"endpoint {endpoint!r}: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class EndpointInUse(TransportError):
    """Somebody already listens there.

    Attributes:
        endpoint: As it was given.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"endpoint {endpoint!r} is taken by another listener; choose another, or port 0 for any free one"
        )
        self.endpoint = endpoint

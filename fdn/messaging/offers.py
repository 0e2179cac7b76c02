"""The offers record: what one node serves, and which events it wants. Gossiped whole, one versioned record a node."""

import msgspec

__all__ = ("Interest", "Offer", "Offers", "decode_offers", "encode_offers")


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service of one node.

    Attributes:
        name: The service's dotted name.
        methods: Its methods; empty for a plain function, which is called by the service's name alone.
        version: The service's own version.
        capabilities: Labels that callers may ask for.
    """

    name: str
    methods: tuple[str, ...] = ()
    version: str = ""
    capabilities: tuple[str, ...] = ()


class Interest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events that somebody on the node wants.

    Attributes:
        pattern: Subject, or pattern with `*` and `>`.
        queue: The queue group, one member of which gets each event; empty for a subscriber that gets all.
    """

    pattern: str
    queue: str = ""


class Offers(msgspec.Struct, frozen=True, omit_defaults=True):
    """All services of one node, sorted by name, and its interests, sorted."""

    services: tuple[Offer, ...] = ()
    interests: tuple[Interest, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Offers)
_NOTHING = Offers()


def encode_offers(offers: Offers) -> bytes:
    """The record's bytes; equal offers give equal bytes."""
    return _encoder.encode(offers)


def decode_offers(encoded: bytes) -> Offers:
    """The offers in a record; none when a peer of another version wrote something else."""
    try:
        return _decoder.decode(encoded)
    except (ValueError, RecursionError):
        return _NOTHING

"""The offers record: what one node serves. Gossiped whole, one versioned record a node."""

import msgspec

__all__ = ("Offer", "Offers", "decode_offers", "encode_offers")


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


class Offers(msgspec.Struct, frozen=True, omit_defaults=True):
    """All services of one node, sorted by name."""

    services: tuple[Offer, ...] = ()


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

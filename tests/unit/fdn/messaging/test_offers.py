import msgspec
import pytest

from fdn.messaging.offers import Interest, Offer, Offers, decode_offers, encode_offers


def test_there_and_back():
    offers = Offers((Offer("math", ("add", "sub"), "1.2", ("cpu",)), Offer("who")))
    assert decode_offers(encode_offers(offers)) == offers
    assert encode_offers(offers) == encode_offers(Offers(offers.services))


NONSENSE = [
    b"",
    b"\xc0",
    b"\xc1",
    b"\x93",
    b"\x91" * 3000,
    msgspec.msgpack.encode({"services": 7}),
    b"\x81\xa8services\x91\x81\xa4name\xa1\xff",  # no UTF-8
]


@pytest.mark.parametrize("encoded", NONSENSE, ids=lambda encoded: encoded[:12].hex())
def test_what_a_peer_of_another_version_wrote_offers_nothing(encoded: bytes):
    assert decode_offers(encoded) == Offers()


def test_unknown_fields_are_ignored():
    encoded = msgspec.msgpack.encode({"services": [{"name": "math", "weight": 3}], "more": [1]})
    assert decode_offers(encoded) == Offers((Offer("math"),))


def test_interests_travel_along_and_cost_nothing_where_there_are_none():
    offers = Offers((Offer("math"),), (Interest("orders.>"), Interest("orders.>", "billing")))
    assert decode_offers(encode_offers(offers)) == offers
    assert encode_offers(Offers((Offer("math"),))) == msgspec.msgpack.encode({"services": [{"name": "math"}]})

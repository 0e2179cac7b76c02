import msgspec

from transports.wire.envelope import NIL, Envelope, Kind, MetaKey


def test_numbers_are_those_of_the_specification():
    names = (
        "HELLO WELCOME REFUSED BYE CALL REPLY ERROR ITEM END CANCEL CAST SUBSCRIBE UNSUBSCRIBE EVENT ACK CREDIT CHUNK"
    )
    assert [kind.name for kind in Kind] == [*names.split(), "CORE", "RELAY", "SENT"]
    assert [int(kind) for kind in Kind] == list(range(1, 21))
    assert [int(key) for key in MetaKey] == list(range(1, 23))


def test_an_envelope_is_an_array_of_six():
    encoded = msgspec.msgpack.encode(Envelope(Kind.CALL, "math.add", 7, 250, {3: 1}, b"x"))
    assert msgspec.msgpack.decode(encoded) == [5, "math.add", 7, 250, {3: 1}, b"x"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Envelope(4))) == [4, "", 0, 0, None, None]


def test_nil_is_an_encoded_nothing():
    assert msgspec.msgpack.decode(NIL) is None

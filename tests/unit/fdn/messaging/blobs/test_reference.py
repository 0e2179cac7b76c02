import msgspec
import pytest

from fdn.messaging.blobs.reference import HOLDERS_MAX, Reference, pack_reference, unpack_reference

MIB = 1024 * 1024
GOOD = Reference(bytes(32), 3 * MIB + 1, MIB, bytes(range(32)), ("n1-0123",))


def test_a_reference_survives_the_wire():
    assert unpack_reference(pack_reference(GOOD)) == GOOD
    assert GOOD.count == 4
    assert Reference(bytes(32), 0, MIB, bytes(32)).count == 0


def test_it_is_a_map_whose_unknown_keys_are_ignored():
    fields = msgspec.msgpack.decode(pack_reference(GOOD))
    assert set(fields) == {"id", "size", "piece", "outline", "holders"}
    assert unpack_reference(msgspec.msgpack.encode({**fields, "later": 1})) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"id": bytes(31)},
        {"outline": bytes(33)},
        {"size": -1},
        {"size": 1 << 62},
        {"piece": 1},
        {"piece": 1 << 30},
        {"holders": ["n"] * (HOLDERS_MAX + 1)},
        {"holders": ["n" * 257]},
        {"holders": [""]},
        {"id": None},
    ],
)
def test_what_is_no_reference_is_refused(change):
    fields = msgspec.msgpack.decode(pack_reference(GOOD))
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec words it
        unpack_reference(msgspec.msgpack.encode({**fields, **change}))


def test_bytes_that_are_not_messagepack_are_refused():
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec words it
        unpack_reference(b"\xc1")

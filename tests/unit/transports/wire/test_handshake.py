import msgspec
import pytest

from transports.wire.handshake import Hello, Identity, Refused, Role, Welcome, common_version


@pytest.mark.parametrize(
    ("theirs", "ours", "version"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((2, 5), (1, 3), 3),
        ((1, 9), (4, 4), 4),
        ((1, 1), (2, 2), None),
        ((3, 4), (1, 2), None),
        ((5, 1), (1, 9), None),  # a range upside down holds nothing
    ],
)
def test_common_version(theirs: tuple[int, int], ours: tuple[int, int], version: int | None):
    assert common_version(theirs, ours) == version


def test_defaults_are_left_out_and_unknown_keys_are_ignored():
    hello = Hello((1, 1), "default", Identity("n1-00"), "data", 1)
    mapping = msgspec.msgpack.decode(msgspec.msgpack.encode(hello))
    assert set(mapping) == {"versions", "cluster", "identity", "channel", "epoch"}
    assert msgspec.convert({**mapping, "from_the_future": 1}, Hello) == hello


def test_a_hello_without_its_identity_is_refused():
    with pytest.raises(msgspec.ValidationError, match="identity"):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"versions": [1, 1], "cluster": "c"}), type=Hello)


def test_roles_and_credit_travel():
    welcome = Welcome(1, "c", Identity("n", incarnation=(2, 3)), epoch=9, credit=(10, 20))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(welcome), type=Welcome) == welcome
    hello = Hello((1, 1), "c", Identity("n"), "data", 1, role=Role.CLIENT)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(hello), type=Hello).role is Role.CLIENT
    assert Refused("leaving", "why").retry is False

import pytest

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex
from consensus.machine import (
    CloseSession,
    Command,
    Compare,
    Delete,
    Do,
    ExpireSessions,
    Get,
    OpenSession,
    Operator,
    Property,
    Put,
    Txn,
    decode_command,
    encode_command,
)

COMMANDS: list[Command] = [
    OpenSession("billing", 10.0),
    CloseSession(LogIndex(7)),
    ExpireSessions((LogIndex(7), LogIndex(9))),
    Do(
        LogIndex(7),
        3,
        2,
        Txn(
            (
                Compare("a", Property.VALUE, Operator.EQUAL, value=b"1"),
                Compare("b", Property.VERSION, Operator.LESS, 4),
            ),
            (Put("a", b"2", ephemeral=True), Delete("b", prefix=True)),
            (Get("a", prefix=True, start="ab", limit=5),),
        ),
    ),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_they_come_back_as_they_were(command: Command):
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x92\xa6Nobody\x01", b"\x91\xadOpenSession/9", b"\x91" * 2000]
)
def test_what_is_none_is_refused(data: bytes):
    with pytest.raises(RemoteProtocolError, match="are no command"):
        decode_command(data)


def test_fields_that_a_later_version_adds_are_ignored():
    packed = encode_command(CloseSession(LogIndex(7)))
    assert packed[0] == 0x92
    assert decode_command(b"\x93" + packed[1:] + b"\xc3") == CloseSession(LogIndex(7))

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import configuration
from consensus.raft.configuration import Configuration
from consensus.raft.messages import (
    CHUNK_BYTES_MAX,
    NUMBER_MAX,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    SnapshotState,
    TimeoutNow,
    decode,
    encode,
)

T, I = Term, LogIndex  # noqa: E741
SNAPSHOT = Snapshot(I(9), T(2), Configuration((NodeId("a"),)), 4, bytes(32))
MESSAGES = [
    RequestVote(T(3), I(7), T(2), True),
    RequestVoteReply(T(3), True),
    PreVote(T(3), I(7), T(2)),
    PreVoteReply(T(3), False),
    AppendEntries(T(3), I(7), T(2), I(6), (Entry(I(8), T(3), EntryKind.COMMAND, b"x"),)),
    AppendEntriesReply(T(3), I(0), True, I(7), I(5), T(1), 2),
    Heartbeat(T(3), I(6), 12, 1, 0.2),
    HeartbeatReply(T(3), 12, 2),
    InstallSnapshot(T(3), SNAPSHOT, 2, b"xy"),
    InstallSnapshotReply(T(3), I(9), 4, SnapshotState.REFUSED),
    TimeoutNow(T(3)),
    ReadIndex(T(3), 5, True),
    ReadIndexReply(T(3), 5, I(6)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_messages_come_back_as_they_went(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_messages_name_themselves_and_their_version(message):
    assert msgspec.msgpack.decode(encode(message))[0] == f"{type(message).__name__}/1"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_fields_of_a_later_version_are_ignored(message):
    assert decode(msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(message)), "new"])) == message


def test_fields_that_an_earlier_version_lacks_have_defaults():
    assert decode(msgspec.msgpack.encode(["Heartbeat/1", 3, 6, 12])) == Heartbeat(T(3), I(6), 12)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (TimeoutNow(T(-1)), "out of range"),
        (TimeoutNow(T(NUMBER_MAX + 1)), "out of range"),
        (RequestVote(T(1), I(-1), T(0)), "out of range"),
        (Heartbeat(T(1), I(1), -1), "out of range"),
        (Heartbeat(T(1), I(1), 1, 0, float("nan")), "lease"),
        (HeartbeatReply(T(1), -1), "out of range"),
        (AppendEntriesReply(T(1), I(-5)), "out of range"),
        (ReadIndexReply(T(1), 1, I(-1)), "out of range"),
        (InstallSnapshotReply(T(1), I(1), -1), "out of range"),
        (AppendEntries(T(1), I(3), T(1), I(0), (Entry(I(5), T(1), EntryKind.EMPTY),)), "follows"),
        (AppendEntries(T(2), I(3), T(2), I(0), (Entry(I(4), T(1), EntryKind.EMPTY),)), "follows"),
        (AppendEntries(T(1), I(3), T(1), I(0), (Entry(I(4), T(2), EntryKind.EMPTY),)), "follows"),
        (AppendEntries(T(1), I(0), T(0), I(0), (Entry(I(1), T(1), EntryKind.CONFIGURATION, b"\xc1"),)), "configur"),
        (InstallSnapshot(T(2), Snapshot(I(1), T(1), Configuration(), 4, b"short")), "digest"),
        (InstallSnapshot(T(2), SNAPSHOT, 3, b"xy"), "bytes up to"),
        (InstallSnapshot(T(1), SNAPSHOT), "term 2 from a leader of term 1"),
        (InstallSnapshot(T(2), Snapshot(I(1), T(1), Configuration((), (NodeId("a"),)), 4, bytes(32))), "learn from"),
        (
            InstallSnapshot(
                T(2), Snapshot(I(1), T(1), Configuration(), 2**30, bytes(32)), 0, bytes(CHUNK_BYTES_MAX + 1)
            ),
            "more than",
        ),
    ],
)
def test_absurd_messages_are_refused(message, why: str):
    with pytest.raises(RemoteProtocolError, match=why):
        decode(encode(message))


def test_a_configuration_entry_is_read_at_the_door():
    data = configuration.encode(Configuration((NodeId("a"),)))
    message = AppendEntries(T(1), I(0), T(0), I(0), (Entry(I(1), T(1), EntryKind.CONFIGURATION, data),))
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_the_declared_error(data: bytes):
    try:
        decode(data)
    except RemoteProtocolError:
        pass


@given(st.sampled_from(MESSAGES), st.integers(0, 60), st.integers(0, 255))
def test_damaged_messages_raise_nothing_but_the_declared_error(message, place: int, octet: int):
    data = bytearray(encode(message))
    data[place % len(data)] = octet
    try:
        decode(data)
    except RemoteProtocolError:
        pass

import random

import blake3
import pytest

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex, Term
from consensus.machine import (
    CloseSession,
    Command,
    Compare,
    Delete,
    Do,
    ExpireSessions,
    Failure,
    FailureCode,
    Get,
    KeyValue,
    Machine,
    MachineLimits,
    OpenSession,
    Operator,
    Property,
    Put,
    Result,
    Txn,
    TxnResult,
    encode_command,
)
from consensus.raft import Entry, EntryKind


def apply(machine: Machine, command: Command | None) -> Result:
    data = b"" if command is None else encode_command(command)
    kind = EntryKind.EMPTY if command is None else EntryKind.COMMAND
    return machine.apply(Entry(LogIndex(machine.index + 1), Term(1), kind, data))


@pytest.fixture
def machine() -> Machine:
    made = Machine(MachineLimits())
    apply(made, None)
    assert apply(made, OpenSession("me", 10.0)) == 2
    return made


def put(key: str, value: bytes, sequence: int, session: int = 2, **more: bool) -> Do:
    return Do(LogIndex(session), sequence, sequence - 1, Txn(then=(Put(key, value, **more),)))


def test_a_request_is_carried_out_once(machine: Machine):
    first = apply(machine, put("k", b"1", 1))
    apply(machine, put("k", b"2", 2))
    assert apply(machine, put("k", b"2", 2)) == TxnResult(True, ((KeyValue("k", b"1", 3, 3, 1),),), 4)
    assert machine.get(Get("k"))[0].value == b"2"
    assert machine.get(Get("k"))[0].version == 2
    assert isinstance(first, TxnResult)
    assert first.revision == 3


def test_revisions_are_places_in_the_log(machine: Machine):
    apply(machine, None)
    result = apply(machine, put("k", b"1", 1))
    assert isinstance(result, TxnResult)
    assert result.revision == machine.index == 4
    assert [change.revision for change in machine.history.since(1)] == [4]


def test_a_session_ends_with_what_is_ephemeral_of_it(machine: Machine):
    apply(machine, OpenSession("other", 5.0))
    apply(machine, put("mine", b"", 1, ephemeral=True))
    apply(machine, put("theirs", b"", 1, session=3, ephemeral=True))
    apply(machine, CloseSession(LogIndex(2)))
    assert [row.key for row in machine.get(Get("", prefix=True))] == ["theirs"]
    apply(machine, ExpireSessions((LogIndex(2), LogIndex(3))))
    assert machine.get(Get("", prefix=True)) == ()
    told = apply(machine, put("k", b"", 2))
    assert isinstance(told, Failure)
    assert told.code is FailureCode.NO_SESSION
    assert [(change.key, change.now) for change in machine.history.since(6)] == [("mine", None), ("theirs", None)]


def test_whoever_wants_to_know_hears_of_sessions():
    heard: list[tuple[int, float | None]] = []
    machine = Machine(MachineLimits(), on_session=lambda number, ttl_s: heard.append((number, ttl_s)))
    apply(machine, OpenSession("me", 10.0))
    apply(machine, OpenSession("me", -1.0))
    apply(machine, CloseSession(LogIndex(1)))
    apply(machine, CloseSession(LogIndex(1)))
    assert heard == [(1, 10.0), (1, None)]


def test_a_refused_request_stays_refused(machine: Machine):
    too_large = Do(LogIndex(2), 1, 0, Txn(then=(Put("k", bytes(2 * 1024 * 1024)),)))
    told = apply(machine, too_large)
    assert isinstance(told, Failure)
    assert apply(machine, too_large) == told
    assert machine.size == 0


def test_what_no_version_knows_changes_nothing(machine: Machine):
    told = machine.apply(Entry(LogIndex(3), Term(1), EntryKind.COMMAND, b"\xc1"))
    assert isinstance(told, Failure)
    assert told.code is FailureCode.MALFORMED


def test_entries_come_in_order(machine: Machine):
    for index in (machine.index, machine.index + 2):
        with pytest.raises(ValueError, match="cannot be applied after"):
            machine.apply(Entry(LogIndex(index), Term(1), EntryKind.EMPTY))


def storm(seed: int, length: int) -> list[Command | None]:
    """Commands, many of them about the same few keys, and some of them sent twice or too late."""
    chance = random.Random(seed)
    keys = [f"{a}/{b}" for a in "xy" for b in range(4)]
    commands: list[Command | None] = [OpenSession("s", 10.0) for _ in range(3)]
    sequences = dict.fromkeys((1, 2, 3), 0)
    while len(commands) < length:
        session = chance.choice([1, 2, 3])
        match chance.randrange(12):
            case 0:
                commands.append(None)
            case 1 if chance.random() < 0.2:
                commands.append(CloseSession(LogIndex(session)))
            case 1 if chance.random() < 0.2:
                commands.append(ExpireSessions((LogIndex(session),)))
            case 2 if len(commands) > 5:
                commands.append(chance.choice(commands[3:]))
            case _:
                sequences[session] += 1
                key = chance.choice(keys)
                when = (Compare(key, Property.VERSION, chance.choice(list(Operator)), chance.randrange(4)),)
                operations: list[Put | Delete | Get] = [
                    Put(key, bytes(chance.randrange(9)), chance.random() < 0.3),
                    Delete(chance.choice(keys)),
                    Delete(key[:2], prefix=True),
                    Get(key[:2], prefix=True),
                ]
                then = tuple(chance.sample(operations, 2))
                operation = Txn(when[: chance.randrange(2)], then, (Get(key),))
                acknowledged = max(0, sequences[session] - chance.randrange(1, 4))
                commands.append(Do(LogIndex(session), sequences[session], acknowledged, operation))
    return commands


def digest(machine: Machine) -> str:
    return blake3.blake3(b"".join(machine.dump())).hexdigest()


@pytest.mark.parametrize("seed", range(20))
def test_who_has_applied_the_same_holds_the_same(seed: int):
    commands = storm(seed, 150)
    one, other = Machine(MachineLimits()), Machine(MachineLimits(), changes_max=5)
    answers = [apply(one, command) for command in commands]
    assert len({type(answer) for answer in answers}) > 2, "the storm is worth something"
    for command in commands[:75]:
        apply(other, command)
    late = Machine(MachineLimits())
    late.load(list(other.dump()))
    assert (late.index, digest(late), late.size) == (other.index, digest(other), other.size)
    assert [apply(late, command) for command in commands[75:]] == answers[75:]
    assert digest(late) == digest(one)
    rows = one.get(Get("", prefix=True))
    assert one.size == sum(len(row.key.encode()) + len(row.value) for row in rows)
    assert [row.key for row in rows] == sorted(row.key for row in rows)


def test_a_snapshot_may_be_cut_anywhere(machine: Machine):
    for number in range(200):
        apply(machine, put(f"key-{number}", bytes(1000), number + 1))
    whole = b"".join(machine.dump())
    assert len(list(machine.dump())) > 2
    for size in (1, 7, 4096):
        other = Machine(MachineLimits())
        other.load(whole[at : at + size] for at in range(0, len(whole), size))
        assert digest(other) == digest(machine)
        assert other.history.oldest == machine.index + 1


@pytest.mark.parametrize("damage", ["short", "long", "nothing", "format", "garbage"])
def test_a_snapshot_that_is_none_is_refused(machine: Machine, damage: str):
    apply(machine, put("k", b"1", 1))
    whole = b"".join(machine.dump())
    pieces = {
        "short": whole[:-3],
        "long": whole + b"\0\0",
        "nothing": b"",
        "format": whole.replace(whole[4:6], whole[4:5] + b"\x07", 1),
        "garbage": b"\0\0\0\x05hello",
    }
    with pytest.raises(RemoteProtocolError):
        Machine(MachineLimits()).load([pieces[damage]])

import itertools
import random

import pytest

from fdn.sim.history import Operation, Outcome
from fdn.sim.linearizability import Register, check


def op(process, name, input=None, output=None, *, at, until=None, key="x", outcome=None):
    outcome = outcome or (Outcome.UNKNOWN if until is None else Outcome.OK)
    return Operation(process, name, key, input, at, output, until, outcome)


def put(process, value, at, until=None, **more):
    return op(process, "put", value, at=at, until=until, **more)


def get(process, value, at, until=None, **more):
    return op(process, "get", None, value, at=at, until=until, **more)


def cas(process, expected, new, swapped, at, until=None, **more):
    return op(process, "cas", [expected, new], swapped, at=at, until=until, **more)


GOOD = {
    "one after the other": [put(0, 1, 0, 1), get(1, 1, 2, 3)],
    "nothing was put yet": [get(1, None, 0, 1)],
    "a get that overlaps a put sees the new value": [put(0, 1, 0, 10), get(1, 1, 2, 3)],
    "or the old one": [put(0, 1, 0, 10), get(1, None, 2, 3)],
    "an unanswered put was seen": [put(0, 1, 0), get(1, 1, 5, 6)],
    "an unanswered put was seen late": [put(0, 1, 0), get(1, None, 5, 6), get(1, 1, 7, 8)],
    "an unanswered put was never seen": [put(0, 1, 0), get(1, None, 5, 6), get(1, None, 7, 8)],
    "a failed put was not seen": [put(0, 1, 0, 1, outcome=Outcome.FAIL), get(1, None, 5, 6)],
    "cas": [put(0, 1, 0, 1), cas(1, 1, 2, True, 2, 3), get(0, 2, 4, 5)],
    "cas that found something else": [put(0, 1, 0, 1), cas(1, 3, 2, False, 2, 3), get(0, 1, 4, 5)],
    "delete": [put(0, 1, 0, 1), op(1, "delete", at=2, until=3), get(0, None, 4, 5)],
    "keys do not know each other": [put(0, 1, 0, 1), get(1, None, 2, 3, key="y")],
    "overlapping in one instant": [put(0, 1, 0, 5), put(1, 2, 5, 6), get(0, 1, 7, 8)],
}
BAD = {
    "a stale read": [put(0, 1, 0, 1), put(0, 2, 2, 3), get(1, 1, 4, 5)],
    "a lost write": [put(0, 1, 0, 1), get(1, None, 2, 3)],
    "from nowhere": [get(1, 7, 0, 1)],
    "back in time": [put(0, 1, 0, 10), get(1, 1, 2, 3), get(2, None, 4, 5)],
    "a failed put was seen": [put(0, 1, 0, 1, outcome=Outcome.FAIL), get(1, 1, 5, 6)],
    "two cas from one value": [put(0, 1, 0, 1), cas(1, 1, 2, True, 2, 9), cas(2, 1, 3, True, 2, 9)],
    "an unanswered put before it was asked for": [get(1, 1, 0, 1), put(0, 1, 2)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_history(name):
    verdict = check(GOOD[name])
    assert verdict.linearizable, str(verdict)
    assert "linearizable" in str(verdict)


@pytest.mark.parametrize("name", BAD)
def test_bad_history(name):
    verdict = check(BAD[name])
    assert verdict.linearizable is False
    assert verdict.key == "x"
    assert "no order explains these" in str(verdict)


def obviously_linearizable(operations):
    """Every order that keeps the calls behind the returns before them; unanswered ones in or out."""
    answered = [it for it in operations if it.return_ns is not None]
    unanswered = [it for it in operations if it.return_ns is None]
    model = Register()
    for count in range(len(unanswered) + 1):
        for some in itertools.combinations(unanswered, count):
            for order in itertools.permutations([*answered, *some]):
                if any(
                    later.return_ns is not None and later.return_ns < earlier.invoke_ns
                    for earlier, later in itertools.combinations(order, 2)
                ):
                    continue
                states = {model.initial()}
                for operation in order:
                    states = {after for state in states for after in model.step(state, operation)}
                if states:
                    return True
    return False


def random_history(rng, count):
    operations = []
    for process in range(count):
        at = rng.randrange(20)
        until = None if rng.random() < 0.2 else at + rng.randrange(1, 8)
        match rng.choice(["put", "get", "cas"]):
            case "put":
                operations.append(put(process, rng.randrange(3), at, until))
            case "get":
                operations.append(get(process, rng.choice([None, 0, 1, 2]) if until else None, at, until))
            case _:
                told = rng.random() < 0.5 if until else None
                operations.append(cas(process, rng.randrange(3), rng.randrange(3), told, at, until))
    return operations


def test_agrees_with_trying_every_order():
    rng, seen = random.Random(1), set()
    for _ in range(1500):
        operations = random_history(rng, rng.randrange(1, 6))
        expected = obviously_linearizable(operations)
        assert check(operations).linearizable == expected, "\n".join(map(str, operations))
        seen.add(expected)
    assert seen == {True, False}


def test_the_window_of_a_bad_history_is_short_and_bad_by_itself():
    operations = []
    for number in range(200):  # two hundred quiet rounds, and in the middle a stale read
        at = number * 10
        operations += [put(0, number, at, at + 1), get(1, number, at + 2, at + 3)]
    operations.insert(200, get(2, 5, 1005, 1006))
    verdict = check(operations)
    assert verdict.linearizable is False
    assert len(verdict.window) <= 3
    assert verdict.window[-1].output == 5


def test_a_window_may_reach_back_to_the_beginning():
    verdict = check([get(0, 1, 0, 1), put(0, 1, 2, 3), put(0, 2, 4, 5)])
    assert [it.op for it in verdict.window] == ["get", "put", "put"][: len(verdict.window)]
    assert verdict.window[0].op == "get"


def test_windows_are_sound():
    """A window is only called bad if the whole is."""
    rng = random.Random(2)
    for _ in range(300):
        operations = random_history(rng, 12)
        verdict = check(operations)
        if verdict.linearizable is False:
            assert 0 < len(verdict.window) <= len(operations)


def test_long_histories_of_many_clients_take_few_steps():
    rng, operations, at, value = random.Random(3), [], 0, None
    for number in range(3000):  # each took effect at `instant`; up to eight overlap
        at += 10
        instant = at + rng.randrange(40)
        operations.append((instant, at, instant + rng.randrange(1, 40), rng.random() < 0.5, number))
    history = []
    for _, begun, until, is_put, number in sorted(operations):
        if is_put:
            value = number
        history.append(put(number, number, begun, until) if is_put else get(number, value, begun, until))
    verdict = check(history)
    assert verdict.linearizable
    assert verdict.steps < 100_000


def test_what_cannot_be_decided_is_said():
    operations = [put(number, number, 0, 100) for number in range(12)] + [get(20, 99, 200, 201)]
    verdict = check(operations, steps_max=1000)
    assert verdict.linearizable is None
    assert "raise steps_max" in str(verdict)


def test_a_register_knows_its_operations():
    with pytest.raises(ValueError, match="a register has no 'lock'"):
        check([op(0, "lock", at=0, until=1)])

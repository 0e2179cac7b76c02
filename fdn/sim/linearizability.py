"""Is a history linearizable: could each operation have happened at one instant between its call and its return?

The search is Wing and Gong's (1993) with Lowe's memory (2017): try to take an operation that nothing still untaken
must precede, go on from the state it leaves, and step back when stuck; a set of operations taken and the state reached
are never tried twice. Keys are checked one by one (locality: Herlihy and Wing, 1990), which keeps each search short.

An operation without an answer may be taken at any time after its call, or never.

Of a bad history the shortest failing window is found: first the earliest return at which it is already bad, then the
latest call from which on it still is, whatever the state before. Both steps are sound: what is cut off at the end could
only have been left unanswered, and what is cut off at the front is replaced by every state that it could have left.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

from fdn.sim.history import Operation, Outcome

__all__ = ("Model", "Register", "Verdict", "check")

State = Hashable


class Model(Protocol):
    """What one key does when only one client uses it."""

    def initial(self) -> State:
        """Before the first operation."""

    def step(self, state: State, operation: Operation) -> tuple[State, ...]:
        """Take one operation.

        Returns:
            The state after it; nothing if it could not have been answered so. An unanswered one can always be taken.
        """

    def states(self, operations: Sequence[Operation]) -> Iterable[State]:
        """Every state that these operations could leave, in whatever order."""


class Register:
    """A value that is put, got, deleted, and replaced if it is what was expected.

    `put` has the value as input; `get` has it as output; `delete` has neither; `cas` has the pair of the expected and
    the new value as input, and as output whether it was replaced. What was never put is None.
    """

    def initial(self) -> State:
        return None

    def step(self, state: State, operation: Operation) -> tuple[State, ...]:
        match operation.op:
            case "put":
                return (_hashable(operation.input),)
            case "delete":
                return (None,)
            case "get":
                return (state,) if operation.return_ns is None or _hashable(operation.output) == state else ()
            case "cas":
                expected, new = operation.input
                swaps = _hashable(expected) == state
                if operation.return_ns is not None and operation.output != swaps:
                    return ()
                return (_hashable(new) if swaps else state,)
            case _:
                raise ValueError(f"a register has no {operation.op!r}; expected put, get, delete or cas")

    def states(self, operations: Sequence[Operation]) -> Iterable[State]:
        found: dict[State, None] = {self.initial(): None}
        for operation in operations:
            if operation.op == "put":
                found[_hashable(operation.input)] = None
            elif operation.op == "cas":
                found[_hashable(operation.input[1])] = None
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found.

    Attributes:
        linearizable: All is well; None: `steps_max` was not enough to tell.
        key: Of the first key that is not linearizable.
        window: The fewest of its operations, one after another, that no order explains.
        steps: States that were tried.
    """

    linearizable: bool | None
    key: str | None = None
    window: tuple[Operation, ...] = ()
    steps: int = 0

    def __str__(self) -> str:
        if self.linearizable:
            return f"linearizable ({self.steps} steps)"
        if self.linearizable is None:
            return f"undecided on key {self.key!r} after {self.steps} steps; raise steps_max, or use more keys"
        lines = "\n".join(f"  {operation}" for operation in self.window)
        return f"key {self.key!r} is not linearizable; no order explains these, whatever was before:\n{lines}"


def check(operations: Iterable[Operation], model: Model | None = None, steps_max: int = 2_000_000) -> Verdict:
    """Check a history, key by key.

    Args:
        operations: In any order.
        model: Of one key; `Register` if none is given.
        steps_max: States that are tried for one key before giving up.
    """
    model = model or Register()
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.outcome is not Outcome.FAIL:
            keys.setdefault(operation.key, []).append(operation)
    steps = 0
    for key, mine in keys.items():
        mine.sort(key=lambda operation: operation.invoke_ns)
        try:
            good, tried = _search(mine, model, [model.initial()], steps_max)
            steps += tried
            if not good:
                return Verdict(False, key, _window(mine, model, steps_max), steps)
        except _TooManyError:
            return Verdict(None, key, (), steps + steps_max)
    return Verdict(True, steps=steps)


class _TooManyError(Exception):
    pass


def _search(
    operations: Sequence[Operation],
    model: Model,
    states: Iterable[State],
    steps_max: int,
    optional: frozenset[Operation] = frozenset(),
) -> tuple[bool, int]:
    """Look for an order. Returns whether there is one from any of these states, and how many were tried.

    Args:
        operations: By the time of their call.
        model: See `check`.
        states: Of which one was there before.
        steps_max: See `check`.
        optional: Operations that need not be taken though they were answered.
    """
    count = len(operations)
    calls = [operation.invoke_ns for operation in operations]
    returns = [
        operation.return_ns if operation.return_ns is not None and operation not in optional else None
        for operation in operations
    ]
    needed = sum(1 << place for place in range(count) if returns[place] is not None)
    stack: list[tuple[int, State]] = [(0, state) for state in states]
    seen: set[tuple[int, State]] = set()
    while stack:
        taken, state = stack.pop()
        if (taken, state) in seen:
            continue
        seen.add((taken, state))
        if len(seen) > steps_max:
            raise _TooManyError
        if taken & needed == needed:
            return True, len(seen)
        candidates = _minimal(taken, calls, returns)
        for place in reversed(candidates):
            stack.extend(
                (taken | 1 << place, after)
                for after in model.step(state, operations[place])
                if after != state or returns[place] is not None  # else it may as well not be taken
            )
    return False, len(seen)


def _minimal(taken: int, calls: Sequence[int], returns: Sequence[int | None]) -> list[int]:
    """The untaken operations that were called before any untaken one returned; of one instant counts as before."""
    first = (~taken & (taken + 1)).bit_length() - 1  # all before it are taken
    earliest: int | None = None
    found = []
    for place in range(first, len(calls)):
        if earliest is not None and calls[place] > earliest:
            break
        if not taken >> place & 1:
            found.append(place)
            ends = returns[place]
            if ends is not None and (earliest is None or ends < earliest):
                earliest = ends
    return [place for place in found if earliest is None or calls[place] <= earliest]


def _window(operations: Sequence[Operation], model: Model, steps_max: int) -> tuple[Operation, ...]:
    """The shortest failing window of the operations of one key, which are not linearizable."""
    ends = sorted(operation.return_ns for operation in operations if operation.return_ns is not None)
    states = [*model.states(operations)]

    def fails_until(end: int) -> bool:
        return not _search(_until(operations, end), model, [model.initial()], steps_max)[0]

    low, high = 0, len(ends) - 1  # fails_until(ends[high])
    while low < high:
        middle = (low + high) // 2
        if fails_until(ends[middle]):
            high = middle
        else:
            low = middle + 1
    until = _until(operations, ends[high])
    starts = sorted({operation.invoke_ns for operation in until})

    def fails_from(start: int) -> bool:
        window, optional = _from(until, start)
        return not _search(window, model, states, steps_max, optional)[0]

    if not fails_from(starts[0]):  # what is wrong is that it began in another state
        return tuple(it for it in until if it.return_ns is not None or _has_effect(it, model, states))
    low, high = 0, len(starts) - 1  # fails_from(starts[low])
    while low < high:
        middle = (low + high + 1) // 2
        if fails_from(starts[middle]):
            low = middle
        else:
            high = middle - 1
    window = _from(until, starts[low])[0]
    return tuple(it for it in window if it.return_ns is not None or _has_effect(it, model, states))


def _has_effect(operation: Operation, model: Model, states: Iterable[State]) -> bool:
    return any(model.step(state, operation) != (state,) for state in states)


def _until(operations: Sequence[Operation], end: int) -> list[Operation]:
    """The history as it was at that time: what had not returned had no answer."""
    return [
        operation
        if operation.return_ns is not None and operation.return_ns <= end
        else dataclasses.replace(operation, outcome=Outcome.UNKNOWN, output=None, return_ns=None)
        for operation in operations
        if operation.invoke_ns <= end
    ]


def _from(operations: Sequence[Operation], start: int) -> tuple[list[Operation], frozenset[Operation]]:
    """What was not over by then. What was called before may have happened before: it need not be taken."""
    window = [operation for operation in operations if operation.return_ns is None or operation.return_ns >= start]
    return window, frozenset(operation for operation in window if operation.invoke_ns < start)


def _hashable(value: Any) -> State:
    return tuple(_hashable(part) for part in value) if isinstance(value, list) else value

"""What clients asked for and were told, with the times: the input of every consistency checker.

An operation that was not answered has an unknown outcome: it may have had its effect, may have it later, or never.
Histories are written as JSON lines, one operation each, which other checkers can read.
"""

import dataclasses
import enum
import json
from collections.abc import Iterable, Iterator
from typing import Any

from fdn.sim.world import World

__all__ = ("History", "Operation", "Outcome", "from_json_lines")


class Outcome(enum.StrEnum):
    """What the client knows."""

    OK = "ok"
    FAIL = "fail"  # certainly without effect
    UNKNOWN = "unknown"


@dataclasses.dataclass(slots=True, eq=False)
class Operation:
    """One operation of one client.

    Attributes:
        process: The client; it has one operation at a time.
        op: What it does: "put", "get", "cas" and so on.
        key: What it does it to.
        input: With what: JSON values. Of a "cas" a pair, the value expected and the one to be put.
        output: What it was told.
        invoke_ns: When it was asked for, nanoseconds of one clock.
        return_ns: When it was answered; None while or if it was not.
        outcome: See `Outcome`.
    """

    process: int
    op: str
    key: str
    input: Any
    invoke_ns: int
    output: Any = None
    return_ns: int | None = None
    outcome: Outcome = Outcome.UNKNOWN

    def __str__(self) -> str:
        end = "      ...     " if self.return_ns is None else f"{self.return_ns / 1e9:14.6f}"
        told = {Outcome.OK: f" -> {self.output!r}", Outcome.FAIL: " failed", Outcome.UNKNOWN: " unknown"}[self.outcome]
        with_what = "" if self.input is None else repr(self.input)
        return f"{self.invoke_ns / 1e9:14.6f} {end}  client {self.process}: {self.op}({self.key}, {with_what}){told}"


class History:
    """Writes down operations as they happen.

    Args:
        world: Holds the time.
    """

    def __init__(self, world: World) -> None:
        self.operations: list[Operation] = []
        self._world = world
        self._last_ns = 0

    def invoke(self, process: int, op: str, key: str, input: Any = None) -> Operation:
        """A client asks."""
        operation = Operation(process, op, key, input, self._now_ns())
        self.operations.append(operation)
        return operation

    def ok(self, operation: Operation, output: Any = None) -> None:
        """It was done."""
        operation.outcome, operation.output, operation.return_ns = Outcome.OK, output, self._now_ns()

    def fail(self, operation: Operation) -> None:
        """It certainly was not and will not be done."""
        operation.outcome, operation.return_ns = Outcome.FAIL, self._now_ns()

    def json_lines(self) -> Iterator[str]:
        """One line an operation, in the order in which they were asked for."""
        for operation in self.operations:
            fields = dataclasses.asdict(operation)
            if operation.return_ns is None:
                del fields["return_ns"]
            yield json.dumps(fields, sort_keys=True)

    def _now_ns(self) -> int:
        # What happens in one instant has an order all the same.
        self._last_ns = max(round(self._world.now * 1e9), self._last_ns + 1)
        return self._last_ns


def from_json_lines(lines: Iterable[str]) -> list[Operation]:
    """Read operations; lines may come from anywhere.

    Raises:
        ValueError: A line is none.
    """
    operations = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            operations.append(Operation(**{**fields, "outcome": Outcome(fields["outcome"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"line {number} is no operation: {error}; expected the fields of fdn.sim.Operation"
            ) from None
    return operations

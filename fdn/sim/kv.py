"""A small key-value store to hang on a replicated log, and clients that use it and write down what they were told.

Each client numbers its requests, and the store remembers the last one of each client with its result: a request that
the network doubled, or that the client sent again, has its effect once (dissertation section 6.3).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from fdn.sim.history import History, Operation
from fdn.sim.process import Process

__all__ = ("Command", "KvClient", "KvClientSettings", "KvStore", "Reply", "Request")


class Command(msgspec.Struct, frozen=True, array_like=True):
    """What goes into the log. `op` is put, delete or cas; the input of a cas is the pair of expected and new value."""

    client: str
    serial: int
    op: str
    key: str
    input: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """To any member. `op` may also be get."""

    serial: int
    op: str
    key: str
    input: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """From a member. Refused means certainly without effect."""

    serial: int
    refused: bool
    output: Any = None
    leader: str | None = None


class _Image(msgspec.Struct, array_like=True):
    values: dict[str, Any]
    last: dict[str, tuple[int, Any]]


class KvStore:
    """The state machine.

    Args:
        data: What an earlier one dumped.
    """

    def __init__(self, data: bytes = b"") -> None:
        image = msgspec.msgpack.decode(data, type=_Image) if data else _Image({}, {})
        self._values = image.values
        self._last = image.last

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def apply(self, data: bytes) -> Any:
        """Carry out an encoded command, unless it or a later one of its client was carried out; returns its result."""
        command = msgspec.msgpack.decode(data, type=Command)
        serial, result = self._last.get(command.client, (0, None))
        if command.serial > serial:
            result = self._carry_out(command)
            self._last[command.client] = (command.serial, result)
        return result

    def dump(self) -> bytes:
        """All of it; equal for equal stores."""
        return msgspec.msgpack.encode(_Image(self._values, self._last), order="deterministic")

    def _carry_out(self, command: Command) -> Any:
        match command.op:
            case "put":
                self._values[command.key] = command.input
                return None
            case "delete":
                self._values.pop(command.key, None)
                return None
            case "cas":
                expected, new = command.input
                if self._values.get(command.key) != expected:
                    return False
                self._values[command.key] = new
                return True
            case _:
                raise ValueError(f"no command {command.op!r}; expected put, delete or cas")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KvClientSettings:
    """How a client behaves.

    Attributes:
        servers: The members that it may ask.
        keys: Those it uses. Fewer keys make more conflicts, and longer searches for the checker.
        pause_s: At most, between operations.
        patience_s: After this long without an answer an operation's outcome is unknown.
        retry_s: After a refusal another member is asked after this pause, until patience ends.
        repeat_s: Without an answer another member is asked after this pause: the same request, under the same number.
        ends_at_s: No operation begins after this much virtual time.
    """

    servers: Sequence[str]
    keys: Sequence[str] = ("x", "y", "z")
    pause_s: float = 0.05
    patience_s: float = 1.0
    retry_s: float = 0.02
    repeat_s: float = 0.3
    ends_at_s: float


class KvClient:
    """The program of one client: one operation at a time, chosen by chance.

    A refusal is taken to mean that the request did nothing, so the paths from clients to members must not double
    messages: the second copy might do something yet.

    Args:
        settings: See there.
        history: Where it writes down what it does.
        number: Its number in the history.
        process: Where it runs.

    Attributes:
        answered_count: Operations that were done.
        answered_at: When the last one was, by the world's clock.
    """

    def __init__(self, settings: KvClientSettings, history: History, number: int, process: Process) -> None:
        self._settings = settings
        self._history = history
        self._number = number
        self._process = process
        self._serial = 0
        self._value = 0
        self._known: dict[str, Any] = {}  # what each key was when last seen: a cas that expects it may succeed
        self._server = settings.servers[0]
        self._operation: Operation | None = None
        self._request: Request | None = None
        self._unanswered = 0  # attempts that may have had, or may yet have, their effect
        self._act_at: float | None = None
        self._gives_up_at = 0.0
        self.answered_count = 0
        self.answered_at = 0.0

    # -- the program

    def on_start(self) -> None:
        self._pause()

    def on_message(self, sender: str, message: Reply) -> None:
        operation = self._operation
        if operation is None or message.serial != self._serial or self._request is None:
            return  # too late, or once more
        if message.refused:
            self._unanswered -= 1
            self._server = message.leader or self._another(sender)
            self._act_at = self._process.now + self._settings.retry_s * self._process.rng.uniform(0.5, 1.5)
            return
        self._history.ok(operation, message.output)
        self.answered_count += 1
        self.answered_at = self._process.world.now
        if operation.op == "get":
            self._known[operation.key] = message.output
        elif operation.op == "put":
            self._known[operation.key] = operation.input
        self._pause()

    def on_tick(self) -> None:
        now = self._process.now
        if self._operation is not None and now >= self._gives_up_at:
            if not self._unanswered:
                self._history.fail(self._operation)
            self._server = self._another(self._server)
            self._pause()
        elif self._act_at is not None and now >= self._act_at:
            if self._operation is None:
                self._begin()
            if self._operation is not None:
                self._ask()

    def next_deadline(self) -> float | None:
        deadlines = [at for at in (self._act_at, self._gives_up_at if self._operation else None) if at is not None]
        return min(deadlines, default=None)

    def on_greeting(self, sender: str, greeting: Any) -> None:
        """Nobody dials a client."""

    def on_closed(self, peer: str) -> None:
        """It holds no links."""

    # -- inside

    def _pause(self) -> None:
        self._operation = self._request = None
        self._act_at = self._process.now + self._settings.pause_s * self._process.rng.random()

    def _begin(self) -> None:
        if self._process.world.elapsed_s > self._settings.ends_at_s:
            self._act_at = None
            return
        rng = self._process.rng
        key = rng.choice(self._settings.keys)
        self._serial += 1
        self._value += 1
        value = f"{self._number}-{self._value}"
        op = rng.choice(("get", "get", "put", "cas"))
        input: Any = None
        if op == "put":
            input = value
        elif op == "cas":
            input = [self._known.get(key), value]
        self._operation = self._history.invoke(self._number, op, key, input)
        self._request = Request(self._serial, op, key, input)
        self._unanswered = 0
        self._gives_up_at = self._process.now + self._settings.patience_s

    def _ask(self) -> None:
        assert self._request is not None
        if self._unanswered:
            self._server = self._another(self._server)
        self._act_at = self._process.now + self._settings.repeat_s
        self._unanswered += 1
        self._process.send(self._server, self._request)

    def _another(self, server: str) -> str:
        others = [name for name in self._settings.servers if name != server]
        return self._process.rng.choice(others or [server])

"""Sessions: who asks, and what was answered, so that asking twice does not do twice. Dissertation section 6.3."""

from collections.abc import Iterable, Iterator

import msgspec

from consensus.identity import LogIndex
from consensus.machine.commands import Do, Failure, FailureCode, OpenSession, Result
from consensus.machine.limits import MachineLimits

__all__ = ("Session", "Sessions")


class Session(msgspec.Struct, array_like=True):
    """One session, as it is in the state.

    Attributes:
        number: The index of the command that opened it.
        owner: A name for people.
        ttl_s: How long it may be silent.
        acknowledged: Up to this request it has its answers.
        answers: Those of later requests.
    """

    number: LogIndex
    owner: str
    ttl_s: float
    acknowledged: int = 0
    answers: dict[int, Result] = {}


class Sessions:
    """All sessions of a machine."""

    def __init__(self, limits: MachineLimits) -> None:
        self._limits = limits
        self._open: dict[LogIndex, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: LogIndex) -> bool:
        return number in self._open

    def __iter__(self) -> Iterator[Session]:
        """In the order in which they were opened."""
        return iter(self._open.values())

    def open(self, index: LogIndex, command: OpenSession) -> Result:
        """Its number, or why not."""
        if not 0 < command.ttl_s <= self._limits.ttl_max_s:
            return Failure(
                FailureCode.TOO_MUCH, f"ttl_s={command.ttl_s:g} is not within 0 and {self._limits.ttl_max_s:g}"
            )
        if len(command.owner) > self._limits.key_bytes_max:
            return Failure(FailureCode.TOO_MUCH, f"an owner's name may have {self._limits.key_bytes_max} characters")
        if len(self._open) >= self._limits.sessions_max:
            return Failure(FailureCode.TOO_MUCH, f"{self._limits.sessions_max} sessions are open")
        self._open[index] = Session(index, command.owner, command.ttl_s)
        return int(index)

    def close(self, number: LogIndex) -> bool:
        """Whether it was open."""
        return self._open.pop(number, None) is not None

    def before(self, command: Do) -> tuple[Session | None, Result]:
        """The session if this request is to be carried out now; else its answer."""
        session = self._open.get(command.session)
        if session is None:
            return None, Failure(FailureCode.NO_SESSION, f"session {command.session} has ended, or never was")
        acknowledged = min(command.acknowledged, command.sequence - 1)  # nobody has the answer before he asks
        if acknowledged > session.acknowledged:
            for number in [number for number in session.answers if number <= acknowledged]:
                del session.answers[number]
            session.acknowledged = acknowledged
        if command.sequence in session.answers:
            return None, session.answers[command.sequence]
        if command.sequence <= session.acknowledged:
            return None, Failure(
                FailureCode.ANSWERED, f"request {command.sequence} was answered, and that acknowledged"
            )
        if len(session.answers) >= self._limits.window_max:
            return None, Failure(
                FailureCode.TOO_MUCH,
                f"{self._limits.window_max} answers of session {session.number} are unacknowledged",
            )
        return session, None

    def load(self, sessions: Iterable[Session]) -> None:
        """Hold these and nothing else."""
        self._open = {session.number: session for session in sessions}

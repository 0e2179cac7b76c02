import pytest

from consensus.identity import LogIndex
from consensus.machine import Do, Failure, FailureCode, MachineLimits, OpenSession, Txn
from consensus.machine.sessions import Sessions

LIMITS = MachineLimits(sessions_max=2, window_max=3, ttl_max_s=60.0)


def do(sequence: int, acknowledged: int = 0, session: int = 5) -> Do:
    return Do(LogIndex(session), sequence, acknowledged, Txn())


@pytest.fixture
def sessions() -> Sessions:
    made = Sessions(LIMITS)
    assert made.open(LogIndex(5), OpenSession("me", 10.0)) == 5
    return made


def answer(sessions: Sessions, command: Do, value: int) -> None:
    session, _ = sessions.before(command)
    assert session is not None
    session.answers[command.sequence] = value


def test_the_same_request_has_the_same_answer(sessions: Sessions):
    answer(sessions, do(1), 11)
    assert sessions.before(do(1)) == (None, 11)
    answer(sessions, do(2), 12)
    assert sessions.before(do(1)) == (None, 11)


def test_requests_may_come_out_of_order(sessions: Sessions):
    answer(sessions, do(2), 12)
    answer(sessions, do(1), 11)
    assert sessions.before(do(2)) == (None, 12)


def test_what_is_acknowledged_is_forgotten_and_not_done_again(sessions: Sessions):
    answer(sessions, do(1), 11)
    answer(sessions, do(2, acknowledged=1), 12)
    session, told = sessions.before(do(1))
    assert session is None
    assert isinstance(told, Failure)
    assert told.code is FailureCode.ANSWERED


def test_nobody_acknowledges_what_he_asks_for(sessions: Sessions):
    answer(sessions, do(1, acknowledged=99), 11)
    assert sessions.before(do(1, acknowledged=99)) == (None, 11)


def test_answers_are_bounded(sessions: Sessions):
    for sequence in (1, 2, 3):
        answer(sessions, do(sequence), sequence)
    _, told = sessions.before(do(4))
    assert isinstance(told, Failure)
    assert told.code is FailureCode.TOO_MUCH
    answer(sessions, do(4, acknowledged=1), 4)


def test_a_session_that_has_ended(sessions: Sessions):
    assert sessions.close(LogIndex(5))
    assert not sessions.close(LogIndex(5))
    _, told = sessions.before(do(1))
    assert isinstance(told, Failure)
    assert told.code is FailureCode.NO_SESSION


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 61.0, float("nan"), float("inf")])
def test_a_time_that_is_none(sessions: Sessions, ttl_s: float):
    assert isinstance(sessions.open(LogIndex(6), OpenSession("me", ttl_s)), Failure)


def test_sessions_are_bounded(sessions: Sessions):
    assert sessions.open(LogIndex(6), OpenSession("me", 1.0)) == 6
    assert isinstance(sessions.open(LogIndex(7), OpenSession("me", 1.0)), Failure)
    assert len(sessions) == 2
    assert [session.number for session in sessions] == [5, 6]
    assert isinstance(sessions.open(LogIndex(8), OpenSession("x" * 2000, 1.0)), Failure)

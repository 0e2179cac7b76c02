from consensus.identity import LogIndex
from consensus.machine.leases import Leases
from consensus.machine.sessions import Session

A, B = LogIndex(5), LogIndex(9)


def leading(now: float = 100.0) -> Leases:
    leases = Leases()
    leases.lead([Session(A, "a", 10.0), Session(B, "b", 3.0)], now)
    return leases


def test_who_is_silent_expires_once():
    leases = leading()
    assert leases.next_deadline() == 103.0
    assert leases.expired(102.9) == ()
    assert leases.expired(103.0) == (B,)
    assert leases.expired(104.0) == ()
    assert leases.expired(200.0) == (A,)


def test_who_is_heard_goes_on():
    leases = leading()
    assert leases.renew(B, 102.0)
    assert leases.expired(104.0) == ()
    assert leases.expired(105.0) == (B,)
    assert leases.left_s(A, 105.0) == 5.0
    assert leases.left_s(LogIndex(77), 105.0) is None


def test_a_session_whose_end_is_on_its_way_is_not_renewed():
    leases = leading()
    assert leases.expired(103.0) == (B,)
    assert not leases.renew(B, 103.0)
    leases.undone([B, A], 104.0)
    assert leases.renew(B, 104.0)
    assert leases.expired(104.5) == ()


def test_an_expiry_that_came_to_nothing_is_tried_again():
    leases = leading()
    leases.expired(103.0)
    leases.undone([B], 104.0)
    assert leases.expired(104.0) == (B,)


def test_a_new_leader_gives_everybody_the_whole_time():
    leases = leading()
    leases.expired(103.0)
    leases.follow()
    assert leases.next_deadline() is None
    assert not leases.renew(A, 103.0), "who does not lead renews nothing"
    leases.lead([Session(A, "a", 10.0), Session(B, "b", 3.0)], 110.0)
    assert leases.expired(112.9) == ()
    assert leases.renew(B, 112.9)


def test_a_clock_does_not_shorten_what_was_given():
    leases = leading()
    leases.renew(A, 90.0)
    assert leases.left_s(A, 100.0) == 10.0


def test_sessions_that_come_and_go():
    leases = leading()
    leases.open(LogIndex(20), 1.0, 100.0)
    leases.close(LogIndex(20))
    leases.close(LogIndex(20))
    assert leases.expired(102.0) == ()
    assert not leases.renew(LogIndex(20), 102.0)

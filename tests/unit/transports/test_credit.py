import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.credit import EXEMPT_KINDS, GrantWindow, SendWindow
from transports.wire.envelope import Kind


def test_the_exempt_kinds_are_those_of_the_specification():
    assert set(Kind) - EXEMPT_KINDS == {
        Kind.CALL,
        Kind.ITEM,
        Kind.END,
        Kind.CAST,
        Kind.EVENT,
        Kind.CHUNK,
        Kind.RELAY,
        Kind.SENT,
    }


def test_there_is_no_limit_before_the_first_grant():
    window = SendWindow()
    window.spend(1_000_000, 1 << 40)
    assert window.open


def test_either_total_closes_the_window_and_a_batch_may_overshoot():
    window = SendWindow()
    window.grant(10, 1000)
    window.spend(9, 10)
    assert window.open
    window.spend(50, 10)  # one batch
    assert not window.open
    window.grant(100, 1000)
    assert window.open
    window.spend(1, 980)
    assert not window.open


def test_totals_never_shrink_and_zero_lifts_the_limit():
    window = SendWindow()
    window.grant(10, 1000)
    window.grant(5, 2000)
    assert (window.messages_granted, window.bytes_granted) == (10, 2000)
    window.spend(10, 0)
    assert not window.open
    window.grant(0, 0)
    assert window.open
    window.grant(20, 2000)  # and may be set again
    window.spend(10, 0)
    assert not window.open


def test_credit_is_due_at_half_a_window_of_either():
    window = GrantWindow(100, 1000)
    assert window.totals == (100, 1000)
    assert window.on_consumed(49, 100) is None
    assert window.on_consumed(1, 0) == (150, 1100)
    assert window.on_consumed(1, 399) is None
    assert window.on_consumed(0, 101) == (151, 1600)
    assert window.totals == (151, 1600)


def test_a_peer_that_sends_without_credit_is_noticed():
    window = GrantWindow(2, 1000)
    assert window.on_received(5, 10)  # the overshoot of one batch
    assert not window.on_received(1, 10)
    assert (window.messages_received, window.bytes_received) == (6, 20)


def test_a_window_lets_something_pass():
    with pytest.raises(ValueError, match="lets nothing pass"):
        GrantWindow(0, 10)


@given(
    st.integers(1, 50),
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 900)), max_size=200),
    st.randoms(use_true_random=False),
)
def test_a_sender_never_starves_and_never_overruns_by_more_than_a_batch(messages, bytes_, batches, random):
    """Both ends together, with every CREDIT delivered late, twice, or lost; the last one arrives."""
    sender, receiver = SendWindow(), GrantWindow(messages, bytes_)
    sender.grant(*receiver.totals)
    unconsumed: list[tuple[int, int]] = []
    for batch in batches:
        while not sender.open:
            assert unconsumed, "the sender waits and the receiver has nothing left to consume"
            receiver.on_consumed(*unconsumed.pop(0))
            if random.random() < 0.5 or not unconsumed:
                sender.grant(*receiver.totals)
                sender.grant(*receiver.totals)
        sender.spend(*batch)
        assert receiver.on_received(*batch)
        unconsumed.append(batch)
        assert sum(m for m, _ in unconsumed) < messages + messages / 2 + 9 + 9

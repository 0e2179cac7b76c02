from fdn.client.flow import Inflow, Outflow
from fdn.errors import Error


def test_half_a_window_read_is_granted_again():
    inflow = Inflow(4, 1000, granted=True)
    assert inflow.window == [4, 1000]
    grants = []
    for number in range(10):
        assert inflow.put(number, 10)
        assert inflow.take() == number
        grants.append(inflow.grant())
    assert grants == [None, [6, 1020], None, [8, 1040], None, [10, 1060], None, [12, 1080], None, [14, 1100]]


def test_bytes_are_granted_as_well():
    inflow = Inflow(100, 1000, granted=True)
    inflow.put("x", 600)
    assert inflow.grant() is None, "not read yet"
    inflow.take()
    assert inflow.grant() == [101, 1600]


def test_beyond_the_window():
    inflow = Inflow(2, 100, granted=True)
    assert inflow.put(1, 10)
    assert inflow.put(2, 1000), "one may overshoot"
    assert not inflow.put(3, 0)
    assert len(inflow) == 2
    wide = Inflow(100, 100, granted=True)
    assert wide.put(1, 100)
    assert not wide.put(2, 1)


def test_a_window_that_is_not_known_yet_takes_nothing():
    inflow = Inflow(4, 1000, granted=False)
    assert not inflow.put(1, 1)
    assert inflow.grant() == [4, 1000]
    assert inflow.grant() is None
    assert inflow.put(1, 1)


def test_the_end_keeps_what_has_come_and_its_first_reason():
    inflow = Inflow(4, 1000, granted=True)
    inflow.put(1, 1)
    inflow.put(2, 1)
    error = Error("first")
    inflow.end(error)
    inflow.end(Error("second"))
    assert (inflow.ended, inflow.error) == (True, error)
    assert [inflow.take(), inflow.take()] == [1, 2]
    assert inflow.grant() is None


def test_a_sender_keeps_to_its_window():
    outflow = Outflow((2, 100))
    outflow.sent(10)
    assert outflow.may_send
    outflow.sent(10)
    assert not outflow.may_send
    outflow.on_credit([3, 100])
    assert outflow.may_send
    outflow.sent(100)
    outflow.on_credit([1, 1])  # late
    outflow.on_credit("nonsense")
    assert not outflow.may_send
    outflow.on_credit([10, 100])
    assert not outflow.may_send, "bytes are spent"
    outflow.on_credit([10, 1000])
    assert outflow.may_send


def test_no_window_is_no_limit():
    outflow = Outflow(None)
    for _ in range(1000):
        outflow.sent(10**6)
    outflow.on_credit([1, 1])
    assert outflow.may_send

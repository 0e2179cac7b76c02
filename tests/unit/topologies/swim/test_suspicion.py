import math

import pytest

from topologies.identity import NodeId
from topologies.swim.settings import SwimSettings
from topologies.swim.suspicion import Suspicion, confirmations_wanted, timeout_min_s, timeout_s

LOCAL = SwimSettings.local()


def test_memberlist_least_time_is_multiplier_times_log_n_times_interval():
    assert timeout_min_s(LOCAL, 3) == pytest.approx(1.0)
    assert timeout_min_s(LOCAL, 10) == pytest.approx(1.0)
    assert timeout_min_s(LOCAL, 100) == pytest.approx(2.0)
    assert timeout_min_s(LOCAL, 0) == pytest.approx(1.0)


def test_lifeguard_confirmations_are_not_waited_for_where_there_are_too_few_others():
    assert [confirmations_wanted(LOCAL, count) for count in (1, 2, 3, 4, 100)] == [0, 0, 0, 2, 2]
    assert confirmations_wanted(SwimSettings(suspicion_multiplier=1), 100) == 0


def test_lifeguard_time_shrinks_logarithmically_from_most_to_least():
    assert timeout_s(0, 3, 1.0, 6.0) == 6.0
    assert timeout_s(1, 3, 1.0, 6.0) == pytest.approx(6.0 - math.log(2) / math.log(4) * 5.0)
    assert timeout_s(3, 3, 1.0, 6.0) == pytest.approx(1.0)
    assert timeout_s(0, 0, 1.0, 6.0) == 1.0
    times = [timeout_s(confirmed, 3, 1.0, 6.0) for confirmed in range(4)]
    assert times == sorted(times, reverse=True)
    assert times[0] - times[1] > times[2] - times[3]  # the first confirmation tells most


def test_only_independent_confirmations_count_and_no_more_than_wanted():
    suspicion = Suspicion(NodeId("a"), 10, LOCAL, now=100.0)
    assert suspicion.deadline == pytest.approx(106.0)
    assert not suspicion.confirm(NodeId("a"))
    assert suspicion.confirm(NodeId("b"))
    assert not suspicion.confirm(NodeId("b"))
    assert suspicion.confirm(NodeId("c"))
    assert suspicion.deadline == pytest.approx(101.0)
    assert not suspicion.confirm(NodeId("d"))


def test_proof_shortens_but_never_lengthens():
    suspicion = Suspicion(NodeId("a"), 3, LOCAL, now=100.0)
    suspicion.hasten(100.25)
    assert suspicion.deadline == 100.25
    suspicion.hasten(100.75)
    assert suspicion.deadline == 100.25


def test_time_that_we_did_not_run_does_not_count():
    suspicion = Suspicion(NodeId("a"), 3, LOCAL, now=100.0)
    suspicion.hasten(100.5)
    suspicion.postpone(7.0)
    assert suspicion.deadline == 107.5

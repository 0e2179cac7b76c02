import itertools
import random
import statistics

import pytest

from topologies.identity import NodeId
from topologies.swim.awareness import Awareness
from topologies.swim.probe import AskHelpers, PingPeer, ProbeFailed, Prober, TellRequester
from topologies.swim.settings import SwimSettings

LOCAL = SwimSettings.local()


def make(*peers, seed=1, **settings):
    chosen = SwimSettings(probe_interval_s=0.25, ack_timeout_s=0.1, **settings)
    prober = Prober(chosen, Awareness(chosen.health_score_max), random.Random(seed))
    for peer in peers:
        prober.watch(NodeId(peer), 0.0)
    return prober


def next_events(prober):
    due = prober.next_deadline()
    return due, prober.tick(due)


def beats(prober, count):
    """Who is pinged at each beat when all answer at once."""
    pinged: list[NodeId] = []
    while len(pinged) < count:
        now, events = next_events(prober)
        for event in events:
            assert isinstance(event, PingPeer)
            pinged.append(event.peer)
            prober.on_ack(event.peer, event.seq, now)
    return pinged


def test_nobody_to_probe_nothing_to_wait_for():
    prober = make()
    assert prober.next_deadline() is None
    assert prober.tick(5.0) == []


def test_one_peer_each_interval():
    prober = make("a", "b", "c")
    now, _ = next_events(prober)
    assert 0.0 <= now <= 0.25
    for peer in "abc":
        prober.unwatch(NodeId(peer))
    assert prober.next_deadline() is None


def test_paper_every_member_is_probed_at_least_once_in_2n_minus_1_intervals():
    for seed in range(20):
        prober = make(*"abcdefg", seed=seed)
        pinged = beats(prober, 200)
        for start in range(200 - 13):
            assert set(pinged[start : start + 13]) == set("abcdefg")


def test_two_peers_take_turns():
    pinged = beats(make("a", "b"), 40)
    assert all(one != other for one, other in itertools.pairwise(pinged))


def test_paper_a_joiner_is_inserted_at_a_random_place():
    places = set()
    for seed in range(60):
        prober = make(*"abcd", seed=seed)
        beats(prober, 2)
        prober.watch(NodeId("new"), 1.0)
        places.add(beats(prober, 3).index("new") if "new" in prober._round[2:5] else None)
    assert places == {0, 1, 2}


def test_paper_mean_first_detection_by_anyone_is_about_e_over_e_minus_1_intervals():
    intervals = []
    for seed in range(60):
        probers = [
            make(*(f"n{other}" for other in range(30) if other != me), seed=seed * 100 + me) for me in range(1, 30)
        ]
        count = 1
        while not any("n0" in beats(prober, 1) for prober in probers):
            count += 1
        intervals.append(count)
    assert 1.3 < statistics.mean(intervals) < 1.9  # e / (e - 1) = 1.58


def test_a_silent_peer_is_asked_for_through_helpers_and_then_failed():
    prober = make("a", "b", "c", indirect_count=2)
    (ping,) = prober.probe_now(NodeId("a"), 10.0)
    prober._next_at = 99.0
    assert prober.next_deadline() == 10.1
    (ask,) = prober.tick(10.1)
    assert isinstance(ask, AskHelpers)
    assert (ask.peer, ask.seq, set(ask.helpers)) == ("a", ping.seq, {"b", "c"})
    assert prober.next_deadline() == 10.25
    assert prober.tick(10.2) == []
    (failed,) = prober.tick(10.25)
    assert isinstance(failed, ProbeFailed)
    assert (failed.peer, set(failed.helpers)) == ("a", {"b", "c"})
    assert prober.failed_count == prober.indirect_count == 1


def test_without_helpers_the_peer_has_the_whole_interval():
    prober = make("a")
    prober.probe_now(NodeId("a"), 10.0)
    prober._next_at = 99.0
    assert prober.tick(10.1) == []
    assert prober.next_deadline() == 10.25
    assert prober.tick(10.25) == [ProbeFailed(NodeId("a"), 0.25, ())]


def test_an_ack_from_the_peer_or_a_helper_ends_the_probe():
    for answerer in ("a", "b"):
        prober = make("a", "b")
        (ping,) = prober.probe_now(NodeId("a"), 10.0)
        prober._next_at = 99.0
        prober.tick(10.1)
        assert prober.on_ack(NodeId(answerer), ping.seq, 10.2) is None
        assert prober.tick(10.3) == []
        assert prober.unexpected_count == 0


def test_an_ack_from_anyone_else_or_with_another_seq_counts_for_nothing():
    prober = make("a", "b")
    (ping,) = prober.probe_now(NodeId("a"), 10.0)
    prober._next_at = 99.0
    prober.on_ack(NodeId("b"), ping.seq, 10.05)  # not asked for help yet
    prober.on_ack(NodeId("a"), ping.seq + 1, 10.05)
    assert prober.unexpected_count == 2
    assert isinstance(prober.tick(10.1)[0], AskHelpers)


def test_the_round_trip_is_smoothed_over_direct_answers():
    prober = make("a")
    assert prober.rtt_s(NodeId("a")) is None
    for start, rtt in ((10.0, 0.008), (11.0, 0.016)):
        (ping,) = prober.probe_now(NodeId("a"), start)
        prober.on_ack(NodeId("a"), ping.seq, start + rtt)
    smoothed = prober.rtt_s(NodeId("a"))
    assert smoothed is not None
    assert abs(smoothed - 0.009) < 1e-9
    assert prober.rtt_s(NodeId("x")) is None


def test_a_peer_is_probed_once_at_a_time():
    prober = make("a")
    assert len(prober.probe_now(NodeId("a"), 10.0)) == 1
    assert prober.probe_now(NodeId("a"), 10.0) == []
    assert len(prober.probe_now(NodeId("stranger"), 10.0)) == 1  # whether it is one in turn or not
    prober.on_ack(NodeId("stranger"), prober._probed[NodeId("stranger")], 10.1)
    assert prober.rtt_s(NodeId("stranger")) is None


def test_an_unreachable_peer_is_asked_for_through_helpers_at_once():
    prober = make("a", "b")
    (ask,) = prober.direct_failed(NodeId("a"), 10.0)
    assert isinstance(ask, AskHelpers)
    assert prober.direct_failed(NodeId("a"), 10.0) == []
    assert len(prober.direct_failed(NodeId("stranger"), 10.0)) == 1


def test_who_is_no_longer_watched_fails_no_probe():
    prober = make("a", "b")
    prober.probe_now(NodeId("a"), 10.0)
    prober._next_at = 99.0
    prober.unwatch(NodeId("a"))
    prober.unwatch(NodeId("a"))
    assert prober.tick(11.0) == []


def test_helping_sends_the_ack_back_to_who_asked():
    prober = make("t", "r")
    prober._next_at = 99.0
    (ping,) = prober.help(NodeId("r"), 77, NodeId("t"), 10.0)
    assert prober.on_ack(NodeId("x"), ping.seq, 10.1) is None
    relay = prober.on_ack(NodeId("t"), ping.seq, 10.1)
    assert relay is not None
    assert (relay.requester, relay.seq) == ("r", 77)
    assert prober.on_ack(NodeId("t"), ping.seq, 10.1) is None


def test_help_ends_with_the_interval_and_is_bounded():
    prober = make("t")
    prober._next_at = 99.0
    asked = sum(len(prober.help(NodeId("r"), seq, NodeId("t"), 10.0)) for seq in range(5000))
    assert asked == 1024
    assert len(prober.tick(10.08)) == 1024  # each requester is told once that there is no answer yet
    assert prober.next_deadline() == 10.25
    prober.tick(10.25)
    assert len(prober.help(NodeId("r"), 1, NodeId("t"), 10.3)) == 1


def test_missed_beats_are_not_made_up_for():
    prober = make("a", "b")
    assert len(prober.tick(100.0)) == 1
    assert prober.next_deadline() == 100.1  # the ack timeout
    assert prober._next_at == 100.25


def test_time_that_we_did_not_run_does_not_count():
    prober = make("a", "b")
    prober.probe_now(NodeId("a"), 10.0)
    prober.help(NodeId("r"), 1, NodeId("b"), 10.0)
    prober._next_at = 99.0
    prober.postpone(5.0)
    assert prober.next_deadline() == pytest.approx(15.075)  # to tell the requester


def failures(prober, nacks, count):
    """How long so many probes take to fail when nobody answers, and `nacks` helpers say that they have none either."""
    waited: list[float] = []
    while len(waited) < count:
        _, events = next_events(prober)
        for event in events:
            if isinstance(event, AskHelpers):
                for helper in event.helpers[:nacks]:
                    prober.on_nack(helper, event.seq)
            if isinstance(event, ProbeFailed):
                waited.append(event.waited_s)
    return waited


def test_who_hears_nothing_from_helpers_either_takes_more_time():
    assert failures(make(*"abcde"), 3, 5) == pytest.approx([0.25] * 5)
    slower = failures(make(*"abcde"), 2, 5)  # the next probe begins as the first fails
    assert slower == pytest.approx([0.25, 0.25, 0.5, 0.75, 1.0], abs=0.26)
    assert max(failures(make(*"abcde"), 0, 12)) == pytest.approx(8 * 0.25)


def test_without_doubts_the_pace_stays():
    assert failures(make(*"abcde", health_score_max=0), 0, 5) == pytest.approx([0.25] * 5)


def test_an_answer_restores_the_pace():
    prober = make(*"abcde")
    failures(prober, 2, 3)
    for _ in range(20):
        now, events = next_events(prober)
        for event in events:
            if isinstance(event, PingPeer):
                prober.on_ack(event.peer, event.seq, now)
    assert failures(prober, 3, 1) == pytest.approx([0.25])


def test_a_helper_says_once_that_it_has_no_answer_in_time_for_the_requester():
    prober = make("a", "b")
    (ping,) = prober.help(NodeId("r"), 9, NodeId("a"), 10.0)
    told = []
    for now in (10.07, 10.08, 10.2):
        told += [(now, event) for event in prober.tick(now) if isinstance(event, TellRequester)]
    assert told == [(10.08, TellRequester(NodeId("r"), 9))]
    relay = prober.on_ack(NodeId("a"), ping.seq, 10.21)  # it comes after all, and is passed on
    assert relay is not None
    assert relay.requester == "r"


def test_a_nack_of_somebody_who_was_not_asked_means_nothing():
    prober = make("a", "b")
    prober.on_nack(NodeId("b"), 12345)
    assert prober.unexpected_count == 1

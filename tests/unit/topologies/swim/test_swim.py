import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies.identity import NodeId
from topologies.swim import (
    Claim,
    Evidence,
    EvidenceKind,
    Leave,
    MemberChanged,
    Met,
    Neighbours,
    Received,
    Refuted,
    Send,
    Status,
    Swim,
    SwimSettings,
    Tick,
)
from topologies.swim.messages import COUNTER_MAX, GENERATION_MAX, Ack, Gossip, Ping, PingReq, PushPull

ME, N1, N2, N3 = (NodeId(name) for name in ("me", "n1", "n2", "n3"))


class Driver:
    """One core and its clock."""

    def __init__(self, *members: Claim, now: float = 100.0, **changes):
        base = SwimSettings.local()
        merged = {name: getattr(base, name) for name in base.__dataclass_fields__} | changes
        self.now = now
        self.swim = Swim(Claim(ME, (1, 0), Status.ALIVE, "me"), SwimSettings(**merged), random.Random(1))
        for member in members:
            self.hear(N3, *[member])
        self.quiet()

    def quiet(self) -> None:
        """Let the news die down."""
        while self.swim._news and self.swim._membership.live_count:
            self.now += 0.05
            self.acked_tick()

    def feed(self, input):
        return self.swim.handle(input, self.now)

    def hear(self, sender, *claims):
        return self.feed(Received(sender, Gossip(tuple(claims))))

    def tick(self, until=None):
        """Let time pass to `until`, with ticks where they are due; all effects."""
        effects = []
        until = self.now if until is None else until
        while (due := self.swim.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            effects += self.swim.handle(Tick(), self.now)
        self.now = until
        return effects

    def acked_tick(self) -> None:
        for effect in self.tick():
            if isinstance(effect, Send) and isinstance(effect.message, Ping):
                self.feed(Received(effect.peer, Ack(effect.message.seq)))

    def status(self, peer) -> str:
        return self.swim.members()[peer].status.value


def sends(effects, kind):
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def changes(effects):
    return [
        (effect.subject, effect.after and effect.after.status.value)
        for effect in effects
        if isinstance(effect, MemberChanged)
    ]


# -- meeting


def test_alone_there_is_nothing_to_wait_for():
    assert Driver().swim.next_deadline() is None


def test_who_is_met_for_the_first_time_is_alive_and_told_everything(claim_about):
    driver = Driver(claim_about("n2"))
    effects = driver.feed(Met(claim_about("n1")))
    assert effects[0] == MemberChanged(N1, None, claim_about("n1"), driver.now)
    (exchange,) = sends(effects, PushPull)
    assert exchange.peer == N1
    assert exchange.message.reply
    assert {claim.subject for claim in exchange.message.claims} == {ME, N1, N2}


def test_who_is_known_already_is_met_in_silence(claim_about):
    assert Driver(claim_about("n1")).feed(Met(claim_about("n1"))) == []


@pytest.mark.parametrize("status", [Status.DEAD, Status.SUSPECT])
def test_who_is_met_is_told_what_is_held_against_it(claim_about, status):
    held = claim_about("n1", status=status, by="n2", reason="no answer")
    driver = Driver(claim_about("n1"), held)
    (told,) = sends(driver.feed(Met(claim_about("n1"))), Gossip)
    assert told.peer == N1
    assert [msgspec.structs.replace(claim, age_s=0.0) for claim in told.message.claims] == [held]


def test_a_dead_one_that_is_met_in_a_new_life_is_alive_and_told_everything(claim_about):
    driver = Driver(claim_about("n1", status=Status.DEAD))
    effects = driver.feed(Met(claim_about("n1", (2, 0))))
    assert changes(effects) == [("n1", "alive")]
    assert len(sends(effects, PushPull)) == 1


def test_one_met_in_an_older_life_than_is_believed_in_is_told_so(claim_about):
    driver = Driver(claim_about("n1", (3, 4)))
    (told,) = sends(driver.feed(Met(claim_about("n1", (1, 0)))), Gossip)
    assert told.message.claims == (claim_about("n1", (3, 4)),)


def test_who_left_does_not_come_back_by_saying_hello(claim_about):
    driver = Driver(claim_about("n1", status=Status.LEFT))
    effects = driver.feed(Met(claim_about("n1")))
    assert changes(effects) == []
    assert driver.status(N1) == "left"
    (told,) = sends(effects, Gossip)  # in case somebody has lied about it: only it can say that it has not left
    assert [claim.status for claim in told.message.claims] == [Status.LEFT]


def test_who_is_leaving_is_not_told_what_it_says_itself(claim_about):
    driver = Driver(claim_about("n1"))
    assert sends(driver.hear(N1, claim_about("n1", status=Status.LEFT)), Gossip) == []
    assert driver.status(N1) == "left"


def test_one_that_speaks_though_it_is_said_to_have_left_is_told_so(claim_about):
    driver = Driver(claim_about("n1", status=Status.LEFT))
    (told,) = sends(driver.hear(N1, claim_about("n2")), Gossip)
    assert told.message.claims[0].status is Status.LEFT


def test_claims_of_third_parties_are_believed_but_call_for_no_exchange(claim_about):
    driver = Driver(claim_about("n1"))
    effects = driver.hear(N1, claim_about("n2"))
    assert changes(effects) == [("n2", "alive")]
    assert sends(effects, PushPull) == []


# -- probing


def test_a_ping_is_answered_whoever_asks(claim_about):
    driver = Driver()
    (ack,) = driver.feed(Received(NodeId("stranger"), Ping(7)))
    assert ack == Send(NodeId("stranger"), Ack(7))


def test_paper_a_failed_probe_makes_a_suspect_and_then_a_dead_one(claim_about):
    driver = Driver(claim_about("n1"))
    before = driver.now
    effects = driver.tick(before + 0.7)
    assert changes(effects) == [("n1", "suspect")]
    suspect = driver.swim.members()[N1]
    assert suspect.by == ME
    assert suspect.reason == "no answer in 0.25 s"
    effects = driver.tick(before + 2.0)
    assert changes(effects) == [("n1", "dead")]
    assert driver.swim.members()[N1].reason == "no answer in 0.25 s; not refuted"
    assert driver.swim.stats().deaths == 1


def test_paper_helpers_are_asked_before_anyone_is_suspected(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    effects = driver.feed(Evidence(N1, EvidenceKind.CLOSED)) + driver.tick(driver.now + 0.15)
    assert next((effect.peer, effect.message.target) for effect in sends(effects, PingReq)) == (N2, N1)
    assert changes(effects) == []


def test_paper_a_helper_pings_and_passes_the_ack_on(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    (ping,) = sends(driver.feed(Received(N2, PingReq(55, N1))), Ping)
    assert ping.peer == N1
    assert driver.feed(Received(N1, Ack(ping.message.seq))) == [Send(N2, Ack(55))]


def test_nobody_is_helped_to_reach_a_stranger(claim_about):
    driver = Driver(claim_about("n2"))
    assert driver.feed(Received(N2, PingReq(55, N1))) == []
    assert driver.feed(Received(N2, PingReq(55, ME))) == [Send(N2, Ack(55))]


# -- suspicion and refutation


def test_paper_an_accusation_is_refuted_with_a_higher_incarnation():
    driver = Driver()
    me = driver.swim.me
    accusation = msgspec.structs.replace(me, status=Status.SUSPECT, by=N2)
    refuted, reply = driver.hear(N1, accusation)
    assert refuted == Refuted(msgspec.structs.replace(me, incarnation=(1, 1)), accusation)
    assert reply == Send(N1, Gossip((driver.swim.me,)))


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.DEAD])
def test_who_missed_the_refutation_is_told_again(status):
    driver = Driver()
    accusation = msgspec.structs.replace(driver.swim.me, status=status, by=N2)
    driver.hear(N2, accusation)
    told = Send(N1, Gossip((driver.swim.me,)))
    assert driver.hear(N1, accusation) == [told]
    assert driver.feed(Received(N1, Ping(1, (accusation,))))[-1] == told
    assert driver.swim.stats().refutations == 1


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_worse_is_refuted_too_and_the_past_is_not(status):
    driver = Driver()
    heard = msgspec.structs.replace(driver.swim.me, status=status, incarnation=(4, 2))
    assert driver.hear(N1, heard)[0].me.incarnation == (4, 3)
    driver.hear(N1, msgspec.structs.replace(heard, incarnation=(4, 1)))
    assert driver.swim.stats().refutations == 1


def test_a_refutation_rides_on_the_ack_of_the_ping_that_accused():
    driver = Driver()
    accusation = msgspec.structs.replace(driver.swim.me, status=Status.SUSPECT, by=N1)
    _, ack = driver.feed(Received(N1, Ping(1, (accusation,))))
    assert ack == Send(N1, Ack(1, (driver.swim.me,)))


def test_a_later_life_of_ours_is_outdone_at_a_walk():
    driver = Driver()
    for counter in range(5, 15):
        driver.hear(N1, msgspec.structs.replace(driver.swim.me, incarnation=(1, counter)))
    assert driver.swim.me.incarnation == (1, 6)
    assert driver.swim.stats().refutations == 1


def test_an_incarnation_that_cannot_be_outdone_is_counted():
    driver = Driver()
    highest = msgspec.structs.replace(driver.swim.me, status=Status.DEAD, incarnation=(GENERATION_MAX, COUNTER_MAX))
    assert driver.hear(N1, highest) == []
    assert driver.swim.stats().claims_ignored == 1


def test_a_suspect_that_refutes_is_alive_again(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n1", status=Status.SUSPECT))
    assert changes(driver.hear(N2, claim_about("n1", (1, 1)))) == [("n1", "alive")]
    assert driver.swim._suspicions == {}


def test_lifeguard_a_suspect_is_told_first_with_every_message(claim_about):
    driver = Driver(claim_about("n1"))
    accusation = claim_about("n1", status=Status.SUSPECT, by="n2")
    driver.hear(N3, accusation)
    (ack,) = driver.feed(Received(N1, Ping(1)))
    assert ack.message.claims[0] == accusation


def test_whoever_still_suspects_after_a_while_sees_for_itself_once_and_says_so(claim_about):
    driver = Driver(*(claim_about(f"n{index}") for index in range(1, 30)), probe_interval_s=1.0, ack_timeout_s=0.4)
    accusation = claim_about("n1", status=Status.SUSPECT, by="n2")
    driver.hear(N3, accusation)
    before = driver.now
    assert [it for it in sends(driver.tick(before + 1.9), Ping) if it.peer == N1] == []
    (ping,) = [it for it in sends(driver.tick(before + 3.1), Ping) if it.peer == N1]
    assert ping.message.claims[0] == accusation
    driver.feed(Received(N1, Ack(ping.message.seq)))
    assert driver.status(N1) == "suspect"  # that it answers refutes nothing
    driver.hear(N1, claim_about("n1", (1, 1)))
    assert driver.status(N1) == "alive"


def test_lifeguard_confirmations_hasten_the_end_and_are_passed_on(claim_about):
    driver = Driver(*(claim_about(f"n{index}") for index in range(1, 7)))
    driver.hear(N2, claim_about("n1", status=Status.SUSPECT, by="n2"))
    alone = driver.swim._suspicions[N1].deadline
    driver.hear(N3, claim_about("n1", status=Status.SUSPECT, by="n3"))
    assert driver.swim._suspicions[N1].deadline < alone
    assert {claim.by for claim in driver.swim._claims_for(N2) if claim.subject == N1} == {"n2", "n3"}


def test_a_message_from_the_dead_is_answered_with_what_is_held_against_it(claim_about):
    driver = Driver(claim_about("n1", status=Status.DEAD, by="n2"))
    (told,) = driver.feed(Received(N1, Ack(1)))
    assert told.peer == N1
    assert told.message.claims[0].status is Status.DEAD
    (ack,) = driver.feed(Received(N1, Ping(1)))
    assert ack.message.claims[0].status is Status.DEAD


def test_the_dead_who_refute_to_us_are_told_everything(claim_about):
    driver = Driver(claim_about("n1", status=Status.DEAD))
    effects = driver.hear(N1, claim_about("n1", (1, 1)))
    assert changes(effects) == [("n1", "alive")]
    assert [effect.peer for effect in sends(effects, PushPull)] == ["n1"]


# -- evidence


def test_a_closed_connection_has_its_peer_probed_at_once(claim_about):
    driver = Driver(claim_about("n1"))
    (ping,) = driver.feed(Evidence(N1, EvidenceKind.CLOSED))
    assert isinstance(ping.message, Ping)


def test_a_refused_connection_makes_a_suspect_with_one_interval_to_live(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    effects = driver.feed(Evidence(N1, EvidenceKind.REFUSED, "tcp://n1:1"))
    assert changes(effects) == [("n1", "suspect")]
    assert driver.swim.members()[N1].reason == "connection refused: tcp://n1:1"
    effects = driver.tick(driver.now + 0.26)
    assert ("n1", "dead") in changes(effects)


def test_a_refused_connection_hastens_a_suspicion_under_way(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n1", status=Status.SUSPECT, by="n2"))
    driver.feed(Evidence(N1, EvidenceKind.REFUSED))
    assert ("n1", "dead") in changes(driver.tick(driver.now + 0.26))


def test_an_unreachable_peer_is_asked_for_through_others_at_once(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    (ask,) = driver.feed(Evidence(N1, EvidenceKind.UNREACHABLE))
    assert (ask.peer, ask.message.target) == (N2, N1)


@pytest.mark.parametrize("kind", EvidenceKind)
@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_evidence_against_those_who_are_gone_means_nothing(claim_about, kind, status):
    driver = Driver(claim_about("n1", status=status))
    assert driver.feed(Evidence(N1, kind)) == []
    assert driver.feed(Evidence(NodeId("stranger"), kind)) == []


def test_a_pause_of_ours_is_held_against_nobody(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    driver.hear(N2, claim_about("n1", status=Status.SUSPECT, by="n2"))
    driver.feed(Evidence(N2, EvidenceKind.CLOSED))
    driver.now += 60.0
    assert changes(driver.feed(Tick())) == []
    assert driver.swim.stats().pauses == 1
    assert changes(driver.feed(Tick())) == []  # not counted twice
    assert driver.swim.stats().pauses == 1
    assert ("n1", "dead") in changes(driver.tick(driver.now + 1.5))


# -- telling others


def test_news_goes_out_at_once_and_then_no_more_than_needed(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    driver.tick(driver.now + 0.06)  # the last round is over
    driver.hear(N1, claim_about("n4"))
    assert driver.swim.next_deadline() == driver.now
    effects = driver.tick(driver.now + 3.0)
    told = [effect for effect in effects if isinstance(effect, Send) and claim_about("n4") in effect.message.claims]
    assert len(told) == 4  # retransmit_multiplier 4, log10 of so few is 1
    assert sends(driver.tick(driver.now + 0.01), Gossip) == []


def test_everything_is_exchanged_from_time_to_time_in_pieces(claim_about):
    driver = Driver(
        *(claim_about(f"n{index}") for index in range(20)),
        probe_interval_s=100.0,
        push_pull_interval_s=8.0,
        push_pull_claims_max=16,
    )
    pieces = sends(driver.tick(driver.now + 10.0), PushPull)
    assert [len(piece.message.claims) for piece in pieces[:2]] == [16, 5]
    assert [piece.message.reply for piece in pieces[:2]] == [True, False]


def test_an_exchange_is_answered_with_everything_but_not_over_and_over(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    ask = Received(N1, PushPull((), reply=True))
    (answer,) = sends(driver.feed(ask), PushPull)
    assert not answer.message.reply
    assert len(answer.message.claims) == 3
    assert driver.feed(ask) == []
    assert driver.feed(Received(NodeId("stranger"), PushPull((), reply=True))) == []


def test_dead_by_exchange_is_only_suspect_to_those_who_hold_it_alive(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"))
    exchange = PushPull((claim_about("n1", status=Status.DEAD, by="n9"), claim_about("n8", status=Status.DEAD)))
    assert changes(driver.feed(Received(N2, exchange))) == [("n1", "suspect"), ("n8", "dead")]
    assert changes(driver.hear(N2, claim_about("n1", status=Status.DEAD, by="n9"))) == [("n1", "dead")]


def test_the_dead_are_forgotten_in_time(claim_about):
    driver = Driver(claim_about("n1", status=Status.DEAD), forget_dead_s=50.0)
    assert changes(driver.tick(driver.now + 51.0)) == [("n1", None)]
    assert N1 not in driver.swim.members()


# -- leaving


def test_who_leaves_tells_all_and_watches_nobody(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"), claim_about("n4", status=Status.SUSPECT))
    effects = driver.feed(Leave("done"))
    assert {effect.peer for effect in effects} == {N1, N2, "n4"}
    assert all(effect.message.claims[0].status is Status.LEFT for effect in effects)
    assert driver.feed(Leave()) == []
    later = driver.tick(driver.now + 30.0)
    assert sends(later, Ping) == []
    assert changes(later) == []
    assert driver.swim.next_deadline() is None


def test_who_leaves_refutes_nothing_any_more(claim_about):
    driver = Driver(claim_about("n1"))
    driver.feed(Leave("done"))
    assert driver.hear(N1, Claim(ME, (1, 0), Status.DEAD)) == []
    assert driver.feed(Evidence(N1, EvidenceKind.REFUSED)) == []
    (ack,) = driver.feed(Received(N1, Ping(1)))
    assert ack.message.claims[0].status is Status.LEFT


# -- hostile peers


def test_absurd_claims_are_counted_and_dropped(claim_about):
    driver = Driver()
    assert driver.hear(N1, claim_about("x" * 300), claim_about("n2", (-1, 0))) == []
    assert driver.swim.stats().claims_ignored == 2


def test_no_more_claims_are_read_than_a_message_may_hold(claim_about):
    driver = Driver()
    driver.hear(N1, *(claim_about(f"x{index}") for index in range(1100)))
    assert driver.swim.stats().members == 1024
    assert driver.swim.stats().claims_ignored == 76


def test_a_full_table_refuses_strangers(claim_about):
    driver = Driver(members_max=3)
    driver.hear(N1, *(claim_about(f"x{index}") for index in range(10)))
    assert driver.swim.stats().members == 2
    assert driver.swim.stats().claims_ignored == 8


def test_nobody_speaks_in_our_name(claim_about):
    driver = Driver()
    assert driver.hear(ME, claim_about("n1")) == []
    assert driver.swim.stats().claims_ignored == 1


ids = st.sampled_from(["me", "n1", "n2", "n3", ""])
any_claim = st.builds(
    Claim,
    ids,
    st.tuples(st.integers(-1, 3) | st.just(2**63), st.integers(-1, 3) | st.just(2**53)),
    st.sampled_from(Status),
    endpoints=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    by=ids,
    age_s=st.floats(),
)
some_claims = st.lists(any_claim, max_size=4).map(tuple)
messages = st.one_of(
    st.builds(Ping, st.integers(0, 5), some_claims),
    st.builds(PingReq, st.integers(0, 5), ids, some_claims),
    st.builds(Ack, st.integers(0, 5), some_claims),
    st.builds(Gossip, some_claims),
    st.builds(PushPull, some_claims, st.booleans()),
)
inputs = st.one_of(
    st.builds(Received, ids, messages),
    st.builds(Met, any_claim),
    st.builds(Evidence, ids, st.sampled_from(EvidenceKind), st.text(max_size=3)),
    st.just(Tick()),
    st.just(Tick()),
    st.builds(Leave),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(inputs, st.floats(0.0, 1.0)), max_size=40))
def test_no_input_makes_it_raise_and_the_books_balance(steps):
    driver = Driver()
    for input, pause in steps:
        driver.now += pause
        before = driver.swim.me.incarnation
        effects = driver.feed(input)
        assert driver.swim.me.incarnation >= before
        assert all(effect.peer != ME for effect in effects if isinstance(effect, Send))
        assert all(effect.subject != ME for effect in effects if isinstance(effect, MemberChanged))
        membership = driver.swim._membership
        suspects = {claim.subject for claim in driver.swim.members().values() if claim.status is Status.SUSPECT}
        assert suspects == driver.swim._suspicions.keys()
        assert driver.swim._prober._watched.keys() == set(membership.live())
        assert sorted(driver.swim._prober._round) == sorted(membership.live())


def test_the_same_inputs_give_the_same_effects(claim_about):
    def run():
        driver = Driver(*(claim_about(f"n{index}") for index in range(5)))
        return driver.tick(driver.now + 10.0)

    assert run() == run()


def test_a_death_can_be_traced_to_its_accusers(claim_about):
    driver = Driver(claim_about("n1"), claim_about("n2"), claim_about("n3"))
    assert driver.swim.why(N1) == ()
    driver.hear(N2, claim_about("n1", status=Status.SUSPECT, by="n2", reason="no answer"))
    driver.hear(N2, claim_about("n1", status=Status.SUSPECT, by="n3", reason="no answer to me"))
    driver.hear(N1, claim_about("n1", (1, 1)))
    driver.hear(N3, claim_about("n1", (1, 1), Status.DEAD, by="n3", reason="not refuted"))
    assert [(it.status, it.by, it.from_whom, it.confirms) for it in driver.swim.why(N1)] == [
        (Status.SUSPECT, N2, N2, False),
        (Status.SUSPECT, N3, N2, True),
        (Status.ALIVE, N1, N1, False),
        (Status.DEAD, N3, N3, False),
    ]
    driver.tick(driver.now + 700.0)  # forgotten by now
    assert driver.swim.why(N1) == ()


def partial(claim_about, *neighbours, stranger_intervals=1e6):
    driver = Driver(*(claim_about(name) for name in ("n1", "n2", "n3")), stranger_intervals=stranger_intervals)
    driver.feed(Neighbours(frozenset(NodeId(name) for name in neighbours)))
    return driver


def verdicts(effects, about):
    changes = [it for it in effects if isinstance(it, MemberChanged) and it.subject == about]
    return [it.after.status for it in changes if it.after is not None]


def spoken_to(effects):
    return {effect.peer for effect in effects if isinstance(effect, Send)}


def test_under_a_partial_overlay_only_neighbours_are_spoken_to_unasked(claim_about):
    driver = partial(claim_about, "n2")
    driver.hear(N2, claim_about("n4"))  # news to spread
    assert spoken_to(driver.tick(driver.now + 60.0)) == {N2}
    driver = partial(claim_about, "n2")
    driver.feed(Neighbours(None))
    assert spoken_to(driver.tick(driver.now + 10.0)) == {N1, N2, N3}


def test_helpers_are_the_other_neighbours_of_the_target(claim_about):
    driver = partial(claim_about, "n2")
    pings: list[Ping] = []
    while not pings:
        effects = driver.tick(driver.now + 0.05)
        pings = [it.message for it in effects if isinstance(it, Send) and isinstance(it.message, Ping)]
    driver.feed(Received(N2, Ack(pings[0].seq, (), (N3, ME, NodeId("nobody")))))
    silence = driver.tick(driver.now + 1.0)
    asked = {it.peer for it in silence if isinstance(it, Send) and isinstance(it.message, PingReq)}
    assert asked == {N3}  # not ourselves, and nobody whom membership does not know


def test_an_ack_names_our_neighbours_if_they_are_few(claim_about):
    driver = partial(claim_about, "n2", "n1")
    (ack,) = [it.message for it in driver.feed(Received(N1, Ping(7))) if isinstance(it.message, Ack)]
    assert ack.neighbours == (N1, N2)
    driver.feed(Neighbours(None))
    (ack,) = [it.message for it in driver.feed(Received(N1, Ping(8))) if isinstance(it.message, Ack)]
    assert ack.neighbours == ()


def test_a_member_that_is_no_neighbour_dies_by_the_word_of_others(claim_about):
    driver = partial(claim_about, "n2")
    driver.hear(N2, claim_about("n1", status=Status.SUSPECT, by="n3", reason="no answer"))
    effects = driver.tick(driver.now + 30.0)
    assert verdicts(effects, N1) == [Status.DEAD]


def test_who_was_a_neighbour_until_its_link_was_lost_is_probed_and_dies(claim_about):
    driver = partial(claim_about, "n1", "n2")
    driver.feed(Neighbours(frozenset({N2})))
    (ping,) = driver.feed(Evidence(N1, EvidenceKind.CLOSED))
    assert isinstance(ping, Send)
    assert (ping.peer, type(ping.message)) == (N1, Ping)
    effects = driver.tick(driver.now + 30.0)
    assert verdicts(effects, N1) == [Status.SUSPECT, Status.DEAD]


def test_now_and_then_a_stranger_is_probed(claim_about):
    driver = partial(claim_about, "n2", stranger_intervals=10.0)
    probed = [it.peer for it in driver.tick(driver.now + 20.0) if isinstance(it, Send) and isinstance(it.message, Ping)]
    assert 4 <= sum(peer in (N1, N3) for peer in probed) <= 16

"""One core by hand: what it answers to each message, rule by rule."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdn.sim.overlay_network import claim_of, peer_of
from topologies.hyparview import HyParView, HyParViewSettings, Peer
from topologies.hyparview.messages import (
    Accept,
    Disconnect,
    Drained,
    ForwardJoin,
    Join,
    Neighbor,
    Priority,
    Reject,
    Shuffle,
    ShuffleReply,
)
from topologies.identity import NodeId
from topologies.overlay import Connect, LinkDown, LinkUp, OverlayInput, OverlayReceived, OverlaySend
from topologies.overlay import Disconnect as DropLink
from topologies.swim import MemberChanged, Status, Tick


class Driver:
    """One core and its clock; links open as soon as they are wanted. No trades unless a test asks for them."""

    def __init__(self, *neighbours: str, **changes):
        self.now = 100.0
        quiet = {"mix_interval_s": float("inf"), "mix_fan": 1e-9}
        self.core = HyParView(peer_of("me"), HyParViewSettings(**(quiet | changes)), random.Random(1))
        self.theirs = 1000
        for name in neighbours:
            self.join(name)

    def feed(self, input):
        effects = self.core.handle(input, self.now)
        for effect in list(effects):
            if isinstance(effect, Connect):
                effects += self.core.handle(LinkUp(effect.peer), self.now)
        return effects

    def hear(self, sender, message):
        return self.feed(OverlayReceived(NodeId(sender), message))

    def join(self, name):
        self.theirs += 1
        return self.hear(name, Join(self.theirs, peer_of(name)))

    def tick(self, seconds=0.0):
        self.now += seconds
        return self.feed(Tick())

    def member(self, name, status=Status.ALIVE, before=None, generation=1):
        former = None if before is None else claim_of(name, before, generation)
        return self.feed(MemberChanged(NodeId(name), former, claim_of(name, status, generation), self.now))

    @property
    def active(self):
        return sorted(self.core.active_view())

    @property
    def passive(self):
        return sorted(self.core.passive_view())


def said(effects, kind, peer=None):
    return [
        effect.message
        for effect in effects
        if isinstance(effect, OverlaySend) and isinstance(effect.message, kind) and peer in (None, effect.peer)
    ]


def told(effects, kind):
    return [effect.peer for effect in effects if isinstance(effect, OverlaySend) and isinstance(effect.message, kind)]


def dropped(effects):
    return [effect.peer for effect in effects if isinstance(effect, DropLink)]


FULL = ("a", "b", "c", "d", "e")


# -- joining (section 4.2)


def test_the_first_member_that_is_heard_of_is_joined_through():
    driver = Driver()
    effects = driver.member("n1")
    assert effects[0] == Connect(NodeId("n1"), claim_of("n1").endpoints)
    (join,) = said(effects, Join, "n1")
    assert join.peer == peer_of("me")
    assert driver.active == []
    driver.hear("n1", Accept(7, join.link))
    assert driver.active == ["n1"]


def test_a_contact_takes_a_new_node_in_and_sends_word_of_it_on_walks():
    driver = Driver("a", "b")
    effects = driver.join("new")
    assert driver.active == ["a", "b", "new"]
    assert said(effects, Accept, "new")[0].your_link == driver.theirs
    assert sorted(told(effects, ForwardJoin)) == ["a", "b"]
    assert {message.ttl for message in said(effects, ForwardJoin)} == {6}


def test_a_full_contact_takes_it_in_all_the_same_and_names_it_to_whom_it_demotes():
    driver = Driver(*FULL)
    effects = driver.join("new")
    assert "new" in driver.active
    assert len(driver.active) == 5
    (demoted,) = told(effects, Disconnect)
    assert said(effects, Disconnect)[0].instead == peer_of("new")
    assert demoted in driver.passive
    assert demoted not in told(effects, ForwardJoin)


def test_a_walk_goes_on_to_a_neighbour_that_is_neither_its_sender_nor_its_subject():
    driver = Driver("a", "b", "c")
    for _ in range(20):
        effects = driver.hear("a", ForwardJoin(1001, peer_of("b"), 5))
        assert told(effects, ForwardJoin) == ["c"]
        assert said(effects, ForwardJoin)[0].ttl == 4


def test_a_walk_leaves_its_subject_in_the_passive_view_at_prwl():
    driver = Driver("a", "b")
    driver.hear("a", ForwardJoin(1001, peer_of("x"), 4))
    assert driver.passive == []
    driver.hear("a", ForwardJoin(1001, peer_of("new"), 3))
    assert driver.passive == ["new"]


@pytest.mark.parametrize(("neighbours", "ttl"), [(("a", "b"), 0), (("a",), 5)])
def test_a_walk_ends_by_asking_its_subject(neighbours, ttl):
    driver = Driver(*neighbours)
    effects = driver.hear("a", ForwardJoin(1001, peer_of("new"), ttl))
    (ask,) = said(effects, Neighbor, "new")
    assert ask.priority is Priority.LOW
    driver.hear("new", Accept(7, ask.link))
    assert "new" in driver.active


def test_where_a_walk_ends_in_a_full_view_somebody_makes_room_only_once_the_subject_agreed():
    driver = Driver(*FULL)
    (ask,) = said(driver.hear("a", ForwardJoin(1001, peer_of("new"), 0)), Neighbor, "new")
    assert driver.active == sorted(FULL)
    effects = driver.hear("new", Accept(7, ask.link))
    assert len(driver.active) == 5
    assert "new" in driver.active
    assert said(effects, Disconnect)[0].instead == peer_of("new")


def test_a_walk_about_ourselves_or_with_an_endless_ttl_is_bounded():
    driver = Driver("a", "b")
    assert driver.hear("a", ForwardJoin(1001, peer_of("me"), 5)) == []
    assert said(driver.hear("a", ForwardJoin(1001, peer_of("x"), 2**40)), ForwardJoin)[0].ttl == 5


# -- neighbour requests (section 4.3)


@pytest.mark.parametrize("priority", [Priority.HIGH, Priority.TRADE])
def test_a_request_of_high_priority_is_accepted_whatever_it_costs(priority):
    driver = Driver(*FULL)
    effects = driver.hear("x", Neighbor(7, peer_of("x"), priority))
    assert said(effects, Accept, "x")[0].your_link == 7
    assert len(driver.active) == 5


def test_a_request_of_low_priority_is_accepted_where_there_is_room():
    driver = Driver(*FULL[:4])
    assert said(driver.hear("x", Neighbor(7, peer_of("x"), Priority.LOW)), Accept)
    assert said(driver.hear("y", Neighbor(8, peer_of("y"), Priority.LOW)), Reject, "y") == [Reject(8)]
    assert "y" not in driver.active


def test_a_lost_neighbour_is_replaced_from_the_passive_view():
    driver = Driver("a", "b", active_max=2)
    driver.member("x")
    assert driver.passive == ["x"]
    effects = driver.feed(LinkDown(NodeId("a"), "closed"))
    assert dropped(effects) == ["a"]
    assert "a" not in driver.passive
    (ask,) = said(effects, Neighbor, "x")
    assert ask.priority is Priority.LOW
    driver.hear("x", Accept(7, ask.link))
    assert driver.active == ["b", "x"]
    assert driver.passive == []


def test_who_has_no_neighbour_left_asks_with_high_priority_one_at_a_time():
    driver = Driver("a", active_max=1)
    for name in ("x", "y"):
        driver.member(name)
    effects = driver.feed(LinkDown(NodeId("a"), "closed"))
    assert [ask.priority for ask in said(effects, Neighbor)] == [Priority.HIGH]


def test_who_cannot_be_dialled_leaves_the_passive_view_and_the_next_is_tried():
    driver = Driver("a", active_max=1)
    for name in ("x", "y"):
        driver.member(name)
    effects = driver.core.handle(LinkDown(NodeId("a"), "closed"), driver.now)
    (first,) = [effect.peer for effect in effects if isinstance(effect, Connect)]
    effects = driver.core.handle(LinkDown(first, "refused"), driver.now)
    (second,) = [effect.peer for effect in effects if isinstance(effect, Connect)]
    assert {first, second} == {"x", "y"}
    assert first in dropped(effects)
    assert driver.passive == [second]


def test_who_refuses_stays_in_the_passive_view_and_is_asked_again_later():
    driver = Driver("a", "b", active_max=2)
    driver.member("x")
    (ask,) = said(driver.feed(LinkDown(NodeId("a"), "closed")), Neighbor)
    effects = driver.hear("x", Reject(ask.link))
    assert dropped(effects) == ["x"]
    assert driver.passive == ["x"]
    assert driver.core.stats().refused == 1
    assert told(driver.tick(1.0), Neighbor) == ["x"]


def test_refused_often_enough_a_node_with_neighbours_stops_asking():
    driver = Driver("a", "b", active_max=2, refusals_max=3)
    for index in range(20):
        driver.member(f"x{index}")
    asked = []
    effects = driver.feed(LinkDown(NodeId("a"), "closed"))
    while asks := [
        (effect.peer, effect.message)
        for effect in effects
        if isinstance(effect, OverlaySend) and isinstance(effect.message, Neighbor)
    ]:
        ((peer, ask),) = asks
        asked.append(peer)
        effects = driver.hear(peer, Reject(ask.link))
    assert len(asked) == 3
    assert (driver.core.next_deadline() or 0.0) <= driver.now + 1.0


def test_who_does_not_answer_is_given_up():
    driver = Driver("a", "b", active_max=2)
    driver.member("x")
    driver.feed(LinkDown(NodeId("a"), "closed"))
    effects = driver.tick(5.0)
    assert "x" in dropped(effects)
    assert driver.passive == []
    assert driver.core.stats().failed == 1


def test_two_that_ask_each_other_at_once_are_neighbours():
    driver = Driver()
    (join,) = said(driver.member("n1"), Join)
    effects = driver.hear("n1", Join(55, peer_of("n1")))
    (accept,) = said(effects, Accept)
    assert (accept.link, accept.your_link) == (join.link, 55)
    assert driver.hear("n1", Accept(55, join.link)) == []
    assert driver.active == ["n1"]


def test_an_answer_that_comes_too_late_ends_the_neighbourship_at_the_other_side():
    driver = Driver("a", "b", active_max=2)
    driver.member("x")
    (ask,) = said(driver.feed(LinkDown(NodeId("a"), "closed")), Neighbor)
    driver.tick(5.0)
    effects = driver.hear("x", Accept(7, ask.link))
    assert said(effects, Disconnect, "x") == [Disconnect(7)]
    assert "x" not in driver.active


def test_a_slot_that_was_filled_meanwhile_is_not_filled_twice():
    driver = Driver("a", "b", active_max=2)
    driver.member("x")
    (ask,) = said(driver.feed(LinkDown(NodeId("a"), "closed")), Neighbor)
    driver.join("y")
    effects = driver.hear("x", Accept(7, ask.link))
    assert driver.active == ["b", "y"]
    assert said(effects, Disconnect, "x") == [Disconnect(7)]
    assert "x" in driver.passive


# -- demotion in two phases


def test_a_demoted_neighbour_keeps_its_link_until_it_says_that_all_has_arrived():
    driver = Driver(*FULL)
    effects = driver.join("new")
    (demoted,) = told(effects, Disconnect)
    assert dropped(effects) == []
    assert demoted not in driver.core.neighbours()
    assert demoted not in dropped(driver.tick(1.9))
    assert demoted in dropped(driver.tick(0.1))  # it never did


def test_drained_closes_the_link_at_once():
    driver = Driver()
    (accept,) = said(driver.join("a"), Accept)
    for name in FULL[1:]:
        driver.join(name)
    while "a" in driver.active:
        driver.join(f"x{driver.theirs}")
    assert "a" not in dropped(driver.hear("a", Drained(accept.link + 99)))
    assert "a" in dropped(driver.hear("a", Drained(accept.link)))


def test_who_is_demoted_answers_keeps_its_link_for_a_while_and_asks_whoever_was_named():
    driver = Driver("a", "b")
    (accept,) = said(driver.join("c"), Accept)
    effects = driver.hear("c", Disconnect(accept.link, peer_of("new")))
    assert said(effects, Drained, "c") == [Drained(driver.theirs)]
    assert told(effects, Neighbor) == ["new"]
    assert dropped(effects) == []
    assert driver.active == ["a", "b"]
    assert "c" in driver.passive
    assert "c" in dropped(driver.tick(2.0))


def test_a_demoted_one_that_is_asked_again_keeps_its_link():
    driver = Driver("a", "b", active_max=2)
    driver.join("c")
    (demoted,) = {"a", "b"} - set(driver.active)
    effects = driver.hear(demoted, Neighbor(77, peer_of(demoted), Priority.HIGH))
    assert not [effect for effect in effects if isinstance(effect, Connect) and effect.peer == demoted]
    assert demoted not in dropped(driver.tick(2.0))
    assert demoted in driver.active


def test_while_many_links_drain_nobody_is_demoted_and_who_is_in_need_is_sent_on():
    driver = Driver(*FULL, draining_max=2)
    driver.join("x0")
    driver.join("x1")
    before = driver.active
    for message in (Join(7, peer_of("y")), Neighbor(7, peer_of("y"), Priority.HIGH)):
        effects = driver.hear("y", message)
        (reject,) = said(effects, Reject, "y")
        assert reject.your_link == 7
        assert reject.instead.node in before
        assert told(effects, ForwardJoin) == []
    assert driver.active == before


def test_who_is_sent_on_asks_there():
    driver = Driver()
    (join,) = said(driver.member("n1"), Join)
    effects = driver.hear("n1", Reject(join.link, peer_of("n2")))
    (again,) = said(effects, Join, "n2")
    effects = driver.hear("n2", Reject(again.link, peer_of("n1")))
    assert told(effects, Join) == []  # not in circles
    assert "n1" in told(driver.tick(1.0), Join)


def test_links_that_drain_are_bounded_even_if_peers_come_and_go():
    driver = Driver("a", draining_max=2, active_max=2)
    for index in range(20):
        (accept,) = said(driver.hear(f"x{index}", Neighbor(7, peer_of(f"x{index}"), Priority.LOW)), Accept)
        driver.hear(f"x{index}", Disconnect(accept.link))
    assert driver.core.stats().links <= 1 + 6


# -- stale messages


def test_a_disconnect_of_an_earlier_neighbourship_does_not_end_the_present_one():
    driver = Driver("a")
    (first,) = said(driver.join("b"), Accept)
    driver.hear("b", Disconnect(first.link))
    (second,) = said(driver.hear("b", Neighbor(9, peer_of("b"), Priority.HIGH)), Accept)
    assert second.link != first.link
    driver.hear("b", Disconnect(first.link))
    assert "b" in driver.active
    assert driver.core.stats().stale == 1
    driver.hear("b", Disconnect(second.link))
    assert "b" not in driver.active


def test_who_takes_us_for_its_neighbour_and_is_none_of_ours_is_told_so():
    driver = Driver("a", "b")
    effects = driver.hear("x", Shuffle(42, peer_of("x"), 6, 1, ()))
    assert said(effects, Disconnect, "x") == [Disconnect(42)]
    effects = driver.hear("x", ForwardJoin(43, peer_of("new"), 6))
    assert said(effects, Disconnect, "x") == [Disconnect(43)]
    assert len(told(effects, ForwardJoin)) == 1  # the walk goes on all the same


# -- shuffles (section 4.4)


def test_each_neighbour_is_shuffled_with_in_turn_with_ourselves_and_samples_of_both_views():
    driver = Driver(*FULL)
    for index in range(10):
        driver.member(f"x{index}")
    targets = []
    for _ in range(5):
        effects = driver.tick(12.5)
        targets += told(effects, Shuffle)
        (shuffle,) = said(effects, Shuffle)
        names = [peer.node for peer in shuffle.peers]
        assert names[0] == "me"
        assert len(names) == len(set(names)) == 8
        assert sum(name in FULL for name in names) == 3
        assert targets[-1] not in names
    assert sorted(targets) == sorted(FULL)


def test_a_shuffle_ends_with_an_exchange():
    driver = Driver(*FULL)
    for index in range(4):
        driver.member(f"x{index}")
    brought = tuple(peer_of(name) for name in ("o", "p", "q"))
    effects = driver.hear("a", Shuffle(1001, peer_of("o"), 1, 9, brought))
    (reply,) = said(effects, ShuffleReply, "o")
    assert reply.number == 9
    assert len(reply.peers) == 3
    assert {peer.node for peer in reply.peers} <= {"x0", "x1", "x2", "x3"}
    assert {"o", "p", "q"} <= set(driver.passive)


def test_a_shuffle_walks_on_while_it_may():
    driver = Driver("a", "b")
    effects = driver.hear("a", Shuffle(1001, peer_of("o"), 6, 9, ()))
    (onwards,) = said(effects, Shuffle, "b")
    assert onwards.ttl == 5
    assert onwards.link != 1001


def test_a_reply_replaces_what_was_sent_and_is_taken_once():
    driver = Driver("a", active_max=1, passive_max=4)
    for index in range(4):
        driver.member(f"x{index}")
    (shuffle,) = said(driver.tick(12.5), Shuffle)
    sent = {peer.node for peer in shuffle.peers} - {"me"}
    assert len(sent) == 4
    news = tuple(peer_of(name) for name in ("p", "q"))
    driver.hear("z", ShuffleReply(shuffle.number + 1, news))
    assert "p" not in driver.passive
    driver.hear("z", ShuffleReply(shuffle.number, news))
    assert {"p", "q"} < set(driver.passive)
    driver.hear("z", ShuffleReply(shuffle.number, (peer_of("r"),)))
    assert "r" not in driver.passive
    assert driver.core.stats().stale == 2


def test_neither_ourselves_nor_neighbours_nor_absurd_peers_enter_the_passive_view():
    driver = Driver("a", "b")
    wrong = (peer_of("me"), peer_of("b"), Peer(NodeId("")), Peer(NodeId("x"), (-1, 0)))
    driver.hear("a", Shuffle(1001, peer_of("o"), 1, 9, wrong))
    assert driver.passive == ["o"]
    assert driver.core.stats().ignored == 2


def test_a_request_in_the_name_of_another_is_ignored():
    driver = Driver()
    assert driver.hear("liar", Join(7, peer_of("x"))) == []
    assert driver.hear("liar", Neighbor(7, peer_of("x"), Priority.HIGH)) == []
    assert driver.core.stats().ignored == 2


# -- trades


def test_a_trade_introduces_to_one_another_those_that_lost_by_it():
    driver = Driver(*FULL, mix_interval_s=10.0)
    driver.member("far")
    effects = driver.tick(20.0)
    (ask,) = said(effects, Neighbor, "far")
    assert ask.priority is Priority.TRADE
    effects = driver.hear("far", Accept(7, ask.link, evicted=peer_of("lost")))
    assert "far" in driver.active
    assert said(effects, Disconnect)[0].instead == peer_of("lost")


def test_who_makes_room_for_a_trade_tells_the_other_side_and_not_the_demoted():
    driver = Driver(*FULL)
    effects = driver.hear("x", Neighbor(7, peer_of("x"), Priority.TRADE))
    (demoted,) = told(effects, Disconnect)
    assert said(effects, Disconnect)[0].instead is None
    assert said(effects, Accept, "x")[0].evicted.node == demoted


def test_members_that_come_back_are_traded_with_by_a_few():
    asked = 0
    for seed in range(300):
        driver = Driver(*FULL, mix_fan=2.0)
        driver.core._rng.seed(seed)
        for index in range(20):
            driver.member(f"m{index}", Status.ALIVE, Status.SUSPECT)  # known already: no news
        driver.core._roster.live_count = 20
        asked += len(told(driver.member("back", before=Status.DEAD), Neighbor))
    assert 15 <= asked <= 45  # 2 / 21 of 300


# -- any input


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_inputs_leave_bounds_and_views_in_order(data):
    driver = Driver(draining_max=3, gone_max=5, contacts_max=3, passive_max=6, active_max=3)
    names = st.sampled_from([f"n{index}" for index in range(12)] + ["me"])
    peers = st.builds(peer_of, names, st.integers(1, 2))
    links = st.one_of(st.integers(0, 3), st.integers(driver.core._last_link, driver.core._last_link + 20))
    some = st.lists(peers, max_size=4).map(tuple)
    messages = st.one_of(
        st.builds(Join, links, peers),
        st.builds(ForwardJoin, links, peers, st.integers(-1, 9)),
        st.builds(Neighbor, links, peers, st.sampled_from(Priority)),
        st.builds(Accept, links, links, st.none() | peers),
        st.builds(Reject, links, st.none() | peers),
        st.builds(Disconnect, links, st.none() | peers),
        st.builds(Drained, links),
        st.builds(Shuffle, links, peers, st.integers(-1, 9), st.integers(0, 3), some),
        st.builds(ShuffleReply, st.integers(0, 3), some),
    )
    held = set()
    for _ in range(data.draw(st.integers(1, 40))):
        sender = NodeId(data.draw(names))
        input: OverlayInput
        kind = data.draw(st.sampled_from(["message", "join", "member", "up", "down", "tick"]))
        if kind == "message":
            input = OverlayReceived(sender, data.draw(messages))
        elif kind == "join":
            input = OverlayReceived(sender, Join(1, peer_of(sender)))
        elif kind == "member":
            statuses = st.none() | st.sampled_from(Status)
            before, after = data.draw(statuses), data.draw(statuses)
            former, latter = (None if it is None else claim_of(sender, it) for it in (before, after))
            input = MemberChanged(sender, former, latter, driver.now)
        elif kind == "tick":
            driver.now += data.draw(st.sampled_from([0.5, 3.0, 20.0]))
            input = Tick()
        else:
            input = LinkUp(sender) if kind == "up" else LinkDown(sender, "test")
        for effect in driver.core.handle(input, driver.now):
            assert effect.peer != "me" or isinstance(effect, OverlaySend)
            if isinstance(effect, Connect):
                assert effect.peer not in held
                held.add(effect.peer)
            elif isinstance(effect, DropLink):
                held.remove(effect.peer)
        active, passive = driver.core.active_view(), driver.core.passive_view()
        assert len(active) <= 3
        assert len(passive) <= 6
        assert not set(active).intersection(passive)
        assert "me" not in {*active, *passive}
        assert held >= driver.core.neighbours()
        core = driver.core
        assert held == {*core._active, *core._requests, *core._draining}
        assert len(core._draining) <= 3 + 6

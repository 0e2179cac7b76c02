"""One core by hand: what it answers to each message, rule by rule."""

import pytest

from topologies.identity import NodeId
from topologies.plumtree import (
    Broadcast,
    Delivered,
    Learned,
    MessageId,
    Missed,
    NeighborDown,
    NeighborUp,
    Plumtree,
    PlumtreeReceived,
    PlumtreeSend,
    PlumtreeSettings,
)
from topologies.plumtree.messages import SHARED, Announcement, Gossip, Graft, IHave, Prune
from topologies.swim import Tick

ROOT = NodeId("root")


class Driver:
    """One core and its clock, with three neighbours."""

    def __init__(self, **changes):
        self.now = 100.0
        at_once = {"ihave_interval_s": 0.0}
        self.core = Plumtree(NodeId("me"), 1, PlumtreeSettings(**(at_once | changes)))
        for peer in ("a", "b", "c"):
            self.feed(NeighborUp(NodeId(peer)))

    def feed(self, input):
        return self.core.handle(input, self.now)

    def hear(self, sender, message):
        return self.feed(PlumtreeReceived(NodeId(sender), message))

    def tick(self, seconds=0.0):
        self.now += seconds
        return self.feed(Tick())


def message(number, round=1, tree=SHARED, payload=b"x"):
    return Gossip(MessageId(ROOT, 1, number), round, payload, tree)


def announced(number, round=1, tree=SHARED):
    return IHave((Announcement(MessageId(ROOT, 1, number), round, tree),))


def sent(effects, kind):
    return [
        (effect.peer, effect.message)
        for effect in effects
        if isinstance(effect, PlumtreeSend) and isinstance(effect.message, kind)
    ]


def to(effects, kind):
    return [peer for peer, _ in sent(effects, kind)]


def delivered(effects):
    return [effect for effect in effects if isinstance(effect, Delivered)]


# -- pushing (section 3.3)


def test_a_broadcast_is_delivered_here_and_pushed_to_all_neighbours():
    driver = Driver()
    effects = driver.feed(Broadcast(b"hello"))
    id = MessageId(NodeId("me"), 1, 1)
    assert effects[0] == Delivered(id, b"hello", 0)
    assert sent(effects, Gossip) == [(peer, Gossip(id, 1, b"hello", SHARED)) for peer in ("a", "b", "c")]


def test_what_is_new_is_delivered_once_and_pushed_on_to_the_others_one_hop_further():
    driver = Driver()
    effects = driver.hear("a", message(1, round=4))
    assert delivered(effects) == [Delivered(MessageId(ROOT, 1, 1), b"x", 4)]
    assert to(effects, Gossip) == ["b", "c"]
    assert sent(effects, Gossip)[0][1].round == 5
    assert delivered(driver.hear("b", message(1, round=4))) == []


def test_what_came_twice_prunes_the_later_sender_which_is_only_announced_to_then():
    driver = Driver()
    driver.hear("a", message(1))
    effects = driver.hear("b", message(1))
    assert sent(effects, Prune) == [("b", Prune(SHARED))]
    effects = driver.hear("a", message(2, round=3))
    assert to(effects, Gossip) == ["c"]
    assert sent(effects, IHave) == [("b", announced(2, round=4))]


def test_who_prunes_us_is_only_announced_to():
    driver = Driver()
    driver.hear("b", Prune(SHARED))
    assert driver.core.lazy_push_peers() == ["b"]
    effects = driver.feed(Broadcast(b""))
    assert to(effects, Gossip) == ["a", "c"]
    assert to(effects, IHave) == ["b"]


def test_who_pushes_something_new_is_eager():
    driver = Driver()
    driver.hear("b", Prune(SHARED))
    driver.hear("b", message(1))
    assert driver.core.lazy_push_peers() == []


def test_our_own_message_that_comes_back_prunes_and_is_not_delivered():
    driver = Driver()
    driver.feed(Broadcast(b""))
    effects = driver.hear("a", Gossip(MessageId(NodeId("me"), 1, 1), 3, b""))
    assert effects == [PlumtreeSend(NodeId("a"), Prune(SHARED))]
    forged = driver.hear("a", Gossip(MessageId(NodeId("me"), 1, 99), 3, b""))
    assert delivered(forged) == []


def test_a_new_neighbour_is_eager_and_one_that_is_gone_is_not_sent_to():
    driver = Driver()
    driver.feed(NeighborUp(NodeId("d")))
    driver.feed(NeighborDown(NodeId("a")))
    assert to(driver.feed(Broadcast(b"")), Gossip) == ["b", "c", "d"]


# -- announcing


def test_announcements_are_collected_for_a_moment():
    driver = Driver(ihave_interval_s=0.1)
    driver.hear("b", Prune(SHARED))
    assert to(driver.feed(Broadcast(b"")), IHave) == []
    assert driver.core.next_deadline() == pytest.approx(driver.now + 0.1)
    assert to(driver.feed(Broadcast(b"")), IHave) == []
    ((peer, ihave),) = sent(driver.tick(0.1), IHave)
    assert peer == "b"
    assert [announcement.id.number for announcement in ihave.announcements] == [1, 2]
    assert driver.core.next_deadline() is None


def test_a_full_batch_does_not_wait():
    driver = Driver(ihave_interval_s=10.0, ihave_batch_max=2)
    driver.hear("b", Prune(SHARED))
    assert to(driver.feed(Broadcast(b"")), IHave) == []
    assert to(driver.feed(Broadcast(b"")), IHave) == ["b"]


def test_nothing_is_announced_to_one_that_is_gone():
    driver = Driver(ihave_interval_s=0.1)
    driver.hear("b", Prune(SHARED))
    driver.feed(Broadcast(b""))
    driver.feed(NeighborDown(NodeId("b")))
    assert driver.tick(0.1) == []


# -- repair (section 3.5)


def test_what_is_announced_and_does_not_come_is_asked_for_and_its_announcer_grafted():
    driver = Driver(graft_timeout_s=0.5)
    driver.hear("a", Prune(SHARED))
    assert driver.hear("a", announced(1)) == []
    assert driver.tick(0.4) == []
    effects = driver.tick(0.1)
    assert sent(effects, Graft) == [("a", Graft(SHARED, MessageId(ROOT, 1, 1)))]
    assert driver.core.lazy_push_peers() == []


def test_the_next_announcer_is_asked_when_the_first_does_not_answer_and_then_it_is_missed():
    driver = Driver(graft_timeout_s=0.5, graft_retry_s=0.1)
    driver.hear("a", announced(1))
    driver.hear("b", announced(1))
    assert to(driver.tick(0.5), Graft) == ["a"]
    assert to(driver.tick(0.1), Graft) == ["b"]
    assert driver.tick(0.1) == [Missed(MessageId(ROOT, 1, 1), (NodeId("a"), NodeId("b")))]
    assert driver.core.next_deadline() is None
    assert delivered(driver.hear("c", message(1)))  # if it does come, it counts


def test_what_came_in_time_is_not_asked_for():
    driver = Driver()
    driver.hear("a", announced(1))
    driver.hear("b", message(1))
    assert driver.core.next_deadline() is None
    assert driver.tick(10.0) == []


def test_a_graft_is_answered_with_the_message_and_makes_its_sender_eager():
    driver = Driver()
    driver.hear("b", Prune(SHARED))
    driver.hear("a", message(1, round=3))
    effects = driver.hear("b", Graft(SHARED, MessageId(ROOT, 1, 1)))
    assert effects == [PlumtreeSend(NodeId("b"), message(1, round=4))]
    assert driver.core.lazy_push_peers() == []


def test_a_graft_for_what_is_no_longer_kept_makes_its_sender_eager_and_sends_nothing():
    driver = Driver(store_max=1)
    driver.hear("a", message(1))
    driver.hear("a", message(2))
    assert driver.hear("b", Graft(SHARED, MessageId(ROOT, 1, 1))) == []


def test_what_was_learned_otherwise_is_neither_asked_for_nor_delivered():
    driver = Driver()
    driver.hear("a", announced(1))
    driver.feed(Learned(MessageId(ROOT, 1, 1)))
    assert driver.core.next_deadline() is None
    assert delivered(driver.hear("b", message(1))) == []


def test_announcements_of_one_that_is_gone_are_forgotten():
    driver = Driver()
    driver.hear("a", announced(1))
    driver.feed(NeighborDown(NodeId("a")))
    assert driver.tick(0.5) == [Missed(MessageId(ROOT, 1, 1), ())]


# -- shorter ways (section 3.8)


def test_a_shorter_way_takes_the_place_of_a_longer():
    driver = Driver(shared_threshold=3)
    driver.hear("b", Prune(SHARED))
    driver.hear("b", announced(1, round=2))
    effects = driver.hear("a", message(1, round=5))
    assert sent(effects, Graft) == [("b", Graft(SHARED))]
    assert sent(effects, Prune) == [("a", Prune(SHARED))]
    assert driver.core.lazy_push_peers() == ["a"]


def test_a_way_that_is_a_little_shorter_is_not_worth_it():
    driver = Driver(shared_threshold=3)
    driver.hear("b", announced(1, round=3))
    assert sent(driver.hear("a", message(1, round=5)), Graft) == []


def test_an_announcement_that_comes_after_the_message_may_still_show_a_shorter_way_once():
    driver = Driver(shared_threshold=3)
    driver.hear("a", message(1, round=9))
    assert to(driver.hear("b", announced(1, round=2)), Graft) == ["b"]
    assert driver.hear("c", announced(1, round=2)) == []


def test_a_tree_of_one_root_is_optimised_sooner_than_the_shared_one():
    for tree, optimised in ((SHARED, []), (ROOT, ["b"])):
        driver = Driver()
        driver.hear("a", message(1, round=5, tree=tree))
        assert to(driver.hear("b", announced(1, round=2, tree=tree)), Graft) == optimised


# -- trees of single roots


def test_a_root_that_sends_often_has_a_tree_of_its_own():
    driver = Driver(own_tree_after=2)
    trees = [sent(driver.feed(Broadcast(b"")), Gossip)[0][1].tree for _ in range(4)]
    assert trees == [SHARED, SHARED, "me", "me"]


def test_a_prune_concerns_one_tree():
    driver = Driver()
    driver.hear("a", message(1, tree=ROOT))
    driver.hear("b", message(1, tree=ROOT))
    assert driver.core.lazy_push_peers(ROOT) == ["b"]
    assert driver.core.lazy_push_peers() == []


# -- bounds and absurd messages


def test_a_payload_that_is_too_large_is_refused_here_and_ignored_from_others():
    driver = Driver(payload_bytes_max=10)
    with pytest.raises(ValueError, match="payload of 11 bytes exceeds payload_bytes_max=10"):
        driver.feed(Broadcast(bytes(11)))
    assert driver.hear("a", message(1, payload=bytes(11))) == []
    assert driver.core.stats().ignored == 1


@pytest.mark.parametrize(
    "wrong",
    [
        Gossip(MessageId(NodeId(""), 1, 1), 1, b""),
        message(1, round=-1),
        message(1, tree=NodeId("elsewhere")),
        announced(0),
        announced(1, round=2**20),
        Graft(NodeId("x" * 300)),
        Prune(NodeId("x" * 300)),
    ],
)
def test_what_is_absurd_is_counted_and_changes_nothing(wrong):
    driver = Driver()
    assert driver.hear("a", wrong) == []
    assert driver.core.stats().ignored == 1
    assert driver.core.next_deadline() is None


def test_more_announcements_than_there_is_room_for_are_counted():
    driver = Driver(missing_max=2)
    for number in range(1, 5):
        driver.hear("a", announced(number))
    assert driver.core.stats().missing == 2
    assert driver.core.stats().ignored == 2


def test_stats_count_what_happened():
    driver = Driver()
    driver.hear("a", message(1))
    driver.hear("b", message(1))
    driver.hear("c", announced(2))
    driver.tick(0.5)
    driver.tick(0.1)
    stats = driver.core.stats()
    assert (stats.delivered, stats.duplicates, stats.prunes, stats.grafts, stats.missed) == (1, 1, 1, 1, 1)
    assert (stats.neighbours, stats.eager_push_peers, stats.stored) == (3, 2, 1)

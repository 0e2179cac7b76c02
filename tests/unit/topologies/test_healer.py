import itertools
import random

import pytest

from topologies.healer import Dial, Healer, HealerSettings, SeedAnswered, SeedsAdded
from topologies.identity import NodeId
from topologies.swim import MemberChanged, Status, Tick

ME = NodeId("me")
SEED = "tcp://seed:7400"


def make(*seeds, **settings):
    return Healer(ME, seeds, "coordination", HealerSettings(**settings), random.Random(1))


def changed(after, before=None):
    return MemberChanged((after or before).subject, before, after, 0.0)


def rounds(healer, count, now=0.0):
    """The dials of the next rounds, and when they came."""
    result = []
    for _ in range(count):
        due = healer.next_deadline()
        assert due is not None
        now = max(now, due)
        result.append((now, healer.handle(Tick(), now)))
    return result


def test_seeds_are_dialled_at_once_and_quickly_while_alone():
    found = rounds(make(SEED), 4)
    assert [dials for _, dials in found] == [[Dial(SEED, None, "it is a seed")]] * 4
    assert found[0][0] == 0.0
    gaps = [later[0] - sooner[0] for sooner, later in itertools.pairwise(found)]
    assert all(0.125 <= gap <= 0.375 for gap in gaps)


def test_a_seed_is_left_alone_while_a_live_member_listens_there(claim_about):
    healer = make("tcp://n1:1")
    healer.handle(changed(claim_about("n1")), 0.0)
    assert healer.next_deadline() is None
    assert healer.handle(Tick(), 10.0) == []


def test_a_seed_known_by_another_name_is_left_alone_once_it_said_who_it_is(claim_about):
    healer = make(SEED)
    healer.handle(SeedAnswered(SEED, NodeId("n1")), 0.0)
    assert healer.next_deadline() is not None  # it answered, but is not known as alive
    healer.handle(changed(claim_about("n1")), 0.0)
    assert healer.next_deadline() is None
    healer.handle(changed(claim_about("n1", status=Status.DEAD)), 0.0)
    assert SEED in [dial.endpoint for dial in rounds(healer, 1)[0][1]]


def test_a_seed_that_is_ourselves_is_never_dialled_again():
    healer = make(SEED)
    healer.handle(SeedAnswered(SEED, ME), 0.0)
    assert healer.next_deadline() is None


def test_seeds_may_be_added_and_are_dialled_at_once(claim_about):
    healer = make()
    healer.handle(changed(claim_about("n1")), 0.0)
    healer.handle(SeedsAdded((SEED,)), 5.0)
    assert rounds(healer, 1, 5.0) == [(5.0, [Dial(SEED, None, "it is a seed")])]
    healer.handle(SeedAnswered(SEED, NodeId("n1")), 5.0)
    healer.handle(SeedsAdded((SEED,)), 6.0)  # again: still known to be n1
    assert healer.next_deadline() is None


def test_an_answer_from_what_is_no_seed_means_nothing():
    healer = make()
    healer.handle(SeedAnswered("tcp://stranger:1", NodeId("n1")), 0.0)
    assert healer.next_deadline() is None


def test_the_dead_are_dialled_every_one_to_two_seconds(claim_about):
    healer = make()
    healer.handle(changed(claim_about("n1", status=Status.DEAD)), 100.0)
    found = rounds(healer, 5, 100.0)
    assert {dial for _, dials in found for dial in dials} == {Dial("tcp://n1:1", NodeId("n1"), "it was a member")}
    times = [100.0, *(at for at, _ in found)]
    assert all(1.0 <= later - sooner <= 2.0 for sooner, later in itertools.pairwise(times))


@pytest.mark.parametrize("status", [Status.LEFT, Status.ALIVE, Status.SUSPECT])
def test_nobody_else_is_dialled(claim_about, status):
    healer = make()
    healer.handle(changed(claim_about("n1", status=status)), 0.0)
    assert healer.next_deadline() is None


def test_the_forgotten_are_not_dialled(claim_about):
    healer = make()
    dead = claim_about("n1", status=Status.DEAD)
    healer.handle(changed(dead), 0.0)
    healer.handle(changed(None, before=dead), 1.0)
    assert healer.next_deadline() is None


def test_nobody_is_looked_for_where_a_living_one_listens_now(claim_about):
    healer = make()
    healer.handle(changed(claim_about("n1", status=Status.DEAD)), 0.0)
    successor = MemberChanged(NodeId("n1b"), None, claim_about("n1"), 0.0)  # another id at the same address
    healer.handle(successor, 0.0)
    assert healer.next_deadline() is None


def test_a_few_a_round_and_everybody_in_turn(claim_about):
    healer = make()
    for index in range(8):
        healer.handle(changed(claim_about(f"n{index}", status=Status.DEAD)), 0.0)
    found = rounds(healer, 8)
    assert [len(dials) for _, dials in found] == [3] * 8
    dialled = [dial.endpoint for _, dials in found for dial in dials]
    assert all(dialled.count(f"tcp://n{index}:1") == 3 for index in range(8))


def test_a_dead_seed_is_dialled_as_a_seed(claim_about):
    healer = make("tcp://n1:1")
    healer.handle(changed(claim_about("n1", status=Status.DEAD)), 0.0)
    assert rounds(healer, 1)[0][1] == [Dial("tcp://n1:1", None, "it is a seed")]


def test_a_tick_too_early_does_nothing():
    healer = make(SEED)
    rounds(healer, 1)
    assert healer.handle(Tick(), 0.01) == []


@pytest.mark.parametrize("wrong", [{"fan_max": 0}, {"interval_min_s": 3.0}, {"join_interval_s": float("nan")}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HealerSettings(**wrong)

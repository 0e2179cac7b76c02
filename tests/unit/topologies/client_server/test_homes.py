import collections
import random

import pytest

from topologies.client_server.homes import Homes, preference
from topologies.client_server.settings import ClientServerSettings
from topologies.identity import NodeId

SERVERS = [NodeId(f"s{number}") for number in range(8)]
ME = NodeId("c")
BEST = sorted(SERVERS, key=lambda server: preference(ME, server), reverse=True)


@pytest.fixture
def homes():
    homes = Homes(ME, ClientServerSettings(), random.Random(1))
    for server in SERVERS:
        homes.add(server, 0.0)
    return homes


def settle(homes, now=0.0):
    for server in homes.to_ask(now):
        assert homes.let_in(server, homes.place(server), now) == []


def test_every_server_is_the_best_for_about_as_many():
    clients = [NodeId(f"c{number}") for number in range(4000)]
    counts = collections.Counter(max(SERVERS, key=lambda server: preference(it, server)) for it in clients)
    assert min(counts.values()) > 0.8 * 500
    assert max(counts.values()) < 1.2 * 500


def test_the_two_best_are_asked_and_after_a_failure_the_next(homes):
    assert homes.to_ask(0.0) == BEST[:2]
    assert homes.to_ask(0.0) == []
    assert homes.failed(BEST[0], 0.0)
    assert homes.to_ask(0.0) == [BEST[2]]
    assert not homes.failed(BEST[5], 0.0)


def test_pauses_grow_and_a_success_makes_them_short_again(homes):
    pauses = []
    homes.to_ask(0.0)
    for server in SERVERS:
        if server != BEST[0]:
            homes.remove(server)
    now = 0.0
    for _ in range(4):
        homes.failed(BEST[0], now)
        failed_at = now
        while homes.to_ask(now) == []:
            now = homes.next_deadline(now)
        pauses.append(now - failed_at)
    for pause, most in zip(pauses, (1.0, 2.0, 4.0, 8.0), strict=True):
        assert most / 2 <= pause <= most
    homes.let_in(BEST[0], homes.place(BEST[0]), now)
    homes.failed(BEST[0], now)
    assert homes.next_deadline(now) - now <= 1.0


def test_a_better_server_is_moved_to_later_and_the_worst_home_is_one_too_many(homes):
    homes.remove(BEST[0])
    settle(homes)
    homes.to_ask(10.0)
    homes.add(BEST[0], 10.0)
    assert homes.to_ask(10.0) == []
    assert homes.next_deadline(10.0) <= 20.0
    assert homes.to_ask(20.0) == [BEST[0]]
    assert homes.let_in(BEST[0], homes.place(BEST[0]), 20.0) == [BEST[2]]
    assert homes.current == [BEST[1], BEST[2], BEST[0]]  # the caller says goodbye first
    homes.leave(BEST[2])
    assert homes.current == [BEST[1], BEST[0]]


def test_who_failed_is_gone_back_to(homes):
    settle(homes)
    homes.failed(BEST[0], 1.0)
    settle(homes, 1.0)
    assert homes.to_ask(30.0) == [BEST[0]]


def test_answers_to_other_questions_mean_nothing(homes):
    homes.to_ask(0.0)
    assert homes.let_in(BEST[0], homes.place(BEST[0]) - 1, 0.0) is None
    assert homes.let_in(BEST[5], 1, 0.0) is None
    assert homes.current == []
    assert homes.late(4.9) == []
    assert homes.late(5.0) == BEST[:2]

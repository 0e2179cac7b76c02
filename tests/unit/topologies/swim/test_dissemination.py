import pytest

from topologies.swim import Status
from topologies.swim.dissemination import Dissemination, transmissions_max


@pytest.mark.parametrize(("members", "times"), [(1, 4), (3, 4), (9, 4), (10, 8), (99, 8), (100, 12)])
def test_paper_each_claim_is_sent_a_multiple_of_log_n_times(members, times):
    assert transmissions_max(4, members) == times


def test_each_claim_goes_out_so_often_and_no_more(claim_about):
    news = Dissemination(10)
    news.put(claim_about("n1"))
    assert [len(news.pick(8, 3)) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert not news


def test_paper_least_sent_first_then_latest(claim_about):
    news = Dissemination(10)
    news.put(claim_about("old"))
    news.pick(8, 9)
    news.put(claim_about("new"))
    news.put(claim_about("newer"))
    assert [claim.subject for claim in news.pick(2, 9)] == ["newer", "new"]
    assert news.pick(0, 9) == []


def test_a_claim_takes_the_place_of_what_was_said_of_its_subject(claim_about):
    news = Dissemination(10)
    news.put(claim_about("n1", status=Status.SUSPECT, by="a"))
    news.put_confirmation(claim_about("n1", status=Status.SUSPECT, by="b"))
    assert len(news) == 2
    news.put(claim_about("n1", (1, 1)))
    assert news.pick(8, 9) == [claim_about("n1", (1, 1))]


def test_confirmations_travel_beside_the_first_accusation(claim_about):
    news = Dissemination(10)
    news.put(claim_about("n1", status=Status.SUSPECT, by="a"))
    for _ in range(2):
        news.put_confirmation(claim_about("n1", status=Status.SUSPECT, by="b"))
    assert {claim.by for claim in news.pick(8, 9)} == {"a", "b"}


def test_when_full_what_was_told_most_goes(claim_about):
    news = Dissemination(2)
    news.put(claim_about("n1"))
    news.pick(8, 9)
    news.put(claim_about("n2"))
    news.put(claim_about("n3"))
    assert {claim.subject for claim in news.pick(8, 9)} == {"n2", "n3"}


def test_the_forgotten_are_not_spoken_of(claim_about):
    news = Dissemination(2)
    news.put(claim_about("n1"))
    news.forget(claim_about("n1").subject)
    assert not news

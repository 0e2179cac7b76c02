from typing import Any

import pytest

from fdn.client.codec import Kind, Received
from fdn.client.serving import WAITING_MAX, Job, Service
from fdn.errors import ConfigError, Error


def received(number: int = 1, deadline_ms: int = 0, **meta: Any) -> Received:
    keys = {"origin": 7, "headers": 11, "window": 18, "streams": 19}
    return Received(Kind.CALL, "x", number, deadline_ms, {keys[name]: value for name, value in meta.items()}, "body", 0)


def job(service: Service, number: int = 1, **settings: Any) -> Job:
    return Job(service, received(number, **settings), epoch=3, now=100.0)


def test_a_job_is_what_the_call_says():
    service = Service("x", 1)
    some = job(service, 5, deadline_ms=2500, origin="n1-1", headers={"a": "b"}, window=[1, 100], streams=True)
    assert (some.number, some.payload, some.caller, some.headers) == (5, "body", "n1-1", {"a": "b"})
    assert some.deadline_at == 102.5
    assert some.request is not None
    some.reply.sent(5)
    assert not some.reply.may_send
    plain = job(service, headers="nonsense", window="nonsense", streams=1)
    assert (plain.headers, plain.deadline_at, plain.request) == ({}, 0.0, None)
    assert plain.reply.may_send


def test_at_most_concurrency_at_once():
    service = Service("x", 1, concurrency=2)
    jobs = [job(service, number) for number in range(4)]
    assert all(service.admit(each) for each in jobs)
    assert [service.next_job(0) for _ in range(3)] == [jobs[0], jobs[1], None]
    service.on_done()
    assert service.next_job(0) is jobs[2]


def test_what_nobody_waits_for_is_not_begun():
    service = Service("x", 1)
    late, cancelled, good = job(service, 1, deadline_ms=1000), job(service, 2), job(service, 3)
    for each in (late, cancelled, good):
        service.admit(each)
    cancelled.end()
    assert service.next_job(200.0) is good
    assert late.over


def test_the_queue_is_bounded():
    service = Service("x", 1)
    assert all(service.admit(job(service, number)) for number in range(WAITING_MAX))
    assert not service.admit(job(service))
    service.on_lost()
    assert service.next_job(0) is None


def test_streams_only_to_those_who_take_them():
    assert Service("x", 1).misfit(job(Service("x", 1), streams=True)) is not None
    assert Service("x", 1, takes_items=True).misfit(job(Service("x", 1))) is not None
    assert Service("x", 1).misfit(job(Service("x", 1))) is None


@pytest.mark.parametrize("name", ["", "fdn.x", "a@b", "x" * 300])
def test_names_that_cannot_be_served(name: str):
    with pytest.raises(ConfigError):
        Service(name, 1)


def test_concurrency_is_at_least_one():
    with pytest.raises(ConfigError):
        Service("x", 1, concurrency=0)


def test_the_end_keeps_its_first_reason():
    service, woken = Service("x", 1), []
    service.on_confirmed()
    service.signal.add(lambda: woken.append(1))
    service.end(Error("first"))
    service.end(Error("second"))
    assert (str(service.error), service.confirmed, woken) == ("first", False, [1])


def test_a_job_that_ends_ends_the_items_for_it():
    some, woken = job(Service("x", 1), streams=True), []
    some.signal.add(lambda: woken.append(1))
    some.end()
    assert some.request is not None
    assert some.request.ended
    assert woken

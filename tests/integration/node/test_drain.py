"""A node is stopped under load: nothing is lost, and its log names each stage."""

import json
import threading

from fdn import sync
from fdn.errors import Error
from fdn.messaging.draining import DrainStage
from fdn.testing import ProcessCluster, eventually

APP = "tests.integration.apps:app"
CALLERS = 8


def test_a_node_that_is_stopped_under_load_loses_nothing(cluster: ProcessCluster) -> None:
    cluster.environment["FDN_LOG_FORMAT"] = "json"
    one, _two, three = cluster.start(3, app=APP)
    enough = threading.Event()
    done = [0] * CALLERS
    failed: list[str] = []

    def call_on_and_on(caller: int) -> None:
        with one.client() as client:
            while not enough.is_set():
                try:
                    assert client.call("slow", 0.02) == "done"
                    done[caller] += 1
                except Error as error:
                    failed.append(str(error))

    callers = [threading.Thread(target=call_on_and_on, args=(caller,)) for caller in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        eventually("calls are answered", lambda: sum(done) > 50)
        assert three.stop() == 0
        after = sum(done)
        eventually("calls go on at the others", lambda: sum(done) > after + 50)
    finally:
        enough.set()
        for caller in callers:
            caller.join()
    assert failed == []
    assert one.statuses()[three.name] == "left"
    records = [json.loads(line) for line in three.log.splitlines() if line.startswith("{")]
    stages = [record for record in records if "stage" in record]
    assert [(record["stage"], record["left"]) for record in stages] == [
        (stage, 0) for stage in ("members", "timers", "calls", "clients", "events", "deliveries", "sends")
    ]
    assert DrainStage.__doc__ is not None
    for record in stages:
        assert f"`{record['stage']}`" in DrainStage.__doc__


def test_its_clients_go_elsewhere_and_lose_nothing(cluster: ProcessCluster) -> None:
    _one, _two, three = cluster.start(3, app=APP)  # clients hear of the others from this one
    enough = threading.Event()
    done = [0] * CALLERS
    failed: list[str] = []

    def call_on_and_on(caller: int) -> None:
        with sync.Client(three.endpoint, cluster="test") as client:
            while not enough.is_set():
                try:
                    assert client.call("slow", 0.005) == "done"
                    done[caller] += 1
                except Error as error:
                    failed.append(str(error))

    callers = [threading.Thread(target=call_on_and_on, args=(caller,)) for caller in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        eventually("calls are answered", lambda: sum(done) > 50)
        assert three.stop() == 0
        after = sum(done)
        eventually("calls go on at the others", lambda: sum(done) > after + 50)
    finally:
        enough.set()
        for caller in callers:
            caller.join()
    assert failed == []

"""Shared memory between real processes, some of which are killed while they hold it."""

import os
from typing import Any

import pytest

from fdn.testing import NodeProcess, ProcessCluster, eventually
from transports.shm.names import FOLDER, is_name, sweep

APP = "tests.integration.blobs.apps:app"
MIB = 1 << 20

pytestmark = pytest.mark.skipif(not os.path.isdir(FOLDER), reason=f"this system has no {FOLDER}")


def ask(node: NodeProcess, target: str, payload: Any = None) -> Any:
    with node.client(20.0) as client:
        return client.call(f"{target}@{node.name}", payload)


def files_of(*nodes: NodeProcess) -> dict[str, int]:
    """Files of ours in shared memory that these processes have open, and their sizes."""
    found: dict[str, int] = {}
    for node in nodes:
        folder = f"/proc/{node.pid}/fd"
        for fd in os.listdir(folder):
            try:
                name = os.path.basename(os.readlink(f"{folder}/{fd}"))
                if is_name(name):
                    found[name] = os.stat(f"{folder}/{fd}").st_size
            except FileNotFoundError:
                continue  # closed meanwhile
    return found


def segments(*nodes: NodeProcess) -> set[str]:
    return {name for name, size in files_of(*nodes).items() if size}


def there(names: set[str]) -> set[str]:
    return names & set(os.listdir(FOLDER))


def test_an_array_is_the_same_memory_in_every_process(cluster: ProcessCluster):
    one, two, three = cluster(3, app=APP)
    assert ask(one, "shared.pass_on", {"to": "n2", "count": 4 * MIB, "value": 3}) == [True]
    assert ask(one, "shared.pass_on", {"to": "n3", "count": 4 * MIB, "value": 5}) == [True]
    assert ask(two, "shared.total") == 3.0 * 4 * MIB
    names = segments(two, three)
    assert len(names) == 2
    ask(two, "shared.drop")
    eventually("one is given back", lambda: len(there(names) & segments(two, three)) == 1)
    ask(three, "shared.drop")
    eventually("the other, too", lambda: not segments(two, three))
    for node in (one, two, three):
        node.stop()
    assert not there(names)


def test_a_sender_that_is_killed_leaves_it_to_its_reader(cluster: ProcessCluster):
    one, two = cluster(2, app=APP)
    ask(one, "shared.pass_on", {"to": "n2", "count": 2 * MIB, "value": 7})
    names = segments(two)
    assert len(names) == 1
    one.kill()
    assert ask(two, "shared.total") == 7.0 * 2 * MIB
    assert there(names) == names
    ask(two, "shared.drop")
    eventually("its last reader removes it", lambda: not there(names))


def test_a_receiver_that_is_killed_leaks_nothing(cluster: ProcessCluster):
    one, two = cluster(2, app=APP)
    ask(one, "shared.pass_on", {"to": "n2", "count": 2 * MIB, "value": 7})
    names = segments(two)
    two.pause()
    ask(one, "shared.cast_to", {"to": "n2", "count": 3 * MIB})  # a handle that nobody takes
    assert ask(one, "shared.stats")["in_flight"] == 1
    names |= segments(one)
    two.kill()
    eventually("nothing is in flight", lambda: ask(one, "shared.stats")["in_flight"] == 0)
    assert ask(one, "shared.stats")["own"] == 0
    one.stop()
    assert not there(names)


def test_what_killed_processes_leave_is_removed_at_the_next_start(cluster: ProcessCluster):
    one, two = cluster(2, app=APP)
    ask(one, "shared.keep", 2 * MIB)
    ask(two, "shared.pass_on", {"to": "n1", "count": 2 * MIB, "value": 7})
    left = set(files_of(one, two))
    assert len(left) >= 4  # two probes and two segments
    one.kill()
    two.kill()
    assert there(left)
    cluster(1, names=["later"], join="")
    eventually("all are gone", lambda: not there(left))


def test_a_process_that_is_paused_keeps_what_it_has(cluster: ProcessCluster):
    one, two = cluster(2, app=APP)
    ask(one, "shared.pass_on", {"to": "n2", "count": 2 * MIB, "value": 7})
    names = segments(two)
    one.kill()
    two.pause()
    sweep(FOLDER)  # as a node does that starts now
    assert there(names) == names
    two.resume()
    assert ask(two, "shared.total") == 7.0 * 2 * MIB
    assert there(names) == names

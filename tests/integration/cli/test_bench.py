"""`fdn bench` as typed: one JSON object, and no process left behind however it ends."""

import json
import signal

import psutil

from fdn.testing import ProcessCluster, eventually


def test_nothing_but_one_object_on_standard_output(cluster: ProcessCluster) -> None:
    done = cluster.command("bench", "cast", "--json", "--duration", "250ms", timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["sent"] == result["received"] > 0
    assert {"messages_per_s", "lost", "wire_bytes", "transport", "handler", "async", "raw", "rounds"} <= set(result)


def test_an_interrupt_ends_all_of_it(cluster: ProcessCluster) -> None:
    process = cluster.spawn("bench", "call", "--duration", "60s")
    workers = eventually("four workers run", lambda: four_children(process.pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    # One that was being started just then ends when it finds nobody to take orders from.
    eventually("they have ended", lambda: not [worker for worker in workers if worker.is_running()])


def test_killing_it_leaves_nothing_behind(cluster: ProcessCluster) -> None:
    process = cluster.spawn("bench", "call", "--duration", "1s")
    workers = eventually("four workers run", lambda: four_children(process.pid))
    process.kill()
    eventually("they have ended", lambda: not [worker for worker in workers if worker.is_running()])


def four_children(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return children if len(children) == 4 else []


def test_stall_on_real_processes(cluster: ProcessCluster) -> None:
    done = cluster.command("bench", "stall", "--scenario", "idle", "--json", timeout_s=60)
    assert done.returncode == 0, done.stderr
    idle = json.loads(done.stdout)["idle"]
    assert idle["suspicions"] == idle["deaths"] == idle["calls_failed"] == 0
    assert idle["calls"] > 0

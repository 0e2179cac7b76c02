"""`python3 -m tools bench --peers`: every contestant in turn, every promise judged, and what is missing said."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fdn.bench import erlang
from fdn.bench.large import SIZES
from fdn.bench.worker import Worker
from tools import bench
from tools.peers import budgets, contestants, environment, servers, suite
from tools.peers.contestants import Contestant
from tools.peers.lines import Count
from tools.peers.suite import SuitePlan
from tools.progress import StepFailedError

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"


# -- the command


def test_what_there_is_to_measure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench._PEERS == contestants.PEERS
    assert bench._PARTS == suite.PARTS
    for arguments in (["--peers", "pigeons"], ["--peers", "pyzmq", "cast"], ["--peers", "pyzmq", "--parts", "all"]):
        with pytest.raises(SystemExit) as usage:
            bench.bench(ROOT, arguments)
        assert usage.value.code == 2
    assert "'pigeons' is none of pyzmq, erlang, zenoh, nats, redis" in capsys.readouterr().err
    plans: list[SuitePlan] = []

    def run(root: Path, plan: SuitePlan, out: Path | None) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr(suite, "run", run)
    assert bench.bench(ROOT, ["--peers", "pyzmq,nats", "--quick", "--parts", "mixed,load"]) == 0
    assert bench.bench(ROOT, ["--peers", "erlang"]) == 0
    assert (plans[0].peers, plans[0].parts) == (("pyzmq", "nats"), ("mixed", "load"))
    assert (plans[1].peers, plans[1].parts) == (("erlang",), suite.PARTS)
    assert plans[0].long_s < plans[1].long_s


def test_a_folder_that_is_not_there_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="there is no folder"):
        suite.run(ROOT, SuitePlan(), tmp_path / "none" / "results.json")


# -- side by side


def test_all_take_turns_with_as_many_as_fit_a_round() -> None:
    asked: list[tuple[str, int]] = []

    def work(name: str, rate: float) -> Any:
        def do(size: int, count: int) -> dict[str, Any]:
            asked.append((name, count))
            return {"sent": count, "received": count, "elapsed_s": count / rate}

        return do

    who = {
        "quick": Contestant("a", "", "", cast=work("quick", 1000.0)),
        "slow": Contestant("b", "", "", cast=work("slow", 10.0), large=work("slow", 10.0)),
    }
    rows = suite.measure_side_by_side(who, SuitePlan(rounds=2, round_s=1e-6))
    assert [(row["figure"], row["who"], row["median"]) for row in rows[:2]] == [
        ("cast", "quick", 1000.0),
        ("cast", "slow", 10.0),
    ]
    assert [row["size"] for row in rows if row["figure"] == "large"] == [*SIZES]
    assert rows[2]["median"] == 0.7  # 10 a second of 64 KiB each
    assert rows[2]["sent"] == rows[2]["received"] > 0


def test_round_trips_have_their_percentiles() -> None:
    who = Contestant(
        "a",
        "",
        "",
        latency=lambda size, count: {"p50_us": 10.0, "p99_us": 20.0},
        calls=lambda size, count: {"calls": 100, "elapsed_s": 2.0},
    )
    latency, calls = suite.measure_side_by_side({"one": who}, SuitePlan(rounds=3))
    assert (latency["unit"], latency["median"], latency["p99_us"]) == ("p50_us", 10.0, 20.0)
    assert (calls["unit"], calls["median"]) == ("calls_per_s", 50.0)


# -- what was promised


def row(figure: str, size: int, who: str, median: float, **more: Any) -> dict[str, Any]:
    return {
        "figure": figure,
        "size": size,
        "who": who,
        "median": median,
        "unit": "u",
        "lowest": 1,
        "highest": 2,
        **more,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """A run in which every promise that can be judged is kept."""
    kib, mib = 1024, 1024 * 1024
    tail = {"count": 100, "p50_us": 90.0, "p99_us": 900.0}
    memory = {"server": {"begin_mib": 40.0, "end_mib": 40.0, "peak_mib": 40.0, "slope_kib_s": 0.0}}
    casts = {"accepted": 100, "lost": 0, "memory": memory}
    overload = {"goodput_to_capacity": 0.95, "memory": memory, "casts": casts}
    load = {"p99_us": 5000.0, "offered_per_s": 1000.0, "outcomes": {"answered": 100}}
    rows = [
        row("cast", 100, "fdn def", 1.6e6, sent=5, received=5),
        row("cast", 100, "fdn async", 1.1e6, sent=5, received=5),
        row("cast", 100, "zenoh", 1.0e6, sent=5, received=5),
        row("cast", 100, "erlang", 0.25e6, sent=5, received=5),
        row("latency", 64, "fdn def", 100.0, p99_us=250.0),
        row("latency", 64, "fdn spin", 69.0, p99_us=250.0),
        row("latency", 64, "pyzmq", 64.0, p99_us=115.0),
        row("calls", 64, "fdn async", 110e3),
        row("calls", 64, "fdn def", 160e3),
        row("large", 64 * kib, "fdn def", 1500.0, sent=5, received=5),
        row("large", 64 * kib, "erlang", 1370.0, sent=5, received=5),
        *(row("large", n * mib, who, 2000.0, sent=5, received=5) for n in (1, 4, 16) for who in ("fdn def", "pyzmq")),
    ]
    mixed = {"saturated": tail, "bulk_mb_s": 2000.0, "incidents": 0, "scenarios": {"reader_stopped": {"incidents": 0}}}
    erlang_part = {"saturated": {"p99_us": 12_000.0}, "bulk_mb_s": 1400.0, "incidents": 50}
    return {
        "plan": {"long_s": 10.0},
        "rows": rows,
        "mixed": mixed | {"b0": {"incidents": 9}, "erlang": erlang_part},
        "overload": overload | {"async": overload},
        "load": {"quiet": load, "bulk": load},
        "blob": {
            "size": 100,
            "frames": {"received": [100, 100], "extra_mib": {"holder": 9.0, "taker": 8.0}},
            "shared": {"received": [100], "extra_mib": {"holder": 9.0, "taker": 900.0}},
        },
        "shared": {
            "rows": [{"size": mib, "kind": kind, "to_raw": 3.5} for kind in ("again", "fresh")],
            "handles": [{"size": n * mib, "p50_us": 300.0 + n} for n in (1, 32)],
        },
        "skipped": {"redis": "not installed"},
        "versions": {"fdn": "1"},
        "machine": {"cores": 2, "others_cores": 0.5},
    }


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {f"{row.work}, {row.budget}": row.verdict for row in budgets.judge(result)}


def test_a_promise_is_kept_broken_or_not_shown(result: dict[str, Any]) -> None:
    kept = verdicts(result)
    assert [*kept.values()].count("pass") == len(kept)
    assert [*kept.values()].count("fail") == 0
    changes: tuple[tuple[tuple[Any, ...], Any], ...] = (
        (("mixed", "incidents"), 1),
        (("mixed", "b0", "incidents"), 0),  # blind
        (("mixed", "saturated", "p99_us"), 1300.0),
        (("mixed", "bulk_mb_s"), 1000.0),
        (("mixed", "scenarios", "reader_stopped", "incidents"), 2),
        (("blob", "frames", "extra_mib", "taker"), 65.0),
        (("blob", "shared", "received", 0), 99),
        (("shared", "rows", 0, "to_raw"), 2.9),
        (("shared", "handles", 1, "p50_us"), 400.0),
        (("overload", "goodput_to_capacity"), 0.89),
        (("overload", "casts", "lost"), 1),
        (("overload", "memory", "server", "slope_kib_s"), 300.0),
        (("load", "quiet", "p99_us"), 10_001.0),
        (("load", "bulk", "outcomes"), {"answered": 9, "failed": 1}),
    )
    for path, value in changes:
        broken = json.loads(json.dumps(result))
        place = broken
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        changed = {work for work, verdict in verdicts(broken).items() if verdict != kept[work]}
        assert [verdicts(broken)[work] for work in changed] == ["fail"], path
    for number, one in enumerate(result["rows"]):
        if one["who"].startswith("fdn"):
            broken = json.loads(json.dumps(result))
            broken["rows"][number]["median"] *= 10 if one["figure"] == "latency" else 0.1
            assert "fail" in verdicts(broken).values(), one


def test_what_was_not_measured_or_lost_something_is_not_shown(result: dict[str, Any]) -> None:
    empty = {name: result[name] for name in ("skipped", "versions", "machine")}
    assert set(verdicts(empty).values()) == {"not shown"}
    result["rows"][0]["received"] = 4
    lossy = [one for one in budgets.judge(result) if one.verdict == "not shown" and "lost 1" in one.measured]
    assert len(lossy) == 3


def test_the_table_says_all_of_it(result: dict[str, Any]) -> None:
    result["contestants"] = {"fdn def": {"awaits": "each", "reads": "bytes"}}
    result["rows"][0]["received"] = 4
    result["budgets"] = [dataclasses.asdict(one) for one in budgets.judge(result)]
    text = "\n".join(suite.table(result))
    assert "one way, 100 bytes" in text
    assert "LOST 1" in text
    assert "fdn def: waits for each; receives bytes" in text
    assert "redis was not measured: not installed" in text
    assert "2 cores, of which 0.50 were busy with other work" in text
    assert text.endswith("not shown")


# -- the peers' side


def test_a_worker_counts_and_does_not_wait_for_ever() -> None:
    count = Count()
    count.messages, count.bytes = 3, 30
    assert count.wait(3)["received"] == 3
    assert count.wait(4)["bytes"] == 30


def test_its_programs_need_nothing_of_fdn() -> None:
    program = (
        "import sys, tools.peers.nats_pair, tools.peers.redis_pair, tools.peers.zenoh_pair;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('fdn', 'zmq', 'msgspec')])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def installed(name: str) -> bool:
    try:
        held = json.loads((ROOT / ".venv" / "peers" / "requirements").read_text())
    except (OSError, ValueError):
        return False
    programs = environment.DEBIAN.get(name, ((), ""))[0]
    return {*environment.REQUIREMENTS[name]} <= {*held} and all(map(shutil.which, programs))


@pytest.fixture(params=["nats", "redis", "zenoh"])
def peer(request: pytest.FixtureRequest) -> Iterator[Contestant]:
    if not installed(request.param):
        pytest.skip(f"{request.param} is not in .venv/peers; `python3 -m tools bench --peers` installs it")
    with contestants.everyone([request.param], PEERS_PYTHON, 8) as found:
        yield found[request.param]


def test_a_peer_counts_what_arrives(peer: Contestant) -> None:
    assert peer.cast is not None
    assert peer.latency is not None
    for count in (200, 300):
        cast = peer.cast(100, count)
        assert (cast["sent"], cast["received"]) == (count, count)
        assert cast["elapsed_s"] > 0
    latency = peer.latency(64, 50)
    assert (latency["calls"], latency["p50_us"] > 0) == (50, True)
    if peer.calls is not None:
        assert peer.calls(64, 100)["calls"] == 100
    if peer.large is not None:
        assert peer.large(1_000_000, 5)["received"] == 5


def test_ours_count_what_arrives() -> None:
    peers = ["pyzmq"] if erlang.missing() else ["pyzmq", "erlang"]
    with contestants.everyone(peers, None, 8) as found:
        assert set(found) == {"fdn def", "fdn async", "fdn call", "fdn spin", *peers}
        for who in found.values():
            for work in (who.cast, who.large):
                if work is not None:
                    result = work(1000, 200)
                    assert (result["sent"], result["received"]) == (200, 200)
            if who.latency is not None:
                assert who.latency(64, 50)["p50_us"] > 0
            if who.calls is not None:
                assert who.calls(64, 100)["calls"] >= 96


@pytest.mark.skipif(not installed("redis"), reason="redis is not installed")
def test_a_server_ends_with_its_block() -> None:
    with servers.redis() as port, Worker("sender", (str(PEERS_PYTHON), "-m", "tools.peers.redis_pair"), port=port):
        pass
    with pytest.raises(StepFailedError, match="did not start"), servers._server(["true"], lambda folder: ""):
        pass


@pytest.mark.slow
def test_the_whole_run(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    plan = SuitePlan(peers=("pyzmq",), parts=("side_by_side", "load"), rounds=1, round_s=0.02, long_s=0.2)
    assert suite.run(ROOT, plan, out) == 0
    result = json.loads(out.read_text())
    assert {row["who"] for row in result["rows"]} == {"fdn def", "fdn async", "fdn call", "fdn spin", "pyzmq"}
    assert all(row.get("sent") == row.get("received") for row in result["rows"])
    assert len(result["budgets"]) == len(budgets.BUDGETS)
    assert result["machine"]["others_cores"] >= 0
    assert result["versions"]["pyzmq"]

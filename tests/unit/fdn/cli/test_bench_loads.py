import json
from pathlib import Path
from typing import Any

import pytest

from fdn.cli.bench_loads import COMMANDS
from fdn.cli.root import run

TAIL = {"count": 500, "p50_us": 90.5, "p99_us": 150.0, "p999_us": 900.0, "max_us": 1000.0}
MEMORY = {"server": {"begin_mib": 30.0, "end_mib": 31.0, "peak_mib": 31.5, "slope_kib_s": 2.5}}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    scenarios = {"reader_stopped": TAIL | {"incidents": 0}}
    part: dict[str, Any] = {"idle": TAIL, "saturated": TAIL, "bulk_mb_s": 2000.0, "incidents": 3}
    part["scenarios"] = scenarios

    def mixed(plan: Any) -> dict[str, Any]:
        made.append(plan)
        return part | {"b0": part, "skipped": {"erlang": "not installed: escript"}}

    def overload(plan: Any) -> dict[str, Any]:
        made.append(plan)
        rates = {"capacity_per_s": 4000, "offered_per_s": 8000, "goodput_per_s": 3900, "goodput_to_capacity": 0.975}
        casts = {"accepted": 1000, "lost": 0, "memory": MEMORY}
        result = rates | TAIL | {"wasted": 7, "memory": MEMORY, "casts": casts}
        return {"handler": plan.handlers[0], **result, **dict.fromkeys(plan.handlers[1:], result)}

    def large(plan: Any) -> dict[str, Any]:
        made.append(plan)
        row = {"mb_s": 1000.0, "lowest": 900.0, "highest": 1100.0, "sent": 5, "received": 5}
        return {"rows": [{"size": size, "kind": "raw", **row} for size in plan.sizes]}

    def load(plan: Any) -> dict[str, Any]:
        made.append(plan)
        part = TAIL | {"offered_per_s": 1000.0, "bulk_mb_s": 0.0}
        return {"capacity_per_s": 2000, "quiet": part, "bulk": part | {"bulk_mb_s": 200.0}}

    def shared(plan: Any) -> dict[str, Any]:
        made.append(plan)
        rows = large(plan)["rows"]
        return {
            "rows": rows,
            "handles": [{"size": size, "p50_us": 300.0, "p99_us": 900.0} for size in plan.handle_sizes],
        }

    monkeypatch.setattr("fdn.bench.shared.measure_shared", shared)
    monkeypatch.setattr("fdn.bench.large.measure_large", large)
    monkeypatch.setattr("fdn.bench.load.measure_load", load)
    monkeypatch.setattr("fdn.bench.mixed.measure_mixed", mixed)
    monkeypatch.setattr("fdn.bench.overload.measure_overload", overload)
    return made


def test_mixed(plans: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "mixed.json"
    assert run(["bench", "mixed", "--json", "--save", str(saved)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["b0"]["incidents"] == 3
    assert json.loads(saved.read_text()) == json.loads(out)
    assert err == ""
    plan = plans[-1]
    assert (plan.duration_s, plan.rate, plan.size, plan.senders, plan.peers) == (6.0, 500, 8 * 2**20, 4, ("b0",))
    assert run(["bench", "mixed", "--peers", "erlang", "--size", "1MiB", "--rate", "100", "--senders", "2"]) == 0
    out, err = capsys.readouterr()
    first = [line.split("  ")[0] for line in out.splitlines()[1:]]
    assert first == [f"{name}, {what}" for name in ("fdn", "b0") for what in ("idle", "saturated", "reader stopped")]
    assert "erlang was not measured: not installed: escript" in err
    plan = plans[-1]
    assert (plan.rate, plan.size, plan.senders, plan.peers) == (100, 2**20, 2, ("b0", "erlang"))


def test_overload(plans: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "overload", "--work", "1ms", "--deadline", "500ms", "--factor", "4", "--clients", "3"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["def", "async"]
    assert "of 1,000 casts accepted 0 lost" in err
    plan = plans[-1]
    assert (plan.work_s, plan.deadline_s, plan.factor, plan.clients) == (0.001, 0.5, 4.0, 3)
    assert run(["bench", "overload", "--handler", "async", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["handler"] == "async"


def test_large(plans: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "large", "--sizes", "64KiB,1MiB", "--in-flight", "2", "--transport", "ipc"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["64KiB", "1MiB"]
    plan = plans[-1]
    assert (plan.sizes, plan.in_flight, plan.transport) == ((65536, 2**20), 2, "ipc")
    assert run(["bench", "large", "--json", "--count", "3"]) == 0
    assert [row["size"] for row in json.loads(capsys.readouterr().out)["rows"]] == [1 << 16, 1 << 20, 1 << 22, 1 << 24]
    assert plans[-1].count == 3


def test_shared(plans: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "shared", "--sizes", "1MiB", "--handles", "1MiB,1GiB"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["1MiB", "raw"],
        ["1MiB", "handle"],
        ["1GiB", "handle"],
    ]
    assert (plans[-1].sizes, plans[-1].handle_sizes) == ((2**20,), (2**20, 2**30))
    assert run(["bench", "shared", "--json"]) == 0


def test_blob(plans: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def blob(plan: Any) -> dict[str, Any]:
        plans.append(plan)
        way = {"mb_s": 900.0, "received": [plan.size], "extra_mib": {"holder": 9.0, "taker": 8.0}}
        return {"size": plan.size, "frames": way, "shared": way}

    monkeypatch.setattr("fdn.bench.blob.measure_blob", blob)
    assert run(["bench", "blob", "--size", "1MiB", "--times", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["frames", "shared"]
    assert (plans[-1].size, plans[-1].times) == (2**20, 2)
    assert run(["bench", "blob", "--json"]) == 0
    assert run(["bench", "blob", "--join", "127.0.0.1:1"]) == 2


def test_load(plans: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "load", "--nodes", "3", "--load", "0.8", "--bulk-mb-s", "50"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["quiet", "bulk"]
    assert "3 nodes keep up with 2,000 calls a second; 80% of that was offered" in err
    plan = plans[-1]
    assert (plan.nodes, plan.load, plan.bulk_mb_s, plan.bulk_size) == (3, 0.8, 50.0, 8 * 2**20)
    assert run(["bench", "load", "--json"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("mixed", "--rate", "0"),
        ("mixed", "--peers", "pigeons"),
        ("mixed", "--duration", "1h"),
        ("mixed", "--join", "127.0.0.1:1"),
        ("large", "--sizes", "64KiB,"),
        ("large", "--sizes", "2GiB"),
        ("shared", "--sizes", "1001"),
        ("load", "--nodes", "1"),
        ("load", "--load", "2"),
        ("overload", "--work", "1h"),
        ("overload", "--deadline", "1us"),
        ("overload", "--handler", "none"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(arguments: tuple[str, ...], plans: list[Any]) -> None:
    assert run(["bench", *arguments]) == 2
    assert plans == []


def test_each_is_in_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command.name} " in out for command in COMMANDS)

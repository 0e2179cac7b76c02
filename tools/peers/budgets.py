"""What was promised of messages (docs/explanation/design.md, the budgets), laid beside what a run has measured.

A row is `pass` or `fail` when all that it compares is in the result, and `not shown` when something is missing: a peer
that is not installed, or a part that was not run. One-way figures hold only if nothing was lost.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ("BUDGETS", "Row", "judge", "lines")

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One promise.

    Attributes:
        work: What is done.
        budget: What was promised.
        measured: What this run says, for people.
        verdict: `pass`, `fail` or `not shown`.
    """

    work: str
    budget: str
    measured: str
    verdict: str


class _Missing(Exception):
    """Something that a row compares was not measured."""


class _Figures:
    """A result, by what is looked up in it."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._result = result
        self._rows = {(row["figure"], row["size"], row["who"]): row for row in result.get("rows", ())}

    def row(self, figure: str, size: int, who: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] | None = self._rows.get((figure, size, who))
        if found is None:
            raise _Missing(f"{who} was not measured")
        return found

    def rate(self, figure: str, size: int, who: str) -> float:
        row = self.row(figure, size, who)
        if row.get("sent") != row.get("received"):
            raise _Missing(f"{who} lost {row['sent'] - row['received']:,}")
        return float(row["median"])

    def part(self, *path: str) -> Any:
        found: Any = self._result
        for name in path:
            if name not in found:
                raise _Missing(f"{'.'.join(path)} was not measured")
            found = found[name]
        return found


_Judge = Callable[[_Figures], tuple[str, bool]]


def _at_least(figure: str, size: int, who: str, least: float, unit: str) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        rate = figures.rate(figure, size, who)
        return f"{rate:,.0f} {unit}", rate >= least

    return judge


def _times(figure: str, size: int, who: str, other: str, least: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        rate, beside = figures.rate(figure, size, who), figures.rate(figure, size, other)
        return f"{rate / beside:.2f}x ({rate:,.0f} to {beside:,.0f})", rate >= least * beside

    return judge


def _latency(who: str, key: str, most: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        own = figures.row("latency", 64, who)[key]
        beside = figures.row("latency", 64, "pyzmq")[key]
        return f"{own / beside:.2f}x ({own:,.0f} to {beside:,.0f} us)", own <= most * beside

    return judge


def _large(figures: _Figures) -> tuple[str, bool]:
    ratios = {
        size: figures.rate("large", size, "fdn def") / figures.rate("large", size, "pyzmq")
        for size in (_MIB, 4 * _MIB, 16 * _MIB)
    }
    shown = ", ".join(f"{ratio:.2f}x at {size // _MIB} MiB" for size, ratio in ratios.items())
    return shown, min(ratios.values()) >= 0.95


def _shared(figures: _Figures) -> tuple[str, bool]:
    rows = figures.part("shared", "rows")
    again, fresh = ({row["size"]: row["to_raw"] for row in rows if row["kind"] == kind} for kind in ("again", "fresh"))
    shown = ", ".join(f"{ratio:.2f}x at {size // _MIB} MiB" for size, ratio in again.items())
    return f"{shown}; in fresh memory each time {min(fresh.values()):.2f}x", min(again.values()) >= 3


def _handles(figures: _Figures) -> tuple[str, bool]:
    rows = figures.part("shared", "handles")
    p50s = [row["p50_us"] for row in rows]
    shown = ", ".join(f"{row['p50_us']:,.0f} us at {row['size'] // _MIB} MiB" for row in rows)
    return shown, max(p50s) <= 1.2 * min(p50s)


def _blob(figures: _Figures) -> tuple[str, bool]:
    blob = figures.part("blob")
    extra = blob["frames"]["extra_mib"]
    text = f"{extra['holder']:,.0f} MiB at its holder, {extra['taker']:,.0f} MiB where it went"
    whole = all(received == blob["size"] for way in ("frames", "shared") for received in blob[way]["received"])
    return text + ("" if whole else ", NOT WHOLE"), whole and max(extra.values()) < 64


def _mixed_tail(figures: _Figures) -> tuple[str, bool]:
    own, beside = figures.part("mixed", "saturated", "p99_us"), figures.part("mixed", "erlang", "saturated", "p99_us")
    return f"{beside / own:.1f}x below ({own:,.0f} to {beside:,.0f} us)", own * 10 <= beside


def _mixed_bulk(figures: _Figures) -> tuple[str, bool]:
    own, beside = figures.part("mixed", "bulk_mb_s"), figures.part("mixed", "erlang", "bulk_mb_s")
    return f"{own:,.0f} to {beside:,.0f} MB/s", own >= beside


def _incidents(figures: _Figures) -> tuple[str, bool]:
    own, blind = figures.part("mixed", "incidents"), figures.part("mixed", "b0", "incidents")
    count = figures.part("mixed", "saturated", "count")
    return f"{own:,} of {count:,} (over one connection {blind:,})", own == 0 and blind > 0


def _other_incidents(figures: _Figures) -> tuple[str, bool]:
    found = {name: of["incidents"] for name, of in figures.part("mixed", "scenarios").items()}
    if not found:
        raise _Missing("they were not measured")
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found.items()), not any(found.values())


def _goodput(figures: _Figures) -> tuple[str, bool]:
    ratios = {"def": figures.part("overload", "goodput_to_capacity")}
    ratios["async"] = figures.part("overload", "async", "goodput_to_capacity")
    return ", ".join(f"{ratio:.0%} ({name})" for name, ratio in ratios.items()), min(ratios.values()) >= 0.9


_GROWTH_MAX: Final = 0.05  # of what a process held, by the slope, while it was watched


def _memory(figures: _Figures) -> tuple[str, bool]:
    overload = figures.part("overload")
    worst, growth = "", 0.0
    for handler in (overload, overload.get("async", {})):
        for watched in (handler.get("memory", {}), handler.get("casts", {}).get("memory", {})):
            for name, of in watched.items():
                grown = of["slope_kib_s"] / 1024 * figures.part("plan", "long_s") / of["begin_mib"]
                if grown >= growth:
                    worst, growth = name, grown
    return f"at most {growth:.1%} ({worst or 'none grew'})", growth <= _GROWTH_MAX


def _lost(figures: _Figures) -> tuple[str, bool]:
    lost = figures.part("overload", "casts", "lost") + figures.part("overload", "async", "casts", "lost")
    accepted = figures.part("overload", "casts", "accepted") + figures.part("overload", "async", "casts", "accepted")
    return f"{lost:,} of {accepted:,} casts that were accepted", lost == 0


def _load(state: str) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        part = figures.part("load", state)
        failed = sum(count for outcome, count in part["outcomes"].items() if outcome != "answered")
        text = f"{part['p99_us'] / 1000:,.1f} ms at {part['offered_per_s']:,.0f} calls/s" + (
            f", {failed:,} not answered" if failed else ""
        )
        return text, part["p99_us"] < 10_000 and not failed

    return judge


BUDGETS: Final[tuple[tuple[str, str, _Judge], ...]] = (
    ("one way, 100 B, `def`, bytes", "1.5 M/s", _at_least("cast", 100, "fdn def", 1.5e6, "/s")),
    ("one way, 100 B, `async def`, Struct", "1.0 M/s", _at_least("cast", 100, "fdn async", 1.0e6, "/s")),
    ("the same beside Zenoh", "1.3x", _times("cast", 100, "fdn def", "zenoh", 1.3)),
    ("the same beside Distributed Erlang", "5x", _times("cast", 100, "fdn def", "erlang", 5.0)),
    ("call, 64 B, idle, p50, beside pyzmq", "1.7x at most", _latency("fdn def", "median", 1.7)),
    ("call, 64 B, idle, p99, beside pyzmq", "3x at most", _latency("fdn def", "p99_us", 3.0)),
    ('the same with latency="spin", p50', "1.1x at most", _latency("fdn spin", "median", 1.1)),
    ("256 calls under way, `async def`", "100,000/s", _at_least("calls", 64, "fdn async", 100e3, "/s")),
    ("256 calls under way, `def`", "150,000/s", _at_least("calls", 64, "fdn def", 150e3, "/s")),
    ("64 KiB, beside Distributed Erlang", "above", _times("large", 64 * _KIB, "fdn def", "erlang", 1.0)),
    ("1 to 16 MiB, tcp, beside pyzmq copy=False", "0.95x", _large),
    ("1 to 16 MiB, same host, every byte read, beside pyzmq ipc", "3x", _shared),
    ("handle pass, 1 MiB to 1 GiB, p50", "flat within 20 %", _handles),
    ("a blob, whole and checked: more memory at each end", "under 64 MiB", _blob),
    ("coordination while data is saturated, p99", "10x below Distributed Erlang", _mixed_tail),
    ("bulk beside it", "no less than Distributed Erlang", _mixed_bulk),
    ("incidents while data is saturated", "0; over one connection above 0", _incidents),
    ("incidents while somebody stops or blocks", "0", _other_incidents),
    ("goodput at twice the capacity", "90 % of it", _goodput),
    ("memory at twice the capacity", "flat: 5 % at most", _memory),
    ("accepted and lost at twice the capacity", "0", _lost),
    ("call p99 at half of the capacity, 5 nodes", "under 10 ms", _load("quiet")),
    ("the same beside bulk traffic", "under 10 ms", _load("bulk")),
)


def judge(result: Mapping[str, Any]) -> list[Row]:
    """One row for each promise, in order."""
    figures = _Figures(result)
    rows = []
    for work, budget, look in BUDGETS:
        try:
            measured, good = look(figures)
            rows.append(Row(work, budget, measured, "pass" if good else "fail"))
        except _Missing as missing:
            rows.append(Row(work, budget, str(missing), "not shown"))
    return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows for people, and how many of each verdict there are."""
    widths = [max(len(row[key]) for row in rows) for key in ("work", "budget", "measured")]
    table = [
        "  ".join(row[key].ljust(width) for key, width in zip(("work", "budget", "measured"), widths, strict=True))
        + f"  {row['verdict']}"
        for row in rows
    ]
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("pass", "fail", "not shown"))
    return [*table, "", f"budgets: {counts}"]

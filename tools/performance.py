"""The figures in docs/explanation/performance.md, made from the results of the runs that measured them.

The page is written by hand around its tables: what stands between `<!-- figures: NAME -->` and `<!-- end -->` is made
here, from the JSON files beside it, and a test holds both together. No figure is typed.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tools.peers import grid

__all__ = ("FIGURES", "PAGE", "RESULTS", "differences", "filled", "load", "write")

PAGE: Final = Path("docs", "explanation", "performance.md")
RESULTS: Final = Path("docs", "explanation", "results")
_BLOCK: Final = re.compile(r"<!-- figures: ([a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

Results = Mapping[str, Any]  # by the name of the file: what it holds


def load(root: Path) -> dict[str, Any]:
    """Every result that is kept in the checkout."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / RESULTS).glob("*.json"))}


def filled(text: str, results: Results) -> str:
    """The page with its figures made anew.

    Raises:
        KeyError: It asks for figures that there are not.
    """
    return _BLOCK.sub(lambda found: _block(found.group(1), results), text)


def write(root: Path) -> list[str]:
    """Bring the page up to date. Returns its path if it has changed."""
    held = (root / PAGE).read_text(encoding="utf-8")
    made = filled(held, load(root))
    if made == held:
        return []
    (root / PAGE).write_text(made, encoding="utf-8")
    return [str(PAGE)]


def differences(root: Path) -> str:
    """What `write` would change, as a diff; empty when the page is up to date."""
    held = (root / PAGE).read_text(encoding="utf-8")
    made = filled(held, load(root))
    return "\n".join(difflib.unified_diff(held.splitlines(), made.splitlines(), str(PAGE), "made", lineterm=""))


def _block(name: str, results: Results) -> str:
    return "\n".join((f"<!-- figures: {name} -->", *FIGURES[name](results), "<!-- end -->"))


# -- the tables


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _machine(results: Results) -> list[str]:
    return [_conditions(results["messages"])]


def _conditions(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
    return (
        f"Measured at {result['measured_at']}: {machine['system']}, {machine['cores']} cores, of which "
        f"{machine['others_cores']:.2f} were busy with other work, in {machine['elapsed_s'] / 60:.0f} minutes"
        + (f"; {versions}." if versions else ".")
    )


def _budgets(results: Results) -> list[str]:
    rows = results["messages"]["budgets"]
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("pass", "fail", "not shown"))
    table = _table(
        ("work", "promised", "measured", "verdict"),
        ([row["work"], row["budget"], row["measured"], f"**{row['verdict']}**"] for row in rows),
    )
    return [*table, "", f"{counts}."]


def _who(results: Results) -> list[str]:
    who = results["messages"]["contestants"]
    rows = ([name, of["awaits"], of["reads"]] for name, of in who.items())
    return _table(("", "the sender waits for", "the receiver is handed"), rows)


def _side_by_side(figure: str, title: str, digits: int = 0) -> Callable[[Results], list[str]]:
    def make(results: Results) -> list[str]:
        rows = [row for row in results["messages"]["rows"] if row["figure"] == figure]
        sizes = list(dict.fromkeys(row["size"] for row in rows))
        found = {(row["who"], row["size"]): row for row in rows}

        def cell(who: str, size: int) -> str:
            row = found.get((who, size))
            if row is None:
                return "-"
            text = f"{row['median']:,.{digits}f} ({row['lowest']:,.{digits}f} to {row['highest']:,.{digits}f})"
            lost = row.get("sent", 0) - row.get("received", 0)
            return (
                text + (f", p99 {row['p99_us']:,.0f}" if "p99_us" in row else "") + (f", LOST {lost:,}" if lost else "")
            )

        names = dict.fromkeys(row["who"] for row in rows)
        head = (title, *(_size(size) for size in sizes))
        return _table(head, ([name, *(cell(name, size) for size in sizes)] for name in names))

    return make


def _shared(results: Results) -> list[str]:
    shared = results["messages"]["shared"]
    names = {
        "again": "fdn, the same memory filled anew",
        "fresh": "fdn, fresh memory each time",
        "raw": "pyzmq over ipc, memory filled anew",
    }
    found = {(row["kind"], row["size"]): row for row in shared["rows"]}
    sizes = list(dict.fromkeys(row["size"] for row in shared["rows"]))
    rows = [[names[kind], *(f"{found[kind, size]['mb_s']:,.0f}" for size in sizes)] for kind in names]
    handles = _table(
        ("a handle, there and back", *(_size(row["size"]) for row in shared["handles"])),
        [["p50, us", *(f"{row['p50_us']:,.0f}" for row in shared["handles"])]],
    )
    return [*_table(("MB/s", *map(_size, sizes)), rows), "", *handles]


def _blob(results: Results) -> list[str]:
    blob = results["messages"]["blob"]
    names = {"frames": "a file, in frames over TCP", "shared": "shared memory, as handles"}
    rows = (
        [name, f"{of['mb_s']:,.0f}", f"{of['extra_mib']['holder']:,.0f}", f"{of['extra_mib']['taker']:,.0f}"]
        for way, name in names.items()
        for of in (blob[way],)
    )
    head = (f"{_size(blob['size'])}", "MB/s", "more at its holder, MiB", "more where it went, MiB")
    return _table(head, rows)


def _mixed(results: Results) -> list[str]:
    mixed = results["messages"]["mixed"]
    parts = {"fdn": mixed, "one connection (B0)": mixed.get("b0"), "Distributed Erlang": mixed.get("erlang")}
    rows = []
    for name, part in parts.items():
        if part is not None:
            for state in ("idle", "saturated"):
                bulk = state == "saturated"
                rows.append(
                    [
                        f"{name}, {state}",
                        *(f"{part[state][key]:,.0f}" for key in ("p50_us", "p99_us", "p999_us", "max_us")),
                        f"{part['bulk_mb_s']:,.0f}" if bulk else "",
                        f"{part['incidents']:,} of {part[state]['count']:,}" if bulk else "",
                    ]
                )
            rows += [
                [
                    f"{name}, {scenario.replace('_', ' ')}",
                    *(f"{of[key]:,.0f}" for key in ("p50_us", "p99_us", "p999_us", "max_us")),
                    "",
                    f"{of['incidents']:,} of {of['count']:,}",
                ]
                for scenario, of in part["scenarios"].items()
            ]
    return _table(("", "p50, us", "p99, us", "p99.9, us", "most, us", "bulk, MB/s", "incidents"), rows)


def _overload(results: Results) -> list[str]:
    overload = results["messages"]["overload"]
    handlers = {overload["handler"]: overload} | ({"async": overload["async"]} if "async" in overload else {})
    rows = []
    for name, of in handlers.items():
        memory = {**of["memory"], **{f"{who}, casts": each for who, each in of["casts"]["memory"].items()}}
        worst = max(memory, key=lambda who: memory[who]["slope_kib_s"])
        rows.append(
            [
                f"`{name}`",
                *(f"{of[key]:,}" for key in ("capacity_per_s", "offered_per_s", "goodput_per_s")),
                f"{of['goodput_to_capacity']:.0%}",
                f"{of['casts']['lost']:,} of {of['casts']['accepted']:,}",
                f"{memory[worst]['slope_kib_s']:,.0f} KiB/s ({worst})",
            ]
        )
    head = ("handler", "capacity", "offered", "in time", "of capacity", "casts lost", "memory grew at most")
    return _table(head, rows)


def _load(results: Results) -> list[str]:
    load_ = results["messages"]["load"]
    rows = []
    for state, name in (("quiet", "nothing"), ("bulk", "8 MiB objects")):
        of = load_[state]
        latencies = (f"{of[key] / 1000:,.1f}" for key in ("p50_us", "p99_us", "p999_us", "max_us"))
        rows.append([name, f"{of['offered_per_s']:,.0f}", *latencies, f"{of['bulk_mb_s']:,.0f}"])
    head = ("beside the calls", "calls/s", "p50, ms", "p99, ms", "p99.9, ms", "most, ms", "bulk, MB/s")
    told = f"{load_['nodes']} nodes keep up with {load_['capacity_per_s']:,} calls a second, one by one; "
    return [*_table(head, rows), "", f"{told}{load_['load']:.0%} of that was offered."]


def _grid(results: Results) -> list[str]:
    result = results["grid"]
    cells = {(cell["round_trip_ms"], cell["size"], cell["senders"], cell["who"]): cell for cell in result["cells"]}
    names = list(dict.fromkeys(cell["who"] for cell in result["cells"]))
    others = [name for name in names if not name.startswith("fdn")]
    rows = []
    for at in dict.fromkeys(key[:3] for key in cells):
        of = {name: cells[*at, name]["per_s"] for name in names}
        best = max(rate for name, rate in of.items() if name.startswith("fdn"))
        rows.append(
            [
                f"{at[0]:g} ms",
                _size(at[1]),
                f"{at[2]}",
                *(f"{rate:,.0f}" if rate >= 100 else f"{rate:,.1f}" for rate in of.values()),
                *(f"{best / of[name]:.2f}x" for name in others),
            ]
        )
    head = ("round trip", "payload", "senders", *names, *(f"to {name}" for name in others))
    told = (
        f"Beside {other}, fdn's better one is at {of['lowest']:g}x to {of['highest']:g}x, {of['mean']:g}x in the "
        f"(geometric) mean, and behind in {of['below']} of {of['cells']} cells."
        for other in others
        for of in (grid.summary(result, other),)
    )
    return [*_table(head, rows), "", *told, "", _conditions(result)]


def _events(results: Results) -> list[str]:
    result = results["events"]
    found = {(row["library"], row["subscribers"], row["form"]): row for row in result["rows"]}
    names = list(dict.fromkeys(row["library"] for row in result["rows"]))
    forms = {"iterator": "`async for`", "callback": "callback"}

    def cell(row: Mapping[str, Any]) -> str:
        return f"{row['events_per_s']:,.0f} ({row['lowest']:,.0f} to {row['highest']:,.0f})"

    rows = []
    for n, form in dict.fromkeys((row["subscribers"], row["form"]) for row in result["rows"]):
        beside = [found[name, n, form] for name in names]
        ratio = beside[0]["events_per_s"] / beside[1]["events_per_s"]
        rows.append([f"{n}", forms[form], *map(cell, beside), f"{ratio:.1f}"])
    lost = ", ".join(f"{name} {sum(row['lost'] for row in result['rows'] if row['library'] == name)}" for name in names)
    return [*_table(("subscriptions", "read by", *names, "ratio"), rows), "", f"Lost: {lost}."]


def _forms(results: Results) -> list[str]:
    events, stream = results["forms"], results["stream"]
    found = {(row["form"], row["subscribers"]): row for row in events["rows"]}
    forms = ("iterator", "callback", "function")
    counts = list(dict.fromkeys(row["subscribers"] for row in events["rows"]))
    rows = [
        [f"events a second, {n} subscription{'s' if n > 1 else ''}"]
        + [f"{found[form, n]['events_per_s']:,.0f}" for form in forms]
        for n in counts
    ]
    most = max(counts)
    used = (f"{found[form, most]['subscriber_us']:.1f}" for form in forms)
    rows.append([f"processor time of the subscriber for one of {most}, in us", *used])
    parts = {"iterator": stream, "callback": stream["callback"], "function": stream["function"]}
    rows.append(["items of a stream a second", *(f"{parts[form]['items_per_s']:,.0f}" for form in forms)])
    return _table(("", "`async for`", "`async def`", "plain `def`"), rows)


def _size(size: int) -> str:
    for unit, name in ((1024 * _MIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


FIGURES: Final[Mapping[str, Callable[[Results], list[str]]]] = {
    "machine": _machine,
    "budgets": _budgets,
    "who": _who,
    "cast": _side_by_side("cast", "messages a second"),
    "latency": _side_by_side("latency", "p50, us", 0),
    "calls": _side_by_side("calls", "calls a second"),
    "large": _side_by_side("large", "MB/s"),
    "shared": _shared,
    "blob": _blob,
    "mixed": _mixed,
    "overload": _overload,
    "load": _load,
    "grid": _grid,
    "events": _events,
    "forms": _forms,
}

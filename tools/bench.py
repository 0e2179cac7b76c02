"""`bench`: this checkout beside others in the same run. It reports; nothing fails for a figure."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ("bench", "table")

_KINDS: Final = ("cast", "call", "stream", "events")
_DEFAULT_KINDS: Final = ("cast", "call")
_RESULTS: Final = Path("build", "bench")
# Written out, so that --help needs nothing but the standard library; a test holds them to those of tools.peers.
_PEERS: Final = ("pyzmq", "erlang", "zenoh", "nats", "redis")
_PARTS: Final = ("side_by_side", "shared", "blob", "mixed", "overload", "load")


def bench(root: Path, arguments: Sequence[str]) -> int:
    """Run `fdn bench` for casts, calls and streams, and events beside nats-py; print tables."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools bench",
        description="With --peers: all that concerns messages, fdn beside these, in one run, and a table of what was "
        "promised; the peers are installed into .venv/peers (and from Debian, for root), or left out by name. "
        "Otherwise cast, call and stream run `fdn bench`; events puts nats-py with nats-server beside fdn, and writes "
        "events.json and events.txt into a folder.",
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(_KINDS)}; by default cast and call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there (not those of events)")
    parser.add_argument("--peers", type=_peers, metavar="NAME,NAME", help=f"{', '.join(_PEERS)}: measure beside these")
    parser.add_argument("--grid", action="store_true", help="round trips, payloads and senders, beside Erlang")
    parser.add_argument("--quick", action="store_true", help="with --peers or --grid: rough figures, soon")
    parser.add_argument("--parts", type=_parts, metavar="NAME,NAME", help=f"with --peers: only {', '.join(_PARTS)}")
    parser.add_argument("--out", type=Path, default=_RESULTS, metavar="FOLDER", help="for events (build/bench)")
    parser.add_argument("--subscribers", type=_numbers, default="1,5,50", metavar="N,N", help="for events (1,5,50)")
    parser.add_argument("--duration", type=float, default=3.0, metavar="SECONDS", help="of each figure of events (3)")
    options = parser.parse_args(arguments)
    kinds = options.kinds or _DEFAULT_KINDS
    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(_KINDS)}")
    if options.peers is not None or options.grid:
        if options.kinds or (options.peers is not None and options.grid):
            parser.error("--peers and --grid are runs of their own: leave out the rest, or see --parts")
        return _suite(root, options)
    results: dict[str, Any] = {}
    for kind in kinds:
        if kind == "events":
            continue
        command = [str(Path(sys.prefix, "bin", "fdn")), "bench", kind, "--json"]
        done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"tools: `fdn bench {kind}` ended with exit status {done.returncode}", file=sys.stderr)
            return done.returncode
        results[kind] = json.loads(done.stdout)
        print("\n".join(table(kind, results[kind])))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return _events(root, options) if "events" in kinds else 0


def table(kind: str, result: Mapping[str, Any]) -> list[str]:
    """Lay out one result: each of its numbers, the same of bare pyzmq (`raw`) where there is one, and their ratio."""
    raw = result.get("raw", {})
    beside_title = f"{'bare pyzmq':>14}{'ratio':>9}" if raw else ""
    lines = [f"{kind:<22}{'fdn':>14}{beside_title}"]
    for name, value in result.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        beside = raw.get(name)
        compared = f"{beside:>14,.0f}{value / beside:>9.2f}" if beside else ""
        lines.append(f"  {name:<20}{_figure(value):>14}{compared}")
    return [*lines, ""]


def _events(root: Path, options: argparse.Namespace) -> int:
    from tools.peers import events  # here, because it imports fdn, which is only in .venv

    return events.run(root, options.out, options.subscribers, options.duration)


def _suite(root: Path, options: argparse.Namespace) -> int:
    from tools.peers import grid, suite

    if options.grid:
        cells = grid.GridPlan.quick(say=suite.progress) if options.quick else grid.GridPlan(say=suite.progress)
        return grid.run(root, cells, options.json)
    fields: dict[str, Any] = {"peers": options.peers, "say": suite.progress}
    if options.parts is not None:
        fields["parts"] = options.parts
    plan = suite.SuitePlan.quick(**fields) if options.quick else suite.SuitePlan(**fields)
    return suite.run(root, plan, options.json)


def _names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


def _peers(text: str) -> tuple[str, ...]:
    return _names(text, _PEERS)


def _parts(text: str) -> tuple[str, ...]:
    return _names(text, _PARTS)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _figure(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"

"""`bench`: casts, calls, events and streams of this checkout, beside others in the same run. It reports; it judges
nothing.
"""

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


def bench(root: Path, arguments: Sequence[str]) -> int:
    """Run `fdn bench` for casts, calls and streams, and events beside nats-py; print tables."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools bench",
        description="cast, call and stream run `fdn bench`; events puts nats-py with nats-server beside fdn, which are "
        "installed into .venv/peers, and writes events.json and events.txt into a folder.",
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(_KINDS)}; by default cast and call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of cast, call and stream there")
    parser.add_argument("--out", type=Path, default=_RESULTS, metavar="FOLDER", help="for events (build/bench)")
    parser.add_argument("--subscribers", type=_numbers, default="1,5,50", metavar="N,N", help="for events (1,5,50)")
    parser.add_argument("--duration", type=float, default=3.0, metavar="SECONDS", help="of each figure of events (3)")
    options = parser.parse_args(arguments)
    kinds = options.kinds or _DEFAULT_KINDS
    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(_KINDS)}")
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


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _figure(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"

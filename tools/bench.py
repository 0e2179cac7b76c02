"""`bench`: casts and calls of this checkout beside bare pyzmq of the same run. It reports; it judges nothing."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ("bench", "table")

_KINDS: Final = ("cast", "call")


def bench(root: Path, arguments: Sequence[str]) -> int:
    """Run `fdn bench` for each kind and print a table."""
    parser = argparse.ArgumentParser(prog="python3 -m tools bench")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    for kind in _KINDS:
        command = [str(Path(sys.prefix, "bin", "fdn")), "bench", kind, "--json"]
        done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"tools: `fdn bench {kind}` ended with exit status {done.returncode}", file=sys.stderr)
            return done.returncode
        results[kind] = json.loads(done.stdout)
    print("\n".join(line for kind in _KINDS for line in table(kind, results[kind])))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def table(kind: str, result: Mapping[str, Any]) -> list[str]:
    """Lay out one result: each of its numbers, the same of bare pyzmq (`raw`) where there is one, and their ratio."""
    raw = result.get("raw", {})
    lines = [f"{kind:<22}{'fdn':>14}{'bare pyzmq':>14}{'ratio':>9}"]
    for name, value in result.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        beside = raw.get(name)
        compared = f"{beside:>14,.0f}{value / beside:>9.2f}" if beside else ""
        lines.append(f"  {name:<20}{value:>14,.0f}{compared}")
    return [*lines, ""]

"""Planted bugs: a scratch copy of the source with a patch in it, and whether the simulator sees it.

A patch may begin with text: what it plants, and a line `scenario: NAME` that says which scenario is to see it.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ("Mutant", "hunt", "patched", "play_patched", "read")

ROOT: Final = Path(__file__).resolve().parent.parent
MUTANTS: Final = ROOT / "tests" / "mutants"
_ROOMS: Final = ("fdn", "transports", "topologies", "consensus", "tools")
_SCENARIO: Final = "scenario: "
_SEEDS: Final = 100  # to see one that a run in ten shows is as good as certain then
_PLAY: Final = "import sys; from tools.sim import play; sys.exit(play(sys.argv[1:]))"


@dataclasses.dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug.

    Attributes:
        what: In words.
        scenario: Which is to see it.
    """

    path: Path
    what: str
    scenario: str

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


def read(path: Path) -> Mutant:
    """The mutant in a file.

    Raises:
        ValueError: It names no scenario.
    """
    text = path.read_text(encoding="utf-8").partition("--- ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    scenario = next((line.removeprefix(_SCENARIO) for line in lines if line.startswith(_SCENARIO)), "")
    if not scenario:
        raise ValueError(f"{path} names no scenario; expected a line `{_SCENARIO}NAME` before the patch")
    return Mutant(path, " ".join(line for line in lines if not line.startswith(_SCENARIO)), scenario)


@contextlib.contextmanager
def patched(patch: Path) -> Iterator[Path]:
    """A copy of the source, with the patch in it; gone afterwards.

    Raises:
        ValueError: It does not fit; says where.
    """
    with tempfile.TemporaryDirectory(prefix="fdn-mutant-") as folder:
        copy = Path(folder)
        for room in _ROOMS:
            shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            ["git", "apply", "--verbose", str(patch.resolve())],
            cwd=copy,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},  # it is no repository, nor within one
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"{patch} cannot be applied:\n{done.stderr.strip()}")
        yield copy


def play_patched(patch: Path, arguments: Sequence[str]) -> int:
    """Play a scenario with the patch in; returns 1 if a seed failed."""
    with patched(patch) as copy:
        return subprocess.run([sys.executable, "-c", _PLAY, *arguments], cwd=copy, check=False).returncode


def hunt(names: Sequence[str] = (), seeds: int = _SEEDS, as_json: bool = False) -> int:
    """Play each mutant until a seed fails, two at a time; returns 1 if one survives.

    Args:
        names: As `raft/vote-twice`; all of them if there are none.
    """
    mutants = [read(path) for path in sorted(MUTANTS.rglob("*.patch"))]
    wanted = [mutant for mutant in mutants if not names or mutant.name in names]
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise ValueError(f"no mutant {', '.join(sorted(unknown))}; there are {', '.join(it.name for it in mutants)}")
    rows = []
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for mutant, (caught, seconds, reason) in zip(
            wanted, pool.map(lambda it: _hunt(it, seeds), wanted), strict=True
        ):
            rows.append(
                {
                    "mutant": mutant.name,
                    "what": mutant.what,
                    "scenario": mutant.scenario,
                    "caught": caught is not None,
                    "seeds": seeds if caught is None else caught,
                    "seconds": round(seconds, 1),
                    "reason": reason,
                }
            )
            if not as_json:
                how = f"after {caught} seeds: {reason}" if caught is not None else f"SURVIVED {seeds} seeds"
                print(f"{mutant.name:<32} {mutant.scenario:<16} {how}", flush=True)
    caught_count = sum(bool(row["caught"]) for row in rows)
    if as_json:
        print(json.dumps({"simulated": True, "mutants": len(rows), "caught": caught_count, "rows": rows}, indent=2))
    else:
        print(f"{caught_count} of {len(rows)} caught")
    return 0 if caught_count == len(rows) else 1


def _hunt(mutant: Mutant, seeds: int) -> tuple[int | None, float, str]:
    """After how many seeds it was seen, or None; seconds; and what was seen."""
    begun = time.monotonic()
    with patched(mutant.path) as copy:
        done = subprocess.run(
            [sys.executable, "-c", _PLAY, mutant.scenario, "--seeds", str(seeds), "--no-shrink", "--json"],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
    seconds = time.monotonic() - begun
    try:
        summary = json.loads(done.stdout)
    except ValueError:  # it fell over, and not in the simulation
        raise RuntimeError(f"{mutant.name} could not be played:\n{done.stderr[-2000:]}") from None
    if not summary["failures"]:
        return None, seconds, ""
    return len(summary["seeds"]), seconds, summary["failures"][0]["reason"].splitlines()[0]

"""The verbs, and the way into the environment they run in.

A verb runs inside `.venv`. Started by any other Python, the door first sees to it that `.venv` is there and complete,
then becomes that interpreter (`exec`: signals, exit status and the terminal are then the verb's own).
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from tools import bench, checks, components, environment, release
from tools.progress import StepFailedError

__all__ = ("VERBS", "Verb", "main", "usage")

ROOT: Final = Path(__file__).resolve().parent.parent

INTERRUPTED: Final = 130


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """One chore: what it does, what must be installed for it, and the function that does it."""

    summary: str
    extras: frozenset[str]
    run: Callable[[Path, Sequence[str]], int]


def demo(root: Path, arguments: Sequence[str]) -> int:
    """Become `fdn up 3 --demo`. Returns only in a test's hands."""
    del root
    command = [str(Path(sys.prefix, "bin", "fdn")), "up", "3", "--demo", *arguments]
    os.execv(command[0], command)


def test(root: Path, arguments: Sequence[str]) -> int:
    """See to the other languages that tests talk to, then `checks.test`."""
    print(components.ensure(root), flush=True)
    return checks.test(root, arguments)


def docs(root: Path, arguments: Sequence[str]) -> int:
    """Write the pages that are made from the code, or become the tests that hold all documents to it."""
    if [*arguments] != ["--write"]:
        return checks.become_pytest(root, ["tests/docs", *arguments])
    from tools import performance, reference  # here, because it imports fdn, which is only in .venv

    changed = [*reference.write(root), *performance.write(root)]
    print("\n".join(changed) or "the pages are up to date")
    return 0


def sim(root: Path, arguments: Sequence[str]) -> int:
    """Play a scenario of `fdn.sim`."""
    del root
    from tools import sim as player  # here, because it imports fdn, which is only in .venv

    return player.play(arguments)


_RUN: Final = frozenset[str]()
_DEV: Final = frozenset({"dev"})

VERBS: Final = {
    "demo": Verb(
        "a cluster of three processes at real work; arguments go to `fdn up 3 --demo` (try --exit)", _RUN, demo
    ),
    "test": Verb("check, then every test; arguments go to pytest; --no-check leaves the first part out", _DEV, test),
    "check": Verb("format, lint, types, import contracts, layout", _DEV, checks.check),
    "bench": Verb(
        "casts and calls beside bare pyzmq; `bench events`: events beside nats-py; --help", _RUN, bench.bench
    ),
    "sim": Verb("a scenario in virtual time with many seeds; a failure comes with its replay; --help", _RUN, sim),
    "docs": Verb("the tests that hold the documents to the code; --write makes the pages that are made", _DEV, docs),
    "release": Verb(
        "wheel and source archive in dist/, the wheel tested in an empty environment", _DEV, release.release
    ),
}


def usage() -> str:
    """The help: one line a verb."""
    lines = (f"  {name:<9}{verb.summary}" for name, verb in VERBS.items())
    return "\n".join(
        (
            "usage: python3 -m tools VERB [ARGUMENTS]    (in the checkout; elsewhere: python3 PATH/tools VERB)",
            "",
            *lines,
            "",
            "The first run makes .venv in the checkout and installs fdn there; nothing outside it is touched.",
        )
    )


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return its exit status: 2 for a wrong verb, 130 when interrupted."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *rest = arguments
    verb = VERBS.get(name)
    if verb is None:
        print(f"tools: no verb {name!r}; there are: {', '.join(VERBS)}\n\n{usage()}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)  # for the installation only: `exec` puts the default back
    try:
        python = environment.ensure(ROOT, verb.extras)
        if not environment.is_current(ROOT):
            os.execv(python, [str(python), str(ROOT / "tools"), *arguments])
        os.chdir(ROOT)
        return verb.run(ROOT, rest)
    except StepFailedError as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntools: interrupted", file=sys.stderr)
        return INTERRUPTED


def _end(number: int, frame: object) -> NoReturn:
    """Leave through the `finally`s, so that the command at work is ended too."""
    del frame
    sys.exit(128 + number)

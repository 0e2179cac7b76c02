"""What the demonstration found: for a program as one object, for people as one line a promise."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fdn.demo.ledger import Ledger

__all__ = ("DETECT_MS_MAX", "PROMISES", "Report")

DETECT_MS_MAX = 1000.0

# Name -> what it says. In the order in which they are told.
PROMISES: Mapping[str, str] = {
    "formed": "every node saw every other",
    "channels_answer": "all four channels to every node answered a ping",
    "calls_take_turns": "calls were answered by every node in turn",
    "detected": f"the killed node was dead in every view within {DETECT_MS_MAX:.0f} ms",
    "nobody_else_dead": "no other node was ever taken for dead",
    "work_went_on": "files were indexed while it was gone",
    "rejoined": "it came back as the same node, in its next life, in every view",
    "worked_again": "it was given files again",
    "no_file_lost": "every file is in the index",
    "none_counted_twice": "the nodes' shares add up to the number of files",
    "digests_equal": "every digest and count is the one that a single process found",
    "query_complete": "the index asked through the cluster gives all of it",
}


@dataclasses.dataclass(slots=True)
class Report:
    """Everything that was measured. Milliseconds and seconds are wall time.

    Attributes:
        pids: Name to process id, the restarted node's last.
        killed: Name, node id, the killed process and the one after it.
        form_s: From the first process's start to every node seeing all.
        rtt_ms: Channel to node to round trip.
        detect_ms: View to time from SIGKILL to "dead" in it; empty if it never was everywhere.
        rejoin_ms: From the start of the new process to "alive" in every view, or None.
        index_s: Time for all files, death, return and repeated work included.
        files_per_s: Files indexed in a second, before the kill.
        gap_ms: The longest time without a result after the kill.
        done_while_dead: Files indexed between the kill and the return.
        dealt_again: Files that died with the killed process's memory, and were indexed again.
        query_ms: Time for one query to all nodes.
        reference_s: Time that a single process took for the same files.
        promises: Name of `PROMISES` to whether it held.
    """

    pids: dict[str, int] = dataclasses.field(default_factory=dict)
    killed: dict[str, Any] = dataclasses.field(default_factory=dict)
    form_s: float = 0.0
    rtt_ms: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    detect_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    rejoin_ms: float | None = None
    index_s: float = 0.0
    files_per_s: float = 0.0
    gap_ms: float = 0.0
    done_while_dead: int = 0
    dealt_again: int = 0
    query_ms: float = 0.0
    reference_s: float = 0.0
    promises: dict[str, bool] = dataclasses.field(default_factory=dict)

    @property
    def all_held(self) -> bool:
        """Whether every promise was looked at, and held."""
        return all(self.promises.get(name, False) for name in PROMISES)

    def verdicts(self) -> Sequence[str]:
        """A line for each promise."""
        return [f"{'ok' if self.promises.get(name) else 'FAIL':<5}{text}" for name, text in PROMISES.items()]

    def as_object(self, ledger: Ledger, root: str) -> dict[str, Any]:
        """All of it for another program, with a row for every file."""
        files = [
            {
                "path": path,
                "digest": result.entry.digest,
                "node": result.node,
                "bytes": result.entry.size,
                "functions": result.entry.functions,
                "classes": result.entry.classes,
                "imports": result.entry.imports,
                "names": len(result.entry.names),
                "error": result.entry.error,
            }
            for path, result in sorted(ledger.results.items())
        ]
        return {
            "event": "demo",
            "held": self.all_held,
            "promises": {name: self.promises.get(name, False) for name in PROMISES},
            "pids": self.pids,
            "killed": self.killed,
            "times": {
                "form_s": self.form_s,
                "index_s": self.index_s,
                "detect_ms": max(self.detect_ms.values(), default=None),
                "detect_ms_by_view": self.detect_ms,
                "rejoin_ms": self.rejoin_ms,
                "gap_ms": self.gap_ms,
                "query_ms": self.query_ms,
                "single_process_s": self.reference_s,
            },
            "files_per_s": self.files_per_s,
            "rtt_ms": self.rtt_ms,
            "by_node": ledger.by_node(),
            "done_while_dead": self.done_while_dead,
            "dealt_again": self.dealt_again,
            "root": root,
            "files_count": len(files),
            "files": files,
        }

"""The merged index: one entry a file, whoever made it and however often, and what must be true of it in the end."""

import collections
from collections.abc import Collection, Iterable, Mapping

from fdn.demo.indexer import Indexed
from fdn.demo.source import Entry

__all__ = ("Ledger",)


class Ledger:
    """Results by file. A file that was indexed twice (its first node died) replaces its entry: it counts once.

    Attributes:
        results: By path.
        answers: Results taken in, repeated ones included.
    """

    def __init__(self) -> None:
        self.results: dict[str, Indexed] = {}
        self.answers = 0

    def record(self, result: Indexed) -> None:
        """Take in one answer."""
        self.results[result.entry.path] = result
        self.answers += 1

    def by_node(self) -> dict[str, int]:
        """How many files each node accounts for."""
        return dict(collections.Counter(result.node for result in self.results.values()))

    def held_by(self, pid: int) -> list[str]:
        """The files whose entry lives in the memory of one process, sorted."""
        return sorted(path for path, result in self.results.items() if result.pid == pid)

    def bytes_indexed(self) -> int:
        return sum(result.entry.size for result in self.results.values())

    def is_complete(self, files: Collection[str]) -> bool:
        """Whether exactly these files are in it: none lost, none invented."""
        return self.results.keys() == set(files)

    def counts_each_once(self, files: Collection[str]) -> bool:
        """Whether the nodes' shares add up to the number of files."""
        return sum(self.by_node().values()) == len(files)

    def agrees_with(self, reference: Mapping[str, Entry]) -> bool:
        """Whether every digest and every count is the one that a single process has found."""
        return {path: result.entry for path, result in self.results.items()} == dict(reference)

    def agrees_with_shares(self, shares: Iterable[Mapping[str, str]]) -> bool:
        """Whether what the nodes hold now (path to digest, a mapping a node) adds up to this index.

        A file may be held twice, when the answer to the first call was lost with its link; then both must agree.
        """
        held: dict[str, str] = {}
        for share in shares:
            for path, digest in share.items():
                if held.setdefault(path, digest) != digest:
                    return False
        return held == {path: result.entry.digest for path, result in self.results.items()}

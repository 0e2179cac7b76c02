"""A Merkle tree of keys, versions and digests of values, sixteen children a node. Hashes are BLAKE3.

Merkle, "A digital signature based on a conventional encryption function" (1987); for replicas first in Dynamo (2007).
A key's place is decided by the digest of the key, so that any set of keys is spread evenly. Equal digests of a part
mean equal contents; where they differ, one of the children does. With n keys of which d differ, finding them takes
about 16 d log16(n) digests.

Digests are computed when they are asked for, and kept until a key below them changes: a put costs the length of a path.
"""

from collections.abc import Iterator
from typing import Final

import blake3

from topologies.anti_entropy.messages import Summary, Version

__all__ = ("DEPTH", "DIGEST_BYTES", "MerkleTree", "digest_of")

DIGEST_BYTES: Final = 16  # by chance two differ and look equal once in 2**64 comparisons of different contents
DEPTH: Final = 4  # 65,536 leaves: some fifteen keys each, at a million
_DIGITS: Final = "0123456789abcdef"
_EMPTY: Final = bytes(DIGEST_BYTES)


def digest_of(data: bytes) -> bytes:
    """The digest by which contents are compared."""
    return blake3.blake3(data).digest(DIGEST_BYTES)


class MerkleTree:
    """What one replica holds, without the values."""

    __slots__ = ("_counts", "_digests", "_leaves")

    def __init__(self) -> None:
        self._leaves: dict[str, dict[bytes, Summary]] = {}
        self._counts: dict[str, int] = {}  # keys below each part, where there are any
        self._digests: dict[str, bytes] = {}  # of parts that have not changed since they were asked for

    def __len__(self) -> int:
        return self._counts.get("", 0)

    def get(self, key: bytes) -> Summary | None:
        return self._leaves.get(_place(key), {}).get(key)

    def put(self, key: bytes, version: Version, digest: bytes) -> None:
        """Hold this of a key, in the place of what was held."""
        place = _place(key)
        leaf = self._leaves.setdefault(place, {})
        is_new = key not in leaf
        leaf[key] = Summary(key, version, digest)
        self._changed(place, int(is_new))

    def remove(self, key: bytes) -> None:
        """Hold nothing of a key. Idempotent."""
        place = _place(key)
        leaf = self._leaves.get(place, {})
        if leaf.pop(key, None) is not None:
            if not leaf:
                del self._leaves[place]
            self._changed(place, -1)

    def count(self, part: str) -> int:
        """Keys in a part."""
        return self._counts.get(part, 0)

    def digest(self, part: str) -> bytes:
        """Of everything in a part; all zeros for an empty one."""
        if part not in self._counts:
            return _EMPTY
        digest = self._digests.get(part)
        if digest is None:
            if len(part) == DEPTH:
                leaf = self._leaves[part]
                contents = b"".join(_digest_of_summary(leaf[key]) for key in sorted(leaf))
            else:
                contents = b"".join(self.digest(child) for child in self.children(part))
            digest = self._digests[part] = digest_of(contents)
        return digest

    def children(self, part: str) -> list[str]:
        """The parts of a part that is no leaf."""
        return [part + digit for digit in _DIGITS]

    def summaries(self, part: str) -> Iterator[Summary]:
        """All that is held in a part, in an order that is the same for equal contents."""
        if part not in self._counts:
            return
        if len(part) == DEPTH:
            leaf = self._leaves[part]
            for key in sorted(leaf):
                yield leaf[key]
            return
        for child in self.children(part):
            yield from self.summaries(child)

    def is_part(self, part: str) -> bool:
        """Whether this names a part of any tree."""
        return len(part) <= DEPTH and all(digit in _DIGITS for digit in part)

    def _changed(self, place: str, more: int) -> None:
        for length in range(DEPTH + 1):
            part = place[:length]
            self._digests.pop(part, None)
            count = self._counts.get(part, 0) + more
            if count:
                self._counts[part] = count
            else:
                del self._counts[part]


def _place(key: bytes) -> str:
    return digest_of(key)[: DEPTH // 2].hex()


def _digest_of_summary(summary: Summary) -> bytes:
    first, second = summary.version
    return digest_of(b"%d:%b:%d:%d:%b" % (len(summary.key), summary.key, first, second, summary.digest))

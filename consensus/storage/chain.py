"""A checksum over each entry and all before it: two logs with the same last link are the same log.

It finds what a checksum for each row cannot: a row of another log in the place of ours, a row that is there twice, and
one that is missing.
"""

from typing import Final

import blake3

from consensus.raft.messages import Entry, Snapshot

__all__ = ("LINK_BYTES", "START", "link", "seal")

LINK_BYTES: Final = 16
START: Final = bytes(LINK_BYTES)  # before the first entry


def link(before: bytes, entry: Entry) -> bytes:
    """The link of `entry`, which follows the one with link `before`."""
    head = b"%d %d %d " % (entry.index, entry.term, entry.kind)
    digest: bytes = blake3.blake3(before + head + entry.data).digest(length=LINK_BYTES)
    return digest


def seal(snapshot: Snapshot) -> bytes:
    """Where the chain begins anew after a snapshot from another node, whose links we never had."""
    head = b"snapshot %d %d " % (snapshot.index, snapshot.term)
    digest: bytes = blake3.blake3(head + snapshot.digest).digest(length=LINK_BYTES)
    return digest

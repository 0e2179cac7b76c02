"""The same index made by one process that never met a cluster: what the demonstration's result is compared with.

`python -m fdn.demo.reference` writes a `Reference` as MessagePack to standard output.
"""

import sys
import time
from pathlib import Path

import msgspec

from fdn.demo.source import Entry, choose_files, index_source, library_root

__all__ = ("Reference", "index_all")


class Reference(msgspec.Struct, frozen=True):
    """The result of one process.

    Attributes:
        entries: By path.
        seconds: Time it took, reading included.
    """

    entries: dict[str, Entry]
    seconds: float


def index_all(root: Path, paths: tuple[str, ...]) -> Reference:
    """Index every file, one after the other."""
    started = time.monotonic()
    entries = {path: index_source(path, (root / path).read_bytes()) for path in paths}
    return Reference(entries, time.monotonic() - started)


if __name__ == "__main__":
    _root = library_root()
    sys.stdout.buffer.write(msgspec.msgpack.encode(index_all(_root, choose_files(_root))))

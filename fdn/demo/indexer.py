"""The app of the demonstration, run by every node: an `index` service that keeps what it has indexed in memory."""

import os

import msgspec

from fdn.app import App
from fdn.context import Context
from fdn.demo.source import Entry, index_source

__all__ = ("FileSource", "Index", "Indexed", "Sum", "add", "app")

app = App("demo")


class FileSource(msgspec.Struct, frozen=True):
    """One file to index: its path, and its text as it is on the caller's disk."""

    path: str
    source: bytes


class Indexed(msgspec.Struct, frozen=True):
    """An entry, and who made and holds it.

    Attributes:
        entry: What is known of the file.
        node: The node's name.
        pid: Its process: a restarted node has lost what the process before it held.
    """

    entry: Entry
    node: str
    pid: int


class Sum(msgspec.Struct, frozen=True):
    """A sum, and the node that worked it out."""

    sum: int
    node: str


# Parsing keeps a core busy for milliseconds: on a thread of its own, the node's loop goes on turning and the node stays
# well in the eyes of the others. One thread, because two would only take turns with the GIL.
@app.service("index", version="1", threads=1)
class Index:
    """This node's share of the index."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def file(self, request: FileSource, context: Context) -> Indexed:
        """Index one file. Doing it again replaces its entry, so a repeated call does no harm."""
        entry = index_source(request.path, request.source)
        self._entries[entry.path] = entry
        return Indexed(entry, context.node, os.getpid())

    def find(self, name: str) -> list[str]:
        """The files here that define `name`, sorted."""
        return sorted(path for path, entry in self._entries.items() if name in entry.names)

    def files(self) -> dict[str, str]:
        """Every file held here, with its digest."""
        return {path: entry.digest for path, entry in self._entries.items()}


@app.service("add")
def add(a: int, b: int, context: Context) -> Sum:
    """The smallest call there is, which says who answered."""
    return Sum(a + b, context.node)

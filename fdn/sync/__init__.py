"""The blocking twins, safe from any thread: the verbs of `fdn.Client` and `fdn.Node` for scripts and for programs with
threads.

`fdn.sync.Client` needs no event loop anywhere; `fdn.sync.Node` runs one in a thread of its own, and is imported when it
is first used.
"""

import importlib
from typing import TYPE_CHECKING

from fdn.sync.client import Client

if TYPE_CHECKING:
    from fdn.sync.node import Node

__all__ = ("Client", "Node")


def __getattr__(name: str) -> object:
    if name != "Node":
        raise AttributeError(f"module 'fdn.sync' has no attribute {name!r}; its public names: {', '.join(__all__)}")
    globals()[name] = importlib.import_module("fdn.sync.node").Node
    return globals()[name]

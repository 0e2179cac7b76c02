"""Names that every core of this room uses: who a node is, and which of its lives is meant."""

from typing import NewType

__all__ = ("Incarnation", "NodeId")

NodeId = NewType("NodeId", str)  # opaque here; two nodes never share one

# (boot generation, counter). Compared as a tuple: a restart outranks anything said of the life before it, and within
# one life the counter rises each time the node refutes what is said of it.
Incarnation = tuple[int, int]

"""Names that every core of this room uses: who a node is, which term is meant, and where in the log."""

from typing import NewType

__all__ = ("LogIndex", "NodeId", "Term")

NodeId = NewType("NodeId", str)  # opaque here; two nodes never share one, and a wiped node comes back with another
Term = NewType("Term", int)  # 0 before the first election
LogIndex = NewType("LogIndex", int)  # the first entry has 1; 0 is before it

"""Messages kept for those who ask for them, and the way on which each came."""

import dataclasses
from collections import OrderedDict

from topologies.identity import NodeId
from topologies.plumtree.messages import MessageId

__all__ = ("Store", "Stored")


@dataclasses.dataclass(slots=True)
class Stored:
    """One message."""

    payload: bytes
    round: int  # hops that it took to us
    parent: NodeId | None  # who pushed it, None for our own
    tree: NodeId


class Store:
    """The latest messages, bounded in number and bytes; the oldest go first."""

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_messages")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._messages: OrderedDict[MessageId, Stored] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, id: MessageId) -> Stored | None:
        return self._messages.get(id)

    def put(self, id: MessageId, message: Stored) -> None:
        self._messages[id] = message
        self._bytes += len(message.payload)
        while len(self._messages) > self._count_max or self._bytes > self._bytes_max:
            _, oldest = self._messages.popitem(last=False)
            self._bytes -= len(oldest.payload)

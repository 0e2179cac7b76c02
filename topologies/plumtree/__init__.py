"""Plumtree: broadcasts along trees that mend themselves. Start with `topologies.plumtree.plumtree`."""

from topologies.plumtree.interface import (
    Broadcast,
    Delivered,
    Learned,
    Missed,
    NeighborDown,
    NeighborUp,
    PlumtreeEffect,
    PlumtreeInput,
    PlumtreeReceived,
    PlumtreeSend,
    PlumtreeStats,
)
from topologies.plumtree.messages import Message, MessageId, decode, encode
from topologies.plumtree.plumtree import Plumtree
from topologies.plumtree.settings import PlumtreeSettings

__all__ = (
    "Broadcast",
    "Delivered",
    "Learned",
    "Message",
    "MessageId",
    "Missed",
    "NeighborDown",
    "NeighborUp",
    "Plumtree",
    "PlumtreeEffect",
    "PlumtreeInput",
    "PlumtreeReceived",
    "PlumtreeSend",
    "PlumtreeSettings",
    "PlumtreeStats",
    "decode",
    "encode",
)

"""Anti-entropy: two replicas find out where they differ, and exchange that. Start with `anti_entropy.anti_entropy`."""

from topologies.anti_entropy.anti_entropy import AntiEntropy
from topologies.anti_entropy.interface import (
    AntiEntropyEffect,
    AntiEntropyInput,
    AntiEntropyReceived,
    AntiEntropySend,
    AntiEntropyStats,
    Drop,
    EntryChanged,
    Peers,
    Put,
    Sync,
)
from topologies.anti_entropy.messages import Entry, Message, decode, encode
from topologies.anti_entropy.settings import AntiEntropySettings
from topologies.anti_entropy.tree import MerkleTree

__all__ = (
    "AntiEntropy",
    "AntiEntropyEffect",
    "AntiEntropyInput",
    "AntiEntropyReceived",
    "AntiEntropySend",
    "AntiEntropySettings",
    "AntiEntropyStats",
    "Drop",
    "Entry",
    "EntryChanged",
    "MerkleTree",
    "Message",
    "Peers",
    "Put",
    "Sync",
    "decode",
    "encode",
)

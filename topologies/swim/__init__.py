"""SWIM membership: who is alive. Start with `topologies.swim.swim`."""

from topologies.swim.interface import (
    Effect,
    Evidence,
    EvidenceKind,
    Input,
    Leave,
    MemberChanged,
    Met,
    Neighbours,
    Received,
    Refuted,
    Send,
    SwimStats,
    Tick,
)
from topologies.swim.messages import Claim, Message, Status, decode, encode
from topologies.swim.settings import SwimSettings
from topologies.swim.statements import Statement
from topologies.swim.swim import Swim

__all__ = (
    "Claim",
    "Effect",
    "Evidence",
    "EvidenceKind",
    "Input",
    "Leave",
    "MemberChanged",
    "Message",
    "Met",
    "Neighbours",
    "Received",
    "Refuted",
    "Send",
    "Statement",
    "Status",
    "Swim",
    "SwimSettings",
    "SwimStats",
    "Tick",
    "decode",
    "encode",
)

"""What the log is applied to: sessions with exactly-once, and a key-value store with revisions. Pure.

`Machine` applies committed commands, one after the other, and every node that has applied the same ones holds the same
bytes. `Leases` decides on the leader which sessions have been silent for too long; `History` feeds watches.
"""

from consensus.machine.commands import (
    ABSENT,
    CloseSession,
    Command,
    Compare,
    Delete,
    Do,
    ExpireSessions,
    Failure,
    FailureCode,
    Get,
    KeyValue,
    OpenSession,
    Operation,
    Operator,
    Property,
    Put,
    Result,
    Txn,
    TxnResult,
    decode_command,
    encode_command,
)
from consensus.machine.history import Compacted, History, KeyChange
from consensus.machine.leases import Leases
from consensus.machine.limits import MachineLimits
from consensus.machine.machine import Machine

__all__ = (
    "ABSENT",
    "CloseSession",
    "Command",
    "Compacted",
    "Compare",
    "Delete",
    "Do",
    "ExpireSessions",
    "Failure",
    "FailureCode",
    "Get",
    "History",
    "KeyChange",
    "KeyValue",
    "Leases",
    "Machine",
    "MachineLimits",
    "OpenSession",
    "Operation",
    "Operator",
    "Property",
    "Put",
    "Result",
    "Txn",
    "TxnResult",
    "decode_command",
    "encode_command",
)

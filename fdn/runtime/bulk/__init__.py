"""Large messages of the cores in small pieces: the protocol `fdn.bulk`. Pure; `fdn.runtime.control_bulk` drives it.

The problem: a snapshot or an anti-entropy answer of megabytes, sent as one message on a connection that also carries
heartbeats, holds these up for as long as it takes to leave. So it goes in pieces of 64 KiB, one of which is under way
to a peer at a time, and each is sent only when nothing else waits on that connection: whatever is sent meanwhile waits
for one piece at most.

The receiver acknowledges each piece with the number of bytes that it holds. That total is absolute, so a piece or an
Ack that is lost, repeated or late does no harm, and a transfer goes on where it was after a reconnect, or from the
beginning when the receiver has forgotten it. The last piece carries the BLAKE3 of the whole. Wire format:
`docs/spec/0001-wire.md`, section 4.9.
"""

from fdn.runtime.bulk.messages import Ack, BulkMessage, Piece, Refuse, RefuseCode, decode, encode
from fdn.runtime.bulk.receiver import BulkReceiver, BulkReceiverStats, Delivered
from fdn.runtime.bulk.sender import BulkSender, BulkSenderStats, Ended, Idle, PeerGone, PeerUp, Submit, WaitIdle
from fdn.runtime.bulk.settings import BulkSettings

__all__ = (
    "Ack",
    "BulkMessage",
    "BulkReceiver",
    "BulkReceiverStats",
    "BulkSender",
    "BulkSenderStats",
    "BulkSettings",
    "Delivered",
    "Ended",
    "Idle",
    "PeerGone",
    "PeerUp",
    "Piece",
    "Refuse",
    "RefuseCode",
    "Submit",
    "WaitIdle",
    "decode",
    "encode",
)

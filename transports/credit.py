"""Credit: how much may be under way to a receiver that has not consumed it yet.

Grants are absolute totals per link epoch ("up to N messages and B bytes since HELLO"), so a lost or repeated CREDIT
leaks nothing. Wire format: `docs/spec/0001-wire.md`, section 6, which also says what a batch counts for.
"""

from transports.wire.envelope import Kind

__all__ = ("EXEMPT_KINDS", "STEPS_MAX", "STEPS_MIN", "GrantWindow", "SendWindow")

STEPS_MIN = 2  # CREDIT is sent when one of so many parts of a window has been consumed, at least and
STEPS_MAX = 64  # at most

# Every other kind, those unknown to this version included, needs credit. The first envelope of a batch decides for
# all of it: a sender never mixes the two.
EXEMPT_KINDS = frozenset(
    {
        Kind.HELLO,
        Kind.WELCOME,
        Kind.REFUSED,
        Kind.BYE,
        Kind.REPLY,
        Kind.ERROR,
        Kind.CANCEL,
        Kind.SUBSCRIBE,
        Kind.UNSUBSCRIBE,
        Kind.ACK,
        Kind.CREDIT,
        Kind.CORE,
    }
)


class SendWindow:
    """The sender's side: totals granted and totals sent on one link epoch."""

    def __init__(self) -> None:
        self.limited = False  # until the first grant, and after a grant of (0, 0)
        self.messages_granted = 0
        self.bytes_granted = 0
        self.messages_sent = 0
        self.bytes_sent = 0
        self._totals = (0, 0)  # that the peer has granted
        self._held_back = (0, 0)  # of them
        self._first_bytes = 0  # of the first grant
        self._bulk_reserve = 0  # bytes that bulk leaves to others

    @property
    def open_for_bulk(self) -> bool:
        """Whether a piece of a large message may go: a quarter of the window is kept for what is small."""
        return not self.limited or (
            self.messages_sent < self.messages_granted and self.bytes_sent + self._bulk_reserve < self.bytes_granted
        )

    @property
    def open(self) -> bool:
        """Whether one more batch may go. It may overshoot the grant: a batch is never split for credit."""
        return not self.limited or (self.messages_sent < self.messages_granted and self.bytes_sent < self.bytes_granted)

    @property
    def messages_left(self) -> int:
        """How many may go; below 0 after an overshoot, and -1 also while there is no limit."""
        return self.messages_granted - self.messages_sent if self.limited else -1

    def spend(self, messages: int, bytes_: int) -> None:
        """Count a batch that went out."""
        self.messages_sent += messages
        self.bytes_sent += bytes_

    def grant(self, messages: int, bytes_: int) -> None:
        """Take over totals from WELCOME or CREDIT; lower ones than held are ignored, (0, 0) lifts the limit."""
        self.limited = (messages, bytes_) != (0, 0)
        self._first_bytes = self._first_bytes or bytes_
        self._totals = max(self._totals[0], messages), max(self._totals[1], bytes_)
        self.hold_back(*self._held_back)

    def hold_back(self, messages: int, bytes_: int) -> None:
        """Use so much less than is granted: what is under way is bounded more tightly than by the peer."""
        self._held_back = messages, bytes_
        self.messages_granted = self._totals[0] - messages
        self.bytes_granted = self._totals[1] - bytes_
        self._bulk_reserve = max(0, self._first_bytes - bytes_) // 4


class GrantWindow:
    """The receiver's side: what one peer was granted, has sent, and has had consumed, on one link epoch.

    Args:
        messages: Window in messages: at most this many are granted beyond what was consumed.
        bytes_: Window in bytes.

    Attributes:
        steps: Parts of the window after each of which CREDIT is due, `STEPS_MIN` to `STEPS_MAX`: more of them for a
            sender that has no more than such a part under way.
    """

    def __init__(self, messages: int, bytes_: int) -> None:
        if messages <= 0 or bytes_ <= 0:
            raise ValueError(
                f"a window of {messages} messages and {bytes_} bytes lets nothing pass; give positive numbers"
            )
        self._messages_window = self._messages_granted = messages
        self._bytes_window = self._bytes_granted = bytes_
        self.messages_consumed = 0
        self._bytes_consumed = 0
        self.messages_received = 0
        self.bytes_received = 0
        self.steps = STEPS_MIN

    @property
    def totals(self) -> tuple[int, int]:
        """What has been granted so far, for WELCOME and CREDIT."""
        return self._messages_granted, self._bytes_granted

    def on_received(self, messages: int, bytes_: int) -> bool:
        """Count a batch that needs credit.

        Returns:
            False when the peer had no credit left for it: it does not keep to the protocol.
        """
        within = self.messages_received < self._messages_granted and self.bytes_received < self._bytes_granted
        self.messages_received += messages
        self.bytes_received += bytes_
        return within

    def on_consumed(self, messages: int, bytes_: int) -> tuple[int, int] | None:
        """Count what handlers have finished with.

        Returns:
            New totals to send in a CREDIT when one of `steps` parts of a window of either has been consumed since the
            last, else None. More often than at half would cost a frame for every few messages; less often would let
            the sender run dry.
        """
        self.messages_consumed += messages
        self._bytes_consumed += bytes_
        messages_total = self.messages_consumed + self._messages_window
        bytes_total = self._bytes_consumed + self._bytes_window
        if (
            self.steps * (messages_total - self._messages_granted) < self._messages_window
            and self.steps * (bytes_total - self._bytes_granted) < self._bytes_window
        ):
            return None
        self._messages_granted = messages_total
        self._bytes_granted = bytes_total
        return messages_total, bytes_total

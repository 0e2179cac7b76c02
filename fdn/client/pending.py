"""Calls under way: what has been asked, and what has come back. Wire format: sections 4.3 and 4.6."""

from typing import Any, Final

from fdn.client.codec import Kind, Received
from fdn.client.flow import Inflow, Outflow
from fdn.client.outbox import Outgoing
from fdn.client.signals import Signal
from fdn.errors import BadRequest, Error, from_wire

__all__ = ("WINDOW_BYTES", "WINDOW_ITEMS", "Pending", "ReplyStream")

WINDOW_ITEMS: Final = 256
WINDOW_BYTES: Final = 1024 * 1024


class Pending:
    """A call whose answer is waited for.

    Args:
        target: What was called.
        channel: Where.
        number: Its id.
        deadline_at: When the caller gives up.

    Attributes:
        request: The window of the items that the caller streams; closed until the callee is ready for them.
        sent: Whether it may have reached the node.
        over: Whether there is an answer, or there will be none.
        signal: Fires when any of these changes.
        outgoing: The CALL.
    """

    def __init__(self, target: str, channel: str, number: int, deadline_at: float) -> None:
        self.target = target
        self.channel = channel
        self.number = number
        self.deadline_at = deadline_at
        self.request = Outflow((0, 0))
        self.sent = False
        self.over = False
        self.signal = Signal()
        self.outgoing: Outgoing | None = None
        self._value: Any = None
        self.error: Error | None = None

    def on_sent(self) -> None:
        """It has gone out."""
        self.sent = True

    def result(self) -> Any:
        """The answer.

        Raises:
            Error: What the handler, the cluster or the client made of it.
        """
        if self.error is not None:
            raise self.error
        return self._value

    def on_answer(self, received: Received) -> bool:
        """A REPLY, ERROR, ITEM or END came in; True if the other side is to be told CANCEL."""
        match received.kind:
            case Kind.REPLY:
                self.finish(received.body)
            case Kind.ERROR:
                self.fail(from_wire(received.body))
            case Kind.ITEM | Kind.END:
                if not self.over:
                    self.fail(BadRequest(f"{self.target} answers with a stream", hint="use stream() instead of call()"))
                    return received.kind == Kind.ITEM
        return False

    def finish(self, value: Any) -> None:
        """This is the answer."""
        if not self.over:
            self._value = value
            self.over = True
            self.signal.fire()

    def fail(self, error: Error) -> None:
        """There is none, because."""
        if not self.over:
            self.error = error
            self.over = True
            self.signal.fire()

    def on_request_credit(self, body: Any) -> None:
        """The callee wants (more) items."""
        self.request.on_credit(body)
        self.signal.fire()


class ReplyStream(Pending):
    """A call whose answer is a stream; an answer that is none counts as a stream of one."""

    def __init__(self, target: str, channel: str, number: int, deadline_at: float) -> None:
        super().__init__(target, channel, number, deadline_at)
        self.reply = Inflow(WINDOW_ITEMS, WINDOW_BYTES, granted=True)

    def on_answer(self, received: Received) -> bool:
        """As above."""
        if self.over:
            return False
        match received.kind:
            case Kind.ITEM:
                if not self.reply.put(received.body, received.size):
                    self.fail(
                        BadRequest(
                            f"{self.target} sends more items than asked for", hint="report it: a fault over there"
                        )
                    )
                    return True
                self.signal.fire()
            case Kind.REPLY:
                self.reply.put(received.body, 0)
                self._end(None)
            case Kind.ERROR:
                self._end(from_wire(received.body))
            case Kind.END:
                self._end(None if received.body is None else from_wire(received.body))
        return False

    def fail(self, error: Error) -> None:
        """It ends here; what has come can still be read."""
        self._end(error)

    def _end(self, error: Error | None) -> None:
        if not self.over:
            self.over = True
            self.reply.end(error)
            self.signal.fire()

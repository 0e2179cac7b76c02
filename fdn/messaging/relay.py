"""One answer passed on: from an open call to whoever asked for it, without decoding anything."""

from collections.abc import Callable
from typing import Any

from fdn.errors import Error
from fdn.messaging.dispatch import STREAMED
from fdn.messaging.stream_calls import OpenCall
from fdn.messaging.stream_flow import StreamSender

__all__ = ("relay",)


async def relay(
    call: OpenCall, sender: StreamSender, timeout_s: float, error_body: Callable[[BaseException], Any]
) -> object:
    """Pass the answer on.

    Args:
        call: Is closed when this ends, however it does.
        sender: Where the items of a stream go.
        timeout_s: For the whole answer.
        error_body: The encoded form of an error that ends a stream after its first item.

    Returns:
        The body of the one answer, or `STREAMED`.

    Raises:
        Error: As the handler raised it, before the first item.
        DeadlineExceeded: The answer was not complete in time.
    """
    try:
        try:
            body = await call.next_body(timeout_s)
            if call.received.one:
                return body
            while body is not None:
                if not sender.try_send(body):
                    await sender.send(body)
                body = await call.next_body(timeout_s)
        except TimeoutError as late:
            if isinstance(late, Error):
                raise
            raise call.late(timeout_s) from None
    except Error as error:
        if not sender.items:
            raise
        await sender.end(error_body(error))
    else:
        await sender.end()
    finally:
        call.close()
    return STREAMED

"""The errors of this room. A core raises none of them: they belong to the door, where bytes become messages."""

__all__ = ("RemoteProtocolError",)


class RemoteProtocolError(Exception):
    """A peer sent bytes that are no message of the protocol. Count it, report it, drop it."""

"""Everything that fdn raises for its users: one tree, and its form on the wire.

                               .code  .retryable  on the wire
    Error                        1                error
    ├── BadRequest                 2                bad_request
    ├── ConfigError                2                config
    ├── Cancelled                  1                cancelled
    ├── Conflict                   8                conflict
    ├── Corrupt                    1                corrupt
    ├── DeadlineExceeded           5                deadline_exceeded    (also a TimeoutError)
    ├── Denied                     7                denied
    ├── NoQuorum                   6    yes         no_quorum
    ├── NotFound                   4                not_found
    ├── NotLeader                  6    yes         not_leader
    ├── Overloaded                 1    yes         overloaded
    ├── RemoteError                1                remote
    ├── Unreachable                3    yes         unreachable
    └── VersionMismatch            3                version_mismatch

`.code` is the exit status of the `fdn` command. Retryable means that the same request may succeed later *and* was not
carried out: a missed deadline is not retryable, because the work may have been done.

An error crosses the network as the body of an ERROR envelope (`docs/spec/0001-wire.md`). Our own errors are answers
and travel without a traceback; whatever else a handler raises is a crash there, and arrives as a `RemoteError` that
shows it. When that error leaves the next node's handler too, its note is part of the next traceback: so they are
stitched.
"""

import traceback
from collections.abc import Mapping
from typing import Any, ClassVar, Final

__all__ = (
    "MESSAGE_BYTES_MAX",
    "TRACEBACK_BYTES_MAX",
    "BadRequest",
    "Cancelled",
    "ConfigError",
    "Conflict",
    "Corrupt",
    "DeadlineExceeded",
    "Denied",
    "Error",
    "NoQuorum",
    "NotFound",
    "NotLeader",
    "Overloaded",
    "RemoteError",
    "Unreachable",
    "VersionMismatch",
    "from_wire",
    "to_wire",
)

MESSAGE_BYTES_MAX: Final = 4 * 1024
TRACEBACK_BYTES_MAX: Final = 16 * 1024
_FACTS_MAX: Final = 16
_FACT_CHARACTERS_MAX: Final = 256


class Error(Exception):
    """The root of the tree: `except fdn.Error` catches whatever fdn raises on purpose.

    Attributes:
        message: What happened, with the values, and what was expected.
        hint: What to do about it; may be empty.
        facts: The values of the message by name, for programs.
        node: The node that it came from, or empty when it was raised here.
        code: The exit status of the `fdn` command.
        retryable: Whether the same request may succeed later and was surely not carried out.
        wire_code: Its stable name in ERROR envelopes.
    """

    code: ClassVar[int] = 1
    wire_code: str = "error"
    retryable: bool = False

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: dict[str, Any] = facts
        self.node = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class BadRequest(Error):
    """What was asked for makes no sense to the receiver: wrong arguments, wrong types, too large."""

    code = 2
    wire_code = "bad_request"


class ConfigError(Error):
    """A setting is unknown, of the wrong type, out of range or at odds with another."""

    code = 2
    wire_code = "config"


class Cancelled(Error):
    """The call was cancelled at the far side: its handler was stopped before it had an answer."""

    wire_code = "cancelled"


class Conflict(Error):
    """Somebody else was first: a name, a lock, a port, a directory or a revision is taken."""

    code = 8
    wire_code = "conflict"


class Corrupt(Error):
    """What came is not what its digest says it must be."""

    wire_code = "corrupt"


class DeadlineExceeded(Error, TimeoutError):
    """The deadline passed. Whether the work was done is not known."""

    code = 5
    wire_code = "deadline_exceeded"


class Denied(Error):
    """The caller may not do this."""

    code = 7
    wire_code = "denied"


class NoQuorum(Error):
    """Too few voters answer to decide anything."""

    code = 6
    wire_code = "no_quorum"
    retryable = True


class NotFound(Error):
    """No such service, method, member or key."""

    code = 4
    wire_code = "not_found"


class NotLeader(Error):
    """The node asked does not lead; `leader` names the one that does, or is empty."""

    code = 6
    wire_code = "not_leader"
    retryable = True

    @property
    def leader(self) -> str:
        """The node id of the leader as far as the answering node knows."""
        return str(self.facts.get("leader", ""))


class Overloaded(Error):
    """A bound was reached, and the request refused rather than queued without end."""

    wire_code = "overloaded"
    retryable = True


class RemoteError(Error):
    """A handler on another node raised something that is not an `fdn.Error`.

    Attributes:
        remote_type: The class's qualified name over there; it is not imported here.
        remote_traceback: The traceback over there, at most `TRACEBACK_BYTES_MAX`; also shown as a note.
    """

    wire_code = "remote"

    def __init__(
        self,
        message: str,
        *,
        remote_type: str = "",
        remote_traceback: str = "",
        node: str = "",
        hint: str = "",
        **facts: Any,
    ) -> None:
        super().__init__(message, hint=hint, **facts)
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback
        self.node = node
        if remote_traceback:
            self.add_note(f"Traceback on {node or 'the remote node'}:\n{remote_traceback.rstrip()}")


class Unreachable(Error):
    """No node could be reached at that address, or none that offers what was asked for."""

    code = 3
    wire_code = "unreachable"
    retryable = True


class VersionMismatch(Error):
    """The two sides have no protocol version, or no schema, in common."""

    code = 3
    wire_code = "version_mismatch"


_BY_WIRE_CODE: Final[Mapping[str, type[Error]]] = {
    cls.wire_code: cls
    for cls in (
        BadRequest,
        Cancelled,
        ConfigError,
        Conflict,
        Corrupt,
        DeadlineExceeded,
        Denied,
        Error,
        NoQuorum,
        NotFound,
        NotLeader,
        Overloaded,
        Unreachable,
        VersionMismatch,
    )
}


def to_wire(error: BaseException, *, node: str = "") -> dict[str, Any]:
    """The body of the ERROR envelope that reports `error`: plain values, bounded in size.

    Args:
        error: What the handler, or the node itself, raised.
        node: The id of this node. An error that has itself come from another node keeps that node's id.
    """
    if not isinstance(error, Error):
        kind = type(error)
        return {
            "code": RemoteError.wire_code,
            "message": _head(_text_of(error), MESSAGE_BYTES_MAX),
            "node": node,
            "traceback": _tail("".join(traceback.format_exception(error)), TRACEBACK_BYTES_MAX),
            "details": {
                "type": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            },
        }
    body: dict[str, Any] = {
        "code": error.wire_code,
        "message": _head(error.message, MESSAGE_BYTES_MAX),
        "node": error.node or node,
        "retryable": error.retryable,
    }
    if error.hint:
        body["hint"] = _head(error.hint, MESSAGE_BYTES_MAX)
    details = _plain(error.facts)
    if isinstance(error, RemoteError):
        details["type"] = error.remote_type
        # Formatting shows the note, and so the traceback of the node before, under our own frames.
        body["traceback"] = _tail("".join(traceback.format_exception(error)), TRACEBACK_BYTES_MAX)
    if details:
        body["details"] = details
    return body


def from_wire(body: object) -> Error:
    """The error that an ERROR envelope reports. Never raises, whatever a peer has sent.

    A code that this version does not know becomes a `RemoteError`, and keeps it, and the peer's word on `retryable`.
    """
    fields = body if isinstance(body, Mapping) else {}
    wire_code = _text(fields, "code", _FACT_CHARACTERS_MAX)
    message = _text(fields, "message", MESSAGE_BYTES_MAX)
    hint = _text(fields, "hint", MESSAGE_BYTES_MAX)
    node = _text(fields, "node", _FACT_CHARACTERS_MAX)
    details = fields.get("details")
    facts = _plain(details) if isinstance(details, Mapping) else {}
    known = _BY_WIRE_CODE.get(wire_code)
    if known is not None:
        error = known(message or wire_code, hint=hint)
        error.node = node
    else:
        error = RemoteError(
            message or "the peer sent an error without a message",
            remote_type=str(facts.pop("type", "") or wire_code),
            remote_traceback=_text(fields, "traceback", TRACEBACK_BYTES_MAX),
            node=node,
            hint=hint,
        )
        error.retryable = fields.get("retryable") is True
        if wire_code:
            error.wire_code = wire_code  # passed on as it came: whoever hears of it next may know it
    # Not through the constructor: a peer's fact named "hint" must not become an argument.
    error.facts = facts
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # a user's __str__; reporting the error matters more than its wording
        return f"<{type(error).__name__} whose __str__ raised {type(broken).__name__}>"


def _plain(facts: Mapping[Any, Any]) -> dict[str, Any]:
    """The facts that any MessagePack reader understands, few and short; the rest stays where it is."""
    plain: dict[str, Any] = {}
    for key, value in facts.items():
        if len(plain) == _FACTS_MAX:
            break
        if not isinstance(key, str) or len(key) > _FACT_CHARACTERS_MAX:
            continue
        if isinstance(value, str):
            plain[key] = _head(value, _FACT_CHARACTERS_MAX)
        elif value is None or isinstance(value, bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**64):
            plain[key] = value
    return plain


def _text(fields: Mapping[Any, Any], key: str, bytes_max: int) -> str:
    value = fields.get(key)
    return _head(value, bytes_max) if isinstance(value, str) else ""


def _head(text: str, bytes_max: int) -> str:
    """The first `bytes_max` bytes; also free of lone surrogates, which MessagePack strings cannot hold."""
    return text[:bytes_max].encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def _tail(text: str, bytes_max: int) -> str:
    """The last `bytes_max` bytes: the frames nearest to the fault, and its name."""
    encoded = text[-bytes_max:].encode("utf-8", "replace")
    if len(text) <= bytes_max and len(encoded) <= bytes_max:
        return encoded.decode()
    mark = "[earlier lines left out]\n"
    return mark + encoded[len(mark) - bytes_max :].decode("utf-8", "ignore")

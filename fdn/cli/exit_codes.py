"""How a command ends: its exit status, and what it says on standard error when it failed."""

import enum
import json
import sys

import click

from fdn.errors import Error, RemoteError

__all__ = ("ExitCode", "report")


class ExitCode(enum.IntEnum):
    """Every exit status of every command. Those of `fdn.Error` are its `.code`; a test holds the two together."""

    OK = 0  # what was asked for was done
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    DEADLINE = 5
    NO_QUORUM = 6
    DENIED = 7
    CONFLICT = 8
    DEGRADED = 9  # `doctor`, `rtt`, `reachability` and the like: what was asked worked, and what it found is not well
    TARGET_MISSED = 10  # `bench`, `up --demo`: it ran, and a promised number was missed
    INTERRUPTED = 130  # by Ctrl-C, before it was done


def report(error: Error | click.ClickException, as_json: bool) -> int:
    """Say on standard error what went wrong, for a reader or as one JSON object, and return the exit status."""
    if isinstance(error, Error):
        kind, message, hint, retryable, status = error.wire_code, error.message, error.hint, error.retryable, error.code
        if isinstance(error, RemoteError) and error.remote_type:
            message = f"{error.remote_type}: {message}"
        notes = getattr(error, "__notes__", [])
    else:
        kind, message, hint, retryable, status = "usage", error.format_message(), "", False, int(error.exit_code)
        notes = []
        context = error.ctx if isinstance(error, click.UsageError) else None
        if context is not None and not as_json and message == context.get_help():
            # Several commands in one, and none of them named: this is no mistake, and what there is the answer.
            sys.stderr.write(f"{message}\n")
            return status
        if context is not None:
            hint = f"{context.get_usage()}; see {context.command_path} --help"
    if as_json:
        body = {"code": kind, "exit": status, "message": message, "hint": hint, "retryable": retryable, "notes": notes}
        sys.stderr.write(json.dumps({"error": body}) + "\n")
        return status
    # Messages may quote what a peer has sent; no byte of it may drive the terminal.
    lines = [f"error: {message}"] + ([f"hint: {hint}"] if hint else []) + list(notes)
    sys.stderr.write("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in "\n".join(lines)) + "\n")
    return status

"""What the Tab key offers behind a command: names of the running cluster, contexts, settings.

It runs while somebody waits for a prompt: whatever does not answer within a moment is left out, and nothing is ever
written but the words themselves.
"""

import contextlib
import io
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from fdn.cli.options import Invocation
from fdn.errors import Error

__all__ = (
    "COMPLETE_VARIABLE",
    "Complete",
    "complete_channels",
    "complete_contexts",
    "complete_members",
    "complete_services",
    "complete_settings",
    "complete_targets",
)

COMPLETE_VARIABLE: Final = "_FDN_COMPLETE"  # set by a shell that asks for words
_PATIENCE_S: Final = 0.4
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completion(words: Callable[[Invocation], Iterable[str]]) -> Complete:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        invocation = ctx.find_object(Invocation) or Invocation()
        invocation.timeout_s = _PATIENCE_S
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                found = sorted(set(words(invocation)))
            except (Error, OSError, KeyError, TypeError):  # or a node that says what no node of ours would
                return []
        # A name may come from anybody in the cluster: the shell gets only what it cannot take for something else.
        return [word for word in found if word.startswith(incomplete) and word.isprintable() and " " not in word]

    return complete


def _asked(invocation: Invocation, request: str) -> Any:
    from fdn.cli.connection import ask, connected

    with connected(invocation) as client:
        return ask(client, request)


def _members(invocation: Invocation) -> Iterable[str]:
    return [row["name"] for row in _asked(invocation, "fdn.node.members") if row["status"] in ("alive", "suspect")]


def _services(invocation: Invocation) -> Iterable[str]:
    return [row["service"] for row in _asked(invocation, "fdn.node.services")]


def _targets(invocation: Invocation) -> Iterable[str]:
    rows = _asked(invocation, "fdn.node.services")
    return [
        f"{row['service']}.{method}" if method else row["service"] for row in rows for method in row["methods"] or [""]
    ]


def _settings(invocation: Invocation) -> Iterable[str]:
    from fdn.settings import setting_fields

    return [key for key, _ in setting_fields()]


def _channels(invocation: Invocation) -> Iterable[str]:
    from transports.channel import Channel

    return [channel.value for channel in Channel]


complete_channels = _completion(_channels)
complete_contexts = _completion(lambda invocation: invocation.contexts.names())
complete_members = _completion(_members)
complete_services = _completion(_services)
complete_settings = _completion(_settings)
complete_targets = _completion(_targets)

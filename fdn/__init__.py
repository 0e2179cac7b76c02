"""Nodes that find each other, call each other and survive a dead machine: one library, no server to operate.

The names below are the public API. Each is imported when first used, so that the command line and the thin client
start without the node.
"""

import importlib
from typing import TYPE_CHECKING, Final

from fdn._guard import check_rooms

if TYPE_CHECKING:
    from fdn import sync as sync
    from fdn import testing as testing
    from fdn.app import App
    from fdn.client.client import Client
    from fdn.context import Context, deadline, headers
    from fdn.errors import (
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
        RemoteError,
        Unreachable,
        VersionMismatch,
    )
    from fdn.messaging.blobs.blob import Blob
    from fdn.messaging.event_queue import Gap
    from fdn.messaging.interceptors import Incoming, Interceptor, Outgoing
    from fdn.messaging.retry import Retry
    from fdn.messaging.streams import Stream
    from fdn.messaging.subscriptions import Event, Subscription
    from fdn.node import Node
    from fdn.settings import Settings

__all__ = (
    "App",
    "BadRequest",
    "Blob",
    "Cancelled",
    "Client",
    "ConfigError",
    "Conflict",
    "Context",
    "Corrupt",
    "DeadlineExceeded",
    "Denied",
    "Error",
    "Event",
    "Gap",
    "Incoming",
    "Interceptor",
    "NoQuorum",
    "Node",
    "NotFound",
    "NotLeader",
    "Outgoing",
    "Overloaded",
    "RemoteError",
    "Retry",
    "Settings",
    "Stream",
    "Subscription",
    "Unreachable",
    "VersionMismatch",
    "deadline",
    "headers",
)

# Read by the build too (setup.cfg), so it stays a plain string.
__version__ = "0.1.0"

_HOMES: Final = {
    "App": "fdn.app",
    "Blob": "fdn.messaging.blobs.blob",
    "Client": "fdn.client.client",
    "Context": "fdn.context",
    "Event": "fdn.messaging.subscriptions",
    "Gap": "fdn.messaging.event_queue",
    "Incoming": "fdn.messaging.interceptors",
    "Interceptor": "fdn.messaging.interceptors",
    "Node": "fdn.node",
    "Outgoing": "fdn.messaging.interceptors",
    "Retry": "fdn.messaging.retry",
    "Settings": "fdn.settings",
    "Stream": "fdn.messaging.streams",
    "Subscription": "fdn.messaging.subscriptions",
    "deadline": "fdn.context",
    "headers": "fdn.context",
}

_ROOMS: Final = ("sync", "testing")

check_rooms()


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"fdn.{name}")  # which makes it a plain attribute
    if name not in __all__:
        raise AttributeError(f"module 'fdn' has no attribute {name!r}; its public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES.get(name, "fdn.errors")), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

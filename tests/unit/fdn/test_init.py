"""The public API, frozen: what changes here changes for every user, and gets its line in CHANGELOG."""

import subprocess
import sys

import pytest

import fdn

PUBLIC_API = {
    "App": "fdn.app",
    "BadRequest": "fdn.errors",
    "Blob": "fdn.messaging.blobs.blob",
    "Cancelled": "fdn.errors",
    "Client": "fdn.client.client",
    "ConfigError": "fdn.errors",
    "Conflict": "fdn.errors",
    "Context": "fdn.context",
    "Corrupt": "fdn.errors",
    "DeadlineExceeded": "fdn.errors",
    "Denied": "fdn.errors",
    "Error": "fdn.errors",
    "Event": "fdn.messaging.subscriptions",
    "Gap": "fdn.messaging.event_queue",
    "Incoming": "fdn.messaging.interceptors",
    "Interceptor": "fdn.messaging.interceptors",
    "NoQuorum": "fdn.errors",
    "Node": "fdn.node",
    "NotFound": "fdn.errors",
    "NotLeader": "fdn.errors",
    "Outgoing": "fdn.messaging.interceptors",
    "Overloaded": "fdn.errors",
    "RemoteError": "fdn.errors",
    "Retry": "fdn.messaging.retry",
    "Settings": "fdn.settings",
    "Stream": "fdn.messaging.streams",
    "Subscription": "fdn.messaging.subscriptions",
    "Unreachable": "fdn.errors",
    "VersionMismatch": "fdn.errors",
    "deadline": "fdn.context",
    "headers": "fdn.context",
}


def test_api_is_frozen():
    assert fdn.__all__ == tuple(sorted(PUBLIC_API))


@pytest.mark.parametrize(("name", "home"), PUBLIC_API.items())
def test_name_comes_from_its_home(name: str, home: str):
    value = getattr(fdn, name)
    assert (value.__module__, value.__name__) == (home, name)
    assert name in dir(fdn)
    assert vars(fdn)[name] is value  # kept: the second look-up is a plain one


@pytest.mark.parametrize("room", ["sync", "testing"])
def test_rooms_are_there_without_being_imported(room: str):
    look = f"import fdn, sys; assert 'fdn.{room}' not in sys.modules; assert fdn.{room}.__name__ == 'fdn.{room}'"
    subprocess.run([sys.executable, "-c", look], check=True, timeout=30)


def test_errors_are_one_tree():
    errors = [getattr(fdn, name) for name, home in PUBLIC_API.items() if home == "fdn.errors"]
    assert all(issubclass(error, fdn.Error) for error in errors)
    assert issubclass(fdn.DeadlineExceeded, TimeoutError)


def test_unknown_name_is_an_attribute_error_that_lists_the_known():
    with pytest.raises(AttributeError, match=r"no attribute 'Cluster'; its public names: App, .*, deadline"):
        fdn.Cluster  # noqa: B018


def test_version_is_a_release():
    assert all(part.isdigit() for part in fdn.__version__.split("."))

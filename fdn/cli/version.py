"""`fdn version`: what runs here."""

import importlib
import platform
from importlib import metadata

import click

import fdn
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from transports.wire.handshake import PROTOCOL_VERSIONS

__all__ = ("command", "versions")


def versions() -> dict[str, object]:
    """The versions that matter when two nodes do not understand each other."""
    return {
        "fdn": fdn.__version__,
        "protocol": list(PROTOCOL_VERSIONS),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "pyzmq": _installed("pyzmq"),
        "libzmq": _libzmq(),
        "msgspec": _installed("msgspec"),
        "platform": platform.platform(),
    }


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _libzmq() -> str | None:
    # By name: a libzmq that cannot be loaded is something to report here, not a reason to fail.
    try:
        return str(importlib.import_module("zmq").zmq_version())
    except ImportError:
        return None


@examples("fdn version", "fdn version --json")
@click.command("version")
@output_options
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Show the versions of fdn and of what it runs on."""
    invocation.emit(versions())

"""Who a node is: its id, and how often it has booted.

The name is for people; the node id is the name and 64 random bits. With a data directory both the bits and a boot
counter survive a restart, so that the restarted node is the same member with a newer incarnation. Without one every
start is a new node.
"""

import dataclasses
import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from fdn.errors import ConfigError, Conflict

__all__ = ("NodeIdentity", "default_name", "establish")

_FILE = "identity.json"
_LOCK = "lock"


@dataclasses.dataclass(slots=True)
class NodeIdentity:
    """A node's identity for the time that it runs.

    Attributes:
        node: The node id.
        name: The name for people.
        generation: Boots of this data directory, from 1; always 1 without one.
        lock_fd: Descriptor that holds the data directory's lock, or -1.
    """

    node: str
    name: str
    generation: int
    lock_fd: int = -1

    def release(self) -> None:
        """Give the data directory free for another process. Idempotent."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def default_name() -> str:
    """A name for a node that was given none: the host's, made fit, and 32 random bits."""
    host = "".join(c if (c.isascii() and c.isalnum()) or c == "-" else "-" for c in socket.gethostname().lower()).strip(
        "-"
    )
    return f"{host[:40] or 'node'}-{secrets.token_hex(4)}"


def establish(name: str, data_dir: str) -> NodeIdentity:
    """Take the identity kept in `data_dir`, or make one.

    Args:
        name: The configured name; empty takes the kept one, or makes one.
        data_dir: A directory, made if missing; empty keeps nothing.

    Raises:
        ConfigError: The directory or its file cannot be used, or belongs to another name.
        Conflict: Another process uses the directory.
    """
    if not data_dir:
        name = name or default_name()
        return NodeIdentity(f"{name}-{secrets.token_hex(8)}", name, generation=1)
    directory = Path(data_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock_fd = _lock(directory)
    except OSError as error:
        raise ConfigError(
            f"data_dir {data_dir!r} cannot be used: {error.strerror or error}",
            hint="name a directory that this user may write to",
        ) from error
    try:
        return _renew(directory, name, lock_fd)
    except BaseException as error:
        os.close(lock_fd)
        if isinstance(error, OSError):
            raise ConfigError(
                f"the identity in data_dir {data_dir!r} cannot be kept: {error.strerror or error}",
                hint="make the directory and what is in it readable and writable for this user",
            ) from error
        raise


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"data_dir {str(directory)!r} is in use by another process",
            hint="every node needs a data directory of its own; stop the other node, or name another directory",
        ) from None
    return descriptor


def _renew(directory: Path, name: str, lock_fd: int) -> NodeIdentity:
    kept = _read(directory / _FILE)
    if kept is None:
        name = name or default_name()
        identity = NodeIdentity(f"{name}-{secrets.token_hex(8)}", name, 1, lock_fd)
    else:
        if name and name != kept["name"]:
            raise ConfigError(
                f"data_dir {str(directory)!r} belongs to node {kept['name']!r}, not to {name!r}",
                hint="name another data_dir, or delete this one to forget that node",
            )
        identity = NodeIdentity(kept["node"], kept["name"], kept["generation"] + 1, lock_fd)
    _write(directory / _FILE, {"node": identity.node, "name": identity.name, "generation": identity.generation})
    return identity


def _read(file: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text())
        if (
            not isinstance(kept["node"], str)
            or not isinstance(kept["name"], str)
            or not isinstance(kept["generation"], int)
        ):
            raise TypeError("node and name must be strings, generation an integer")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is damaged: {error}",
            hint="restore it from a backup, or delete the directory to start as a new node",
        ) from error
    return dict(kept)


def _write(file: Path, content: dict[str, Any]) -> None:
    """Replace the file so that a crash leaves the old one or the new one, never half of one."""
    fresh = file.with_suffix(".new")
    with open(fresh, "w") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

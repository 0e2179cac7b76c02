"""Contexts: which cluster commands talk to when no flag says so, one small file each.

    $XDG_CONFIG_HOME/fdn/contexts/NAME.toml      join = [...], and any other setting
    $XDG_CONFIG_HOME/fdn/current                 the name of the one in use

`fdn up` writes one with its `pid`, so that a context whose cluster has ended is recognised, and is not waited for.
"""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fdn.config_file import read_toml
from fdn.errors import ConfigError, Conflict, NotFound

__all__ = ("ClusterContext", "ContextStore")

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterContext:
    """What a context says.

    Attributes:
        join: Base addresses of nodes to talk to.
        cluster: The cluster's name; empty leaves it to the other settings.
        pid: The process that the cluster lives and dies with, or 0.
    """

    join: tuple[str, ...] = ()
    cluster: str = ""
    pid: int = 0

    @property
    def ended(self) -> bool:
        """Whether the process it lives with is gone."""
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # somebody else's process, but a process
        return False


class ContextStore:
    """The contexts of one user."""

    def __init__(self, root: Path) -> None:
        """Keep contexts under `root`, which is made when the first is written."""
        self._root = root

    @classmethod
    def of_user(cls, env: Mapping[str, str]) -> "ContextStore":
        """The store of the user whose environment this is."""
        base = env.get("XDG_CONFIG_HOME", "")
        # The XDG specification: a relative path is to be ignored.
        root = Path(base) if os.path.isabs(base) else Path(env.get("HOME") or Path.home()) / ".config"
        return cls(root / "fdn")

    def path(self, name: str) -> Path:
        """The file of a context, whether it exists or not."""
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f'context "{name}": expected 1 to 64 characters of A-Z a-z 0-9 . _ -, the first no . or -'
            )
        return self._root / "contexts" / f"{name}.toml"

    def names(self) -> list[str]:
        """The contexts there are, sorted."""
        return sorted(path.stem for path in (self._root / "contexts").glob("*.toml") if _NAME.fullmatch(path.stem))

    def read(self, name: str) -> ClusterContext:
        """One context.

        Raises:
            NotFound: There is none of that name.
            ConfigError: Its file is damaged.
        """
        path = self.path(name)
        if not path.exists():
            known = ", ".join(self.names())
            raise NotFound(
                f'there is no context "{name}"',
                hint=f"there are: {known}" if known else "`fdn up` makes one, and `fdn context add`",
                context=name,
            )
        tree, _ = read_toml(path)
        join, cluster, pid = tree.get("join", []), tree.get("cluster", ""), tree.get("pid", 0)
        if (
            not isinstance(join, list)
            or not all(isinstance(address, str) for address in join)
            or not isinstance(cluster, str)
            or not isinstance(pid, int)
        ):
            raise ConfigError(
                f"{path}: expected join as a list of strings, cluster as a string and pid as a whole number",
                hint="mend the file, or delete it",
            )
        return ClusterContext(join=tuple(join), cluster=cluster, pid=pid)

    def write(self, name: str, context: ClusterContext) -> None:
        """Make or replace a context."""
        # JSON's strings and lists of strings are TOML's too.
        lines = [f"join = {json.dumps(list(context.join))}"]
        if context.cluster:
            lines.append(f"cluster = {json.dumps(context.cluster)}")
        if context.pid:
            lines.append(f"pid = {context.pid}")
        _replace(self.path(name), "\n".join(lines) + "\n")

    def remove(self, name: str) -> None:
        """Remove a context, and stop using it. It need not exist."""
        self.path(name).unlink(missing_ok=True)
        if self.current() == name:
            self.use("")

    def current(self) -> str:
        """The name of the context in use, or empty. It may be of a context that is gone."""
        try:
            name = (self._root / "current").read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return name if _NAME.fullmatch(name) else ""

    def use(self, name: str) -> None:
        """Use this context from now on; empty uses none."""
        if name:
            self.path(name)  # refuses what could not be a name
            _replace(self._root / "current", name + "\n")
        else:
            (self._root / "current").unlink(missing_ok=True)

    def check_free(self, name: str, pid: int) -> None:
        """Whether process `pid` may make a context of that name.

        Raises:
            Conflict: It belongs to another process that still runs.
        """
        if name not in self.names():
            self.path(name)  # refuses what could not be a name
            return
        held = self.read(name)
        if held.pid and held.pid != pid and not held.ended:
            raise Conflict(
                f'context "{name}" belongs to process {held.pid}, which still runs',
                hint="stop it, or take another name",
            )

    @contextlib.contextmanager
    def temporary(self, name: str, context: ClusterContext) -> Iterator[None]:
        """Use a context for as long as the block runs, then the former one again.

        Raises:
            Conflict: A context of that name belongs to another process that still runs.
        """
        self.check_free(name, context.pid)
        former = self.current()
        self.write(name, context)
        self.use(name)
        try:
            yield
        finally:
            # Another process may have taken over either file by now; then it is not ours to undo.
            if self.current() == name:
                self.use(former if former != name and former in self.names() else "")
            if name in self.names() and self.read(name) == context:
                self.path(name).unlink(missing_ok=True)


def _replace(path: Path, content: str) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                stream.write(content)
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="set XDG_CONFIG_HOME to a directory that this user may write to",
        ) from error

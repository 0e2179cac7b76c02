"""Which source files have changed, found by looking: a few hundred files cost a millisecond, and no dependency."""

import asyncio
import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ("FILES_MAX", "POLL_S", "SourceWatch", "syntax_errors")

POLL_S: Final = 0.3
# Past these a folder is no app's, but somebody's home: what is there beyond is not watched.
FILES_MAX: Final = 10_000
_FOLDERS_MAX: Final = 2_000
_SUFFIXES: Final = (".py", ".toml")
_NOT_SOURCE: Final = frozenset({"__pycache__", "node_modules", "build", "dist"})

_Snapshot = Mapping[str, tuple[int, int]]  # path -> when it was written, and its size


class SourceWatch:
    """Looks at the source in some folders, and below them.

    Folders whose name begins with a dot, virtual environments and what is built are left out.

    Args:
        folders: Where to look.
        poll_s: How often.
    """

    def __init__(self, folders: Sequence[Path], poll_s: float = POLL_S) -> None:
        self._folders = folders
        self._poll_s = poll_s
        self._seen = _snapshot(folders)

    @property
    def count(self) -> int:
        """How many files are watched."""
        return len(self._seen)

    def look(self) -> list[Path]:
        """What was written, made or deleted since the last look, or since the making of this object."""
        before, self._seen = self._seen, _snapshot(self._folders)
        names = before.keys() | self._seen.keys()
        return sorted(Path(name) for name in names if before.get(name) != self._seen.get(name))

    async def changed(self) -> list[Path]:
        """Return when something has changed, and nothing more does: an editor or a checkout writes many files."""
        changed: set[Path] = set()
        while True:
            now = await asyncio.to_thread(self.look)
            if changed and not now:
                return sorted(changed)
            changed.update(now)
            await asyncio.sleep(self._poll_s)


def syntax_errors(files: Iterable[Path]) -> list[str]:
    """What Python would say of each of these files that it cannot read. Nothing is run."""
    errors = []
    for file in files:
        if file.suffix != ".py":
            continue
        try:
            compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            errors.append("".join(traceback.format_exception_only(error)).rstrip())
        except OSError:
            pass  # it is gone, which is a change like any other
    return errors


def _snapshot(folders: Sequence[Path]) -> _Snapshot:
    found: dict[str, tuple[int, int]] = {}
    walked = 0
    for folder in folders:
        for directory, names, files in os.walk(folder):
            walked += 1
            # In place, so that `walk` does not go there.
            names[:] = sorted(name for name in names if _is_source(directory, name))
            for name in files:
                if name.endswith(_SUFFIXES) and len(found) < FILES_MAX:
                    path = os.path.join(directory, name)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue  # deleted just now, or a link to nowhere
                    found[path] = (status.st_mtime_ns, status.st_size)
            if len(found) >= FILES_MAX or walked >= _FOLDERS_MAX:
                return found
    return found


def _is_source(directory: str, name: str) -> bool:
    if name.startswith(".") or name in _NOT_SOURCE:
        return False
    return not os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))

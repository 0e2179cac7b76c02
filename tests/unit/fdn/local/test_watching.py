import asyncio
import os
from pathlib import Path

import pytest

from fdn.local import watching
from fdn.local.watching import SourceWatch, syntax_errors


def write(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_changed(tmp_path: Path):
    kept = write(tmp_path / "kept.py")
    watch = SourceWatch([tmp_path])
    assert watch.look() == []
    made = write(tmp_path / "inner" / "made.py")
    assert watch.look() == [made]
    write(kept, "x = 22\n")
    made.unlink()
    assert watch.look() == [made, kept]
    os.utime(kept, ns=(1, 1))
    assert watch.look() == [kept], "written again, with the same text"
    assert watch.look() == []
    assert watch.count == 1


def test_only_source_is_watched(tmp_path: Path):
    write(tmp_path / "fdn.toml")
    for name in (
        "a.pyc",
        "data.csv",
        ".git/x.py",
        "__pycache__/x.py",
        "node_modules/x.py",
        "venv/lib/x.py",
        "build/x.py",
    ):
        write(tmp_path / name)
    write(tmp_path / "venv" / "pyvenv.cfg")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert SourceWatch([tmp_path]).count == 1


def test_somebody_s_home_is_not_walked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(20):
        write(tmp_path / f"folder{number:02}" / "x.py")
    monkeypatch.setattr(watching, "FILES_MAX", 5)
    assert SourceWatch([tmp_path]).count == 5
    monkeypatch.setattr(watching, "FILES_MAX", 100)
    monkeypatch.setattr(watching, "_FOLDERS_MAX", 3)
    assert SourceWatch([tmp_path]).count == 2


def test_changes_are_told_when_they_have_settled(tmp_path: Path):
    async def check() -> None:
        watch = SourceWatch([tmp_path], poll_s=0.001)
        changed = asyncio.create_task(watch.changed())
        first = write(tmp_path / "a.py")
        assert await changed == [first]
        second, third = write(tmp_path / "b.py"), write(tmp_path / "c.py")
        assert await watch.changed() == [second, third]

    asyncio.run(check())


def test_syntax_errors(tmp_path: Path):
    good, bad = write(tmp_path / "good.py"), write(tmp_path / "bad.py", "def f(:\n")
    null = write(tmp_path / "null.py", "\0")
    text = write(tmp_path / "fdn.toml", "not Python")
    (error,) = syntax_errors([good, bad, text, tmp_path / "deleted.py"])
    assert "bad.py" in error
    assert "SyntaxError" in error
    assert len(syntax_errors([null])) == 1

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.storage.directory import LockedDirectory
from consensus.storage.errors import DirectoryLocked, StorageFailed

HOLD = """
import sys
from pathlib import Path
from consensus.storage.directory import LockedDirectory
held = LockedDirectory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time_and_the_lock_dies_with_it(tmp_path: Path):
    path = tmp_path / "a" / "b"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DirectoryLocked, match=f"pid {holder.pid}"):
            LockedDirectory(path)
    finally:
        holder.kill()
        holder.communicate()
    directory = LockedDirectory(path)
    assert os.stat(path).st_mode & 0o077 == 0, "nobody else may read it"
    directory.sync()
    directory.close()
    directory.close()


def test_twice_in_one_process_is_refused_too(tmp_path: Path):
    first = LockedDirectory(tmp_path)
    with pytest.raises(DirectoryLocked, match=str(os.getpid())):
        LockedDirectory(tmp_path)
    first.close()


def test_what_is_no_directory(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be used"):
        LockedDirectory(tmp_path / "file")

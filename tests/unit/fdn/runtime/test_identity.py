import json
import os
import re
from pathlib import Path

import pytest

from fdn.errors import ConfigError, Conflict
from fdn.runtime.identity import default_name, establish


def test_without_a_directory_every_start_is_a_new_node():
    one, two = establish("n1", ""), establish("n1", "")
    assert one.name == two.name == "n1"
    assert one.node != two.node
    assert re.fullmatch(r"n1-[0-9a-f]{16}", one.node)
    assert one.generation == 1
    one.release()


def test_with_one_it_is_the_same_node_in_a_newer_life(tmp_path: Path):
    directory = str(tmp_path / "deep" / "down")
    lives = []
    for _ in range(3):
        identity = establish("n1", directory)
        lives.append((identity.node, identity.name, identity.generation))
        identity.release()
        identity.release()
    assert [generation for _, _, generation in lives] == [1, 2, 3]
    assert len({node for node, _, _ in lives}) == 1


def test_a_kept_name_need_not_be_repeated(tmp_path: Path):
    first = establish("", str(tmp_path))
    first.release()
    again = establish("", str(tmp_path))
    assert (again.node, again.name) == (first.node, first.name)
    again.release()


def test_one_process_at_a_time(tmp_path: Path):
    holder = establish("n1", str(tmp_path))
    with pytest.raises(Conflict, match="is in use by another process"):
        establish("n1", str(tmp_path))
    holder.release()
    establish("n1", str(tmp_path)).release()


def test_another_name_is_refused_and_the_lock_given_back(tmp_path: Path):
    establish("n1", str(tmp_path)).release()
    with pytest.raises(ConfigError, match="belongs to node 'n1', not to 'n2'"):
        establish("n2", str(tmp_path))
    again = establish("n1", str(tmp_path))
    assert again.generation == 2  # the refused start was no life
    again.release()


DAMAGED = [
    b"", b"{", b"[]", b"7", b"null", b'{"node": "n1-1"}', b'{"node": 1, "name": "n1", "generation": 1}',
    b'{"node": "n1-1", "name": "n1", "generation": "1"}', b"\xff\xfe", b"\0" * 100,
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED, ids=repr)
def test_a_damaged_file_is_never_overwritten(tmp_path: Path, content: bytes):
    file = tmp_path / "identity.json"
    file.write_bytes(content)
    for _ in range(2):
        with pytest.raises(ConfigError, match="is damaged"):
            establish("n1", str(tmp_path))
    assert file.read_bytes() == content


def test_a_crash_while_writing_leaves_the_old_identity(tmp_path: Path):
    first = establish("n1", str(tmp_path))
    first.release()
    (tmp_path / "identity.new").write_text('{"node": "half')
    again = establish("n1", str(tmp_path))
    assert again.node == first.node
    again.release()
    assert json.loads((tmp_path / "identity.json").read_text())["generation"] == 2


def test_directories_that_cannot_be_used(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        establish("n1", str(file))
    with pytest.raises(ConfigError, match="cannot be used"):
        establish("n1", str(file / "below"))
    (tmp_path / "odd" / "identity.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be kept"):
        establish("n1", str(tmp_path / "odd"))


def test_no_descriptor_is_left_by_a_start_that_fails(tmp_path: Path):
    (tmp_path / "identity.json").write_text("{")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(10):
        with pytest.raises(ConfigError):
            establish("n1", str(tmp_path))
    assert (len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0) == before


@pytest.mark.parametrize("host", ["Bücher_Regal.local.", "٣", "", "-", "x" * 100, "a-b"])
def test_a_default_name_is_a_name_whatever_the_host_is_called(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-[0-9a-f]{8}", default_name())
    assert len(default_name()) <= 64


def test_a_default_name_is_a_name():
    names = {default_name() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", name) for name in names)

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdn.cli.contexts import ClusterContext, ContextStore
from fdn.config_file import load
from fdn.errors import ConfigError, Conflict, NotFound

MINE = ClusterContext(join=("tcp://127.0.0.1:7400",), pid=os.getpid())


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "fdn")


@pytest.fixture
def ended_pid() -> int:
    """The id of a process that has ended and been waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=30)
    return process.pid


def test_where_contexts_are_kept() -> None:
    assert ContextStore.of_user({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}).path("a") == Path("/x/fdn/contexts/a.toml")
    assert ContextStore.of_user({"HOME": "/h"}).path("a") == Path("/h/.config/fdn/contexts/a.toml")
    # The XDG specification: relative paths are invalid and to be ignored.
    assert ContextStore.of_user({"XDG_CONFIG_HOME": "x", "HOME": "/h"}).path("a") == Path(
        "/h/.config/fdn/contexts/a.toml"
    )


def test_what_is_written_is_read_back_by_us_and_as_settings(store: ContextStore) -> None:
    context = ClusterContext(join=("tcp://h:1", "tcp://[::1]:2"), cluster="blue", pid=os.getpid())
    store.write("up", context)
    assert store.read("up") == context
    settings = load(context=store.path("up"), files=[]).settings
    assert (settings.join, settings.cluster) == (context.join, "blue")
    assert store.path("up").stat().st_mode & 0o077 == 0


def test_names_and_the_current_one(store: ContextStore) -> None:
    assert (store.names(), store.current()) == ([], "")
    store.write("b", MINE)
    store.write("a", MINE)
    store.use("a")
    assert (store.names(), store.current()) == (["a", "b"], "a")
    store.remove("a")
    assert (store.names(), store.current()) == (["b"], "")
    store.remove("a")
    store.use("b")
    store.use("")
    store.use("")
    assert store.current() == ""


def test_what_is_not_there_is_told_with_what_is(store: ContextStore) -> None:
    with pytest.raises(NotFound, match='no context "prod"; `fdn up` makes one'):
        store.read("prod")
    store.write("up", MINE)
    with pytest.raises(NotFound, match="there are: up"):
        store.read("prod")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a\n", "x" * 65])
def test_names_cannot_leave_the_folder(store: ContextStore, name: str) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 64"):
        store.path(name)


@pytest.mark.parametrize("text", ['join = "a:1"', "join = [1]", "cluster = 1", 'pid = "x"', "join = ["])
def test_a_damaged_file_is_named(store: ContextStore, text: str) -> None:
    store.write("up", MINE)
    store.path("up").write_text(text)
    with pytest.raises(ConfigError, match=r"up\.toml"):
        store.read("up")


def test_a_damaged_current_file_is_no_context(store: ContextStore) -> None:
    store.write("up", MINE)
    store.use("up")
    (store.path("up").parents[1] / "current").write_bytes(b"\xff../..")
    assert store.current() == ""


def test_a_cluster_that_ended_is_known_by_its_process(ended_pid: int) -> None:
    assert not MINE.ended
    assert not ClusterContext().ended
    assert not ClusterContext(pid=1).ended  # not ours to signal, but there
    assert ClusterContext(pid=ended_pid).ended
    assert ClusterContext(pid=2**80).ended


def test_a_temporary_context_leaves_no_trace(store: ContextStore) -> None:
    store.write("prod", ClusterContext(join=("tcp://p:1",)))
    store.use("prod")
    with store.temporary("up", MINE):
        assert (store.current(), store.read("up")) == ("up", MINE)
    assert (store.current(), store.names()) == ("prod", ["prod"])


def test_a_temporary_context_goes_when_the_block_fails(store: ContextStore) -> None:
    with pytest.raises(RuntimeError), store.temporary("up", MINE):
        raise RuntimeError
    assert (store.current(), store.names()) == ("", [])


def test_a_temporary_context_of_a_living_process_is_not_taken(store: ContextStore) -> None:
    held = ClusterContext(pid=os.getppid())
    store.write("up", held)
    with pytest.raises(Conflict, match=f"process {os.getppid()}, which still runs"), store.temporary("up", MINE):
        pass
    assert store.read("up") == held


def test_what_a_killed_cluster_left_behind_is_replaced(store: ContextStore, ended_pid: int) -> None:
    store.write("up", ClusterContext(pid=ended_pid))
    store.use("up")
    with store.temporary("up", MINE):
        assert store.read("up") == MINE
    assert (store.current(), store.names()) == ("", [])


def test_what_another_has_taken_over_is_not_undone(store: ContextStore) -> None:
    other = ClusterContext(pid=os.getppid())
    with store.temporary("up", MINE):
        store.write("up", other)
        store.use("elsewhere")
    assert (store.current(), store.read("up")) == ("elsewhere", other)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "fdn").write_text("a file in the way")
    with pytest.raises(ConfigError, match=r"cannot be written.*XDG_CONFIG_HOME"):
        ContextStore(tmp_path / "fdn").write("up", MINE)

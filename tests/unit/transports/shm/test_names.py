import os
import stat

import pytest

from transports.shm.names import create, is_name, open_shared, remove_unused, sweep


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path)


def test_a_name_cannot_be_guessed_and_the_file_not_be_read_by_others(folder):
    fd, name = create(folder)
    other, other_name = create(folder)
    assert is_name(name)
    assert name != other_name
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.close(fd)
    os.close(other)


@pytest.mark.parametrize("name", ["", "fdn-", "../etc/passwd", "fdn-" + "0" * 31, "fdn-" + "G" * 32, "fdn-" + "0" * 33])
def test_only_names_are_opened(folder, name):
    assert not is_name(name)
    with pytest.raises(ValueError, match="no name"):
        open_shared(folder, name)


def test_a_file_in_use_is_opened_and_not_swept(folder):
    fd, name = create(folder)
    reader = open_shared(folder, name)
    assert sweep(folder) == 0
    os.close(fd)
    assert sweep(folder) == 0  # the reader uses it
    os.close(reader)
    assert sweep(folder) == 1
    assert os.listdir(folder) == []
    with pytest.raises(FileNotFoundError):
        open_shared(folder, name)


def test_only_the_last_removes_it(folder):
    fd, name = create(folder)
    reader = open_shared(folder, name)
    assert not remove_unused(folder, name, fd)
    os.close(fd)
    assert os.listdir(folder) == [name]
    assert remove_unused(folder, name, reader)
    os.close(reader)
    assert os.listdir(folder) == []


def test_what_is_not_ours_is_left_alone(folder):
    name = "fdn-" + "0" * 32
    os.mkdir(os.path.join(folder, name))
    os.symlink("/etc/passwd", os.path.join(folder, "fdn-" + "1" * 32))
    os.mkfifo(os.path.join(folder, "fdn-" + "2" * 32))
    open(os.path.join(folder, "another"), "w").close()
    assert sweep(folder) == 0
    assert len(os.listdir(folder)) == 4
    for other in "012":
        with pytest.raises(OSError):  # noqa: PT011  # each system has a number of its own for it
            open_shared(folder, "fdn-" + other * 32)
    assert sweep("/nowhere") == 0


def test_a_sweep_between_creation_and_lock_makes_another(folder, monkeypatch):
    import fcntl

    real = fcntl.flock
    swept: list[bool] = []

    def flock(fd: int, operation: int) -> None:
        if not swept:
            swept.append(True)
            assert sweep(folder) == 1
        real(fd, operation)

    monkeypatch.setattr("transports.shm.names.fcntl.flock", flock)
    fd, name = create(folder)
    assert os.listdir(folder) == [name]
    os.close(fd)

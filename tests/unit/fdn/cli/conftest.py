"""Commands run here in a folder, with a home and an environment, of their own."""

import os
from pathlib import Path

import pytest

import fdn
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FDN_") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # Processes started from there find this fdn, installed or not.
    monkeypatch.setenv("PYTHONPATH", str(Path(fdn.__file__).parents[1]))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster without processes: the commands' clients reach it in place of the network."""
    fake = FakeCluster()
    monkeypatch.setattr("fdn.sync.Client", fake.client)
    return fake

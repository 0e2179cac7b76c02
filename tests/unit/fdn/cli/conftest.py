"""Commands run here in a folder, with a home and an environment, of their own."""

import os
from pathlib import Path

import pytest

import fdn


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

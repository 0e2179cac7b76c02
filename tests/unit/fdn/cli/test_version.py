import importlib
import json
import platform
from importlib import metadata

import pytest

import fdn
from fdn.cli.root import run
from fdn.cli.version import versions


def test_what_two_nodes_need_to_compare_is_there() -> None:
    found = versions()
    assert found["fdn"] == fdn.__version__
    assert found["python"] == platform.python_version()
    assert found["pyzmq"] == metadata.version("pyzmq")
    assert found["protocol"] == [1, 1]
    assert str(found["libzmq"]).startswith("4.")


def test_it_prints_a_record_or_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"fdn             {fdn.__version__}\n")
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == versions()


def test_a_library_that_cannot_be_loaded_is_a_gap_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, package: str | None = None) -> object:
        raise ImportError(name)

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.setattr(metadata, "version", missing)
    assert (versions()["libzmq"], versions()["pyzmq"]) == (None, None)

import importlib.util
import json
from pathlib import Path

import pytest

from fdn.cli.root import run


def test_an_app_and_a_service(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["new", "app", "my-shop"]) == 0
    out, err = capsys.readouterr()
    assert "my-shop/my_shop/app.py" in out
    assert err == "next: cd my-shop; python -m pytest; fdn run my_shop.app:app\n"
    monkeypatch.chdir("my-shop")
    assert run(["new", "service", "billing", "--json"]) == 0
    files = [row["file"] for row in json.loads(capsys.readouterr().out)]
    assert files == ["my_shop/billing.py", "tests/test_billing.py", "my_shop/app.py"]
    assert all(Path(file).exists() for file in files)


def test_without_pytest_it_is_said_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(["new", "app", "shop"]) == 0
    assert "cd shop; pip install pytest; python -m pytest; fdn run" in capsys.readouterr().err


def test_what_goes_wrong_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop").mkdir()
    Path("shop/mine.txt").write_text("")
    assert run(["new", "app", "shop"]) == 8
    assert run(["new", "app", "Shop!"]) == 2
    assert run(["new", "service", "billing"]) == 2
    assert "make one with `fdn new app NAME`" in capsys.readouterr().err

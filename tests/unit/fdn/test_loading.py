import sys
from pathlib import Path

import pytest

from fdn.app import App
from fdn.errors import BadRequest
from fdn.loading import load_app, source_folders

CALC = """
import fdn
app = fdn.App("calc")


class Holder:
    app = app


def make() -> fdn.App:
    return fdn.App("made")


def make_nothing() -> None: ...


def make_for(name: str) -> fdn.App:
    return fdn.App(name)


def make_wrongly() -> fdn.App:
    return make_for()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    Path("calc_of_this_test.py").write_text(CALC)
    Path("shop_of_this_test").mkdir()
    Path("shop_of_this_test/__init__.py").write_text("")
    Path("shop_of_this_test/app.py").write_text(CALC)
    Path("broken_of_this_test.py").write_text("import a_module_that_is_not_there\n")
    assert before


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("calc_of_this_test:app", "calc"),
        ("calc_of_this_test:Holder.app", "calc"),
        ("calc_of_this_test:make", "made"),
        ("shop_of_this_test.app:app", "calc"),
    ],
)
def test_apps_are_found_from_here(name: str, app: str):
    found = load_app(name)
    assert isinstance(found, App)
    assert found.name == app


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calc", "expected MODULE:APP"),
        (":app", "expected MODULE:APP"),
        ("calc_of_this_test:", "expected MODULE:APP"),
        ("calc_of_this_test:nothing", "holds nothing of that name; it has app"),
        ("calc_of_this_test:Holder", "type, not an fdn.App; it has app"),
        ("calc_of_this_test:make_nothing", "nothing of that name"),
        ("calc_of_this_test:make_for", "cannot be called: .* 'name'"),
        ("json:dumps", "cannot be called"),
        ("json:decoder", "module, not an fdn.App; it has no fdn.App"),
        ("calc_of_this_test.inner:app", 'there is no module "calc_of_this_test.inner"'),
        ("calc_of_this_tset:app", 'there is no module "calc_of_this_tset" .*; did you mean "calc_of_this_test"'),
        ("shop_of_this_test.ap:app", 'did you mean "shop_of_this_test.app"'),
        ("nosuchmodule:app", "it is looked for in .* and where Python looks"),
    ],
)
def test_what_is_no_app_is_said(name: str, said: str):
    with pytest.raises(BadRequest, match=said):
        load_app(name)


def test_a_mistake_inside_is_not_hidden():
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_app("broken_of_this_test:app")
    with pytest.raises(TypeError, match="make_for"):
        load_app("calc_of_this_test:make_wrongly")


def test_where_the_source_is(tmp_path: Path):
    shop = tmp_path / "shop_of_this_test"
    assert source_folders(["shop_of_this_test.app:app"]) == [shop]
    assert source_folders(["calc_of_this_test:app"]) == [tmp_path]
    assert source_folders(["shop_of_this_test.app:app", "calc_of_this_test:app"]) == [tmp_path]
    assert source_folders(["broken_of_this_test:app"]) == [tmp_path], "nothing is run to find out"


@pytest.mark.parametrize(
    ("name", "said"), [("sys:app", "no source"), ("calc_of_this_tset:app", "did you mean"), ("calc", "MODULE:APP")]
)
def test_what_has_no_source(name: str, said: str):
    with pytest.raises(BadRequest, match=said):
        source_folders([name])

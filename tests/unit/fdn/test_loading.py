import sys
import traceback
from pathlib import Path

import pytest

from fdn.app import App
from fdn.errors import BadRequest, ConfigError, Error
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
    Path("broken_of_these_tests.py").write_text("import a_module_that_is_not_there\n")
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
        ("calc", 'expected MODULE:APP.*; did you mean "calc:app"'),
        (":app", "expected MODULE:APP: [^;]*$"),
        ("calc.py", 'did you mean "calc:app"'),
        ("./calc.py:app", 'did you mean "calc:app"'),
        ("shop/app.py:make", 'did you mean "shop.app:make"'),
        ("../calc:app", 'did you mean "calc:app"'),
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


@pytest.mark.parametrize(
    ("name", "said", "line"),
    [
        ("broken_of_these_tests:app", "cannot be imported: ModuleNotFoundError: .*a_module_that_is_not_there", 1),
        ("calc_of_this_test:make_wrongly", "make_wrongly failed: TypeError: .*make_for", 22),
    ],
)
def test_a_mistake_inside_is_shown_where_it_is(
    name: str, said: str, line: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Error, match=said) as caught:
        load_app(name)
    assert type(caught.value) is Error, "the app failed; what was asked for is in order"
    assert "Traceback" in caplog.text
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__ if caught.value.__cause__ else None)
    assert [(frame.lineno, Path(frame.filename).stem) for frame in frames] == [(line, name.partition(":")[0])]


def test_a_file_that_is_no_python_is_shown(caplog: pytest.LogCaptureFixture):
    Path("unread_of_these_tests.py").write_text("app = fdn.App(\n")
    with pytest.raises(Error, match="unread_of_these_tests cannot be imported: SyntaxError"):
        load_app("unread_of_these_tests:app")
    assert 'unread_of_these_tests.py", line 1' in caplog.text


def test_what_an_app_declares_wrongly_is_said_with_its_line():
    Path("wrong_of_these_tests.py").write_text('import fdn\napp = fdn.App()\napp.service("a b")(len)\n')
    with pytest.raises(ConfigError, match="'a b' is not a name") as caught:
        load_app("wrong_of_these_tests:app")
    (said,) = caught.value.__notes__
    assert said.endswith("wrong_of_these_tests.py, line 3")


def test_where_the_source_is(tmp_path: Path):
    shop = tmp_path / "shop_of_this_test"
    assert source_folders(["shop_of_this_test.app:app"]) == [shop]
    assert source_folders(["calc_of_this_test:app"]) == [tmp_path]
    assert source_folders(["shop_of_this_test.app:app", "calc_of_this_test:app"]) == [tmp_path]
    assert source_folders(["broken_of_these_tests:app"]) == [tmp_path], "nothing is run to find out"


@pytest.mark.parametrize(
    ("name", "said"), [("sys:app", "no source"), ("calc_of_this_tset:app", "did you mean"), ("calc", "MODULE:APP")]
)
def test_what_has_no_source(name: str, said: str):
    with pytest.raises(BadRequest, match=said):
        source_folders([name])

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fdn
from fdn.config_file import load
from fdn.errors import BadRequest, ConfigError, Conflict
from fdn.scaffold import new_app, new_service

ROOT = Path(fdn.__file__).parents[1]


def python(folder: Path, *arguments: str) -> None:
    """Run Python there, and demand that it ends well."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shop", "my-shop"])
def test_what_is_made_is_sound(name: str, tmp_path: Path):
    package = name.replace("-", "_")
    made = new_app(name, tmp_path)
    assert {str(path) for path in made} == {
        *(f"{name}/{file}" for file in ("README.md", "pyproject.toml", "fdn.toml", f"tests/test_{package}.py")),
        *(f"{name}/{package}/{file}.py" for file in ("__init__", "app", "contracts", "greeter", "counter")),
    }
    folder = tmp_path / name
    files = [Path(f"{package}/mail_box.py"), Path("tests/test_mail_box.py"), Path(f"{package}/app.py")]
    assert new_service("mail-box", folder) == files
    new_service("a", folder)
    new_service("z", folder)
    python(folder, "pytest", "-q", "-p", "no:cacheprovider")
    python(folder, "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", ".")
    python(folder, "ruff", "check", "--no-cache", ".")
    python(folder, "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize(
    "name", ["", "X", "1shop", "my shop", "a/b", "..", "-a", "a-", "a--b", "x" * 41, "fdn", "json", "class", "tests"]
)
def test_names_that_will_not_do(name: str, tmp_path: Path):
    with pytest.raises(BadRequest):
        new_app(name, tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_overwritten(tmp_path: Path):
    new_app("shop", tmp_path)
    with pytest.raises(Conflict, match="shop is there already"):
        new_app("shop", tmp_path)
    folder = tmp_path / "shop"
    new_service("billing", folder)
    before = {path: path.read_text() for path in folder.rglob("*.py")}
    with pytest.raises(Conflict, match=r"billing\.py is there already"):
        new_service("billing", folder)
    for name in ("app", "contracts", "greeter"):
        with pytest.raises(BadRequest, match="is taken"):
            new_service(name, folder)
    (folder / "tests/test_mail.py").write_text("")
    with pytest.raises(Conflict, match=r"test_mail\.py is there already"):
        new_service("mail", folder)
    assert not (folder / "shop/mail.py").exists()
    assert {path: path.read_text() for path in before} == before


def test_an_empty_folder_may_be_there(tmp_path: Path):
    (tmp_path / "shop").mkdir()
    assert new_app("shop", tmp_path)


def test_an_app_as_its_owner_has_changed_it(tmp_path: Path):
    new_app("shop", tmp_path)
    app = tmp_path / "shop/shop/app.py"
    app.write_text(
        '"""Ours."""\nimport fdn\nfrom x import (\n    y,\n)\n\n'
        'app = fdn.App(\n    "shop",\n)\n\n\n@app.every(1)\ndef f(): ...\n'
    )
    new_service("billing", tmp_path / "shop")
    assert app.read_text() == (
        '"""Ours."""\nimport fdn\nfrom x import (\n    y,\n)\nfrom shop.billing import BillingService\n\n'
        'app = fdn.App(\n    "shop",\n)\napp.service("billing")(BillingService)\n\n\n@app.every(1)\ndef f(): ...\n'
    )


@pytest.mark.parametrize(("source", "said"), [("x = 1\n", "no line `app"), ("def (", "cannot be read")])
def test_an_app_that_cannot_take_one(source: str, said: str, tmp_path: Path):
    new_app("shop", tmp_path)
    (tmp_path / "shop/shop/app.py").write_text(source)
    with pytest.raises(ConfigError, match=said):
        new_service("billing", tmp_path / "shop")
    assert not (tmp_path / "shop/shop/billing.py").exists()


def test_which_app(tmp_path: Path):
    with pytest.raises(ConfigError, match="no package with an app"):
        new_service("billing", tmp_path)
    for package in ("one", "two"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "app.py").write_text("import fdn\n\napp = fdn.App()\n")
    with pytest.raises(ConfigError, match="more than one app: one, two"):
        new_service("billing", tmp_path)
    assert new_service("billing", tmp_path, "two")[0] == Path("two/billing.py")
    with pytest.raises(ConfigError, match="cannot be read"):
        new_service("mail", tmp_path, "three")


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        new_app("shop", tmp_path / "file")


def test_apps_on_one_machine_seldom_meet(tmp_path: Path):
    ports = set()
    for name in ("shop", "mail", "bank"):
        new_app(name, tmp_path)
        settings = load({}, {}, None, [tmp_path / name / "fdn.toml"]).settings
        assert settings.cluster == name
        assert settings.join == (settings.bind.removesuffix("+"),)
        assert settings.bind_address.search
        ports.add(settings.bind_address.port)
    assert len(ports) == 3

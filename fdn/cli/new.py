"""`fdn new`: a scaffold that runs, with tests that pass."""

import importlib.util
from pathlib import Path

import click

from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.output import note

__all__ = ("command",)


@examples("fdn new app shop", "fdn new service billing")
@click.group("new")
def command() -> None:
    """Begin an app, or add a service to one."""


@examples("fdn new app shop", "cd shop", "python -m pytest", "fdn run shop.app:app --reload")
@command.command("app")
@output_options
@click.argument("name", metavar="NAME")
@click.pass_obj
def app(invocation: Invocation, name: str) -> None:
    """Make a folder NAME with an app: two services, a timer, settings, a README, and tests that pass.

    Nothing is overwritten.
    """
    from fdn.scaffold import new_app

    files = new_app(name, Path())
    _tell(invocation, files)
    # Not `pytest` alone: that of another environment knows no fdn.
    missing = "" if importlib.util.find_spec("pytest") else "pip install pytest; "
    note(f"next: cd {name}; {missing}python -m pytest; fdn run {name.replace('-', '_')}.app:app")


@examples("fdn new service billing", "fdn new service billing --package shop")
@command.command("service")
@output_options
@click.option("--package", default="", metavar="NAME", help="The app's package; needed where there are several.")
@click.argument("name", metavar="NAME")
@click.pass_obj
def service(invocation: Invocation, name: str, package: str) -> None:
    """Add a service to the app in this folder: a module, a test that passes, and two lines in its app.py.

    Nothing is overwritten.
    """
    from fdn.scaffold import new_service

    _tell(invocation, new_service(name, Path(), package))


def _tell(invocation: Invocation, files: list[Path]) -> None:
    invocation.emit([{"file": str(file)} for file in files])

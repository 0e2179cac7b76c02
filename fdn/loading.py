"""From a name to an app: `shop.app:app` is what `app` is in the module `shop.app`."""

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdn.app import App
from fdn.errors import BadRequest

__all__ = ("load_app", "source_folders")

_NAME = "expected MODULE:APP: shop:app is `app = fdn.App()` in shop.py"


def load_app(name: str) -> App:
    """The app that `module:attribute` names. Modules are found from the current directory too, as with `python -m`.

    It may also name a function without arguments that makes one.

    Raises:
        BadRequest: There is none; says what was found instead.
    """
    module_name, attribute = _split(name)
    here = _look_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # found, and something that it imports is not: the traceback says where
        near = _near(error.name)
        raise BadRequest(
            f'there is no module "{error.name}" for "{name}"',
            hint=f'did you mean "{near}"?' if near else f"it is looked for in {here} and where Python looks",
        ) from None
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if callable(found) and not isinstance(found, type):
        found = _made(name, found)
    if isinstance(found, App):
        return found
    there = [key for key, value in vars(module).items() if isinstance(value, App)]
    what = "nothing of that name" if found is None else f"{type(found).__name__}, not an fdn.App"
    raise BadRequest(
        f'"{name}": {module_name} holds {what}',
        hint=f"it has {', '.join(there)}" if there else "it has no fdn.App",
    )


def source_folders(names: Sequence[str]) -> list[Path]:
    """Where the source of these apps is: the folder of the package, or the one that holds the module.

    Nothing of the app is run to find out.

    Raises:
        BadRequest: A module is not found, or has no source.
    """
    here = _look_here()
    folders = []
    for name in names:
        top = _split(name)[0].partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except ValueError:  # a module that hides what it is
            spec = None
        if spec is None or not spec.has_location or spec.origin is None:
            near = _near(top)
            raise BadRequest(
                f'there is no source of "{top}" for "{name}"',
                hint=f'did you mean "{near}"?' if near else f"it is looked for in {here} and where Python looks",
            )
        folders.append(Path(spec.origin).resolve().parent)
    return sorted({folder for folder in folders if not any(other in folder.parents for other in folders)})


def _split(name: str) -> tuple[str, str]:
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise BadRequest(f'"{name}" names no app', hint=_NAME)
    return module, attribute


def _look_here() -> str:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return here


def _made(name: str, factory: Any) -> object:
    try:
        return factory()
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # from inside: the traceback says where
        raise BadRequest(
            f'"{name}" cannot be called: {error}', hint="expected an fdn.App, or a function without arguments"
        ) from None


def _near(name: str) -> str:
    """The module whose name comes next to one that is not there, or nothing."""
    parent, _, last = name.rpartition(".")
    if parent:
        parent_module = sys.modules.get(parent)
        paths = list(getattr(parent_module, "__path__", ()))
    else:
        paths = [os.getcwd()]
    there = [module.name for module in pkgutil.iter_modules(paths)]
    near = difflib.get_close_matches(last, there, n=1, cutoff=0.6)
    return f"{parent}.{near[0]}" if near and parent else near[0] if near else ""

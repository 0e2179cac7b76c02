"""From a name to an app: `shop.app:app` is what `app` is in the module `shop.app`."""

import difflib
import importlib
import importlib.util
import logging
import os
import pkgutil
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.app import App
from fdn.errors import BadRequest, Error

__all__ = ("load_app", "source_folders")

_log = logging.getLogger(__name__)
_NAME = "expected MODULE:APP: shop:app is `app = fdn.App()` in shop.py"
# Files whose frames say nothing to whoever wrote the app: this one, and those that import for it.
_OURS: Final = (__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")


def load_app(name: str) -> App:
    """The app that `module:attribute` names. Modules are found from the current directory too, as with `python -m`.

    It may also name a function without arguments that makes one.

    Raises:
        BadRequest: There is none; says what was found instead.
        Error: The module, or the function, raised something. The log has its traceback.
    """
    module_name, attribute = _split(name)
    here = _look_here()
    module = _theirs(f"{module_name} cannot be imported", lambda: _imported(name, module_name, here))
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if callable(found) and not isinstance(found, type):
        factory = found
        found = _theirs(f"{name} failed", lambda: _made(name, factory))
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
    if not (colon and module and attribute) or "/" in module or module.endswith(".py") or module.startswith("."):
        meant = f"{_dotted(module)}:{attribute or 'app'}"
        raise BadRequest(f'"{name}" names no app', hint=f'{_NAME}; did you mean "{meant}"?' if module else _NAME)
    return module, attribute


def _dotted(path: str) -> str:
    """The module that a path of a file stands for."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(part for part in parts if part.strip("."))


def _imported(name: str, module_name: str, here: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # found, and something that it imports is not: the traceback says where
        near = _near(error.name)
        raise BadRequest(
            f'there is no module "{error.name}" for "{name}"',
            hint=f'did you mean "{near}"?' if near else f"it is looked for in {here} and where Python looks",
        ) from None


def _theirs(failed: str, function: Callable[[], Any]) -> Any:
    """Run what is the app's own, and say of its mistakes where in the app they are."""
    try:
        return function()
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code.co_filename in _OURS:
            place = place.tb_next
        if isinstance(error, Error):
            if place is not None:  # such as a name of a service that cannot be one
                error.add_note(f"in {place.tb_frame.f_code.co_filename}, line {place.tb_lineno}")
            raise
        _log.error("%s", failed, exc_info=error.with_traceback(place))
        raise Error(f"{failed}: {type(error).__name__}: {error}", hint="the log shows its traceback") from error


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

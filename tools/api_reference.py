"""The public API, from its own docstrings: what `import fdn` gives, and the rooms beside it that users import.

Google-style sections become lists; code in a docstring is shown as it stands there.
"""

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, Final

import fdn

__all__ = ("page",)

_ROOMS: Final = ("fdn.sync", "fdn.testing")
_SECTIONS: Final = ("Args", "Returns", "Raises", "Attributes", "Yields")
_ENTRY: Final = re.compile(r"^(\*{0,2}[\w.]+): (.*)$")
# What every class, dataclass or exception has, and nobody looks up.
_KEPT_DUNDERS: Final = {"__aenter__", "__enter__", "__aiter__", "__iter__"}


def page() -> Iterator[str]:
    """The page, line by line."""
    yield "# API\n\nWhat `import fdn` gives, with its docstrings. Errors have [a page of their own](errors.md)."
    for name in sorted(fdn.__all__, key=str.lower):
        value = getattr(fdn, name)
        if not (inspect.isclass(value) and issubclass(value, fdn.Error)):
            yield from _entry(f"fdn.{name}", value)
    for room in _ROOMS:
        module = importlib.import_module(room)
        yield f"\n## `{room}`\n\n{_prose(module.__doc__ or '')}"
        for name in sorted(module.__all__, key=str.lower):
            yield from _entry(f"{room}.{name}", getattr(module, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value):
        yield f"\n## `{name}{_signature(value)}`\n\n{_prose(inspect.getdoc(value) or '')}"
        return
    yield f"\n## `{name}`\n\n{_prose(_own_doc(value))}"
    for attribute, member in sorted(inspect.getmembers_static(value)):
        if attribute.startswith("_") and attribute not in _KEPT_DUNDERS:
            continue
        found = getattr(value, attribute, None)
        doc = inspect.getdoc(found) or ""
        if isinstance(member, property):
            yield f"\n### `{name}.{attribute}`\n\n{_prose(inspect.getdoc(member) or '')}"
        elif inspect.isroutine(found) and doc and attribute not in _KEPT_DUNDERS:
            prefix = "async " if _is_awaited(found) else ""
            yield f"\n### `{prefix}{name}.{attribute}{_signature(found)}`\n\n{_prose(doc)}"


def _is_awaited(function: Any) -> bool:
    """Whether what it returns is for `await`; a plain function may hand out a coroutine or a future."""
    if inspect.iscoroutinefunction(function):
        return True
    returned = typing.get_origin(getattr(function, "__annotations__", {}).get("return"))
    return returned in (Awaitable, Coroutine)


def _own_doc(cls: type) -> str:
    doc = inspect.getdoc(cls) or ""
    made_up = dataclasses.is_dataclass(cls) and doc.startswith(f"{cls.__name__}(")
    return "" if made_up else doc


def _signature(function: Any) -> str:
    try:
        signature = inspect.signature(function)
        overloads = [inspect.signature(each) for each in typing.get_overloads(function)]
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            # Its own is for speed; the widest that it stands for is for people.
            signature = max(overloads, key=lambda each: len(each.parameters), default=signature)
    except (TypeError, ValueError):
        return "()"
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls")
    ]
    return re.sub(
        r" at 0x[0-9a-f]+", "", str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty))
    )


def _prose(doc: str) -> str:
    """A docstring as Markdown."""
    lines: list[str] = []
    section = ""
    for line in doc.replace("```python", "```text").splitlines():
        head = line.strip().removesuffix(":")
        if line.strip() == f"{head}:" and head.split(" (")[0] in _SECTIONS:
            section = head
            lines += [f"**{head}**", ""]
            continue
        if section and line.startswith("    "):
            entry = _ENTRY.match(line[4:])
            if entry and section != "Returns":
                lines.append(f"- `{entry[1]}`: {entry[2]}")
            else:
                lines.append(f"  {line.strip()}" if lines and lines[-1].startswith(("- ", "  ")) else line.strip())
            continue
        section = section if not line.strip() else ""
        lines.append(line)
    return "\n".join(lines).strip()

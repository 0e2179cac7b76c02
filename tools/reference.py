"""The reference pages, made from the code: the API, settings, commands, errors, facts, counters.

What a page says of a setting or a counter is the comment that stands beside it in the source, so that there is one
place to write it. Imports fdn, and so is itself imported only inside `.venv`, by the verb `docs`.
"""

import ast
import dataclasses
import difflib
import inspect
import io
import itertools
import textwrap
import tokenize
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

import fdn
from fdn import config_file, errors, settings, units
from fdn.cli import exit_codes
from fdn.cli.examples import examples_of
from fdn.cli.root import root as command_root
from fdn.node import NodeStats
from fdn.runtime import facts
from tools import api_reference
from tools.error_index import messages_in

__all__ = ("FOLDER", "differences", "pages", "write")

FOLDER: Final = "docs/reference"
_HEAD: Final = (
    "<!-- Made from the code by `python3 -m tools docs --write`. Change the code's comments, not this page. -->"
)
_KINDS: Final[dict[Any, str]] = {
    float: "number",
    int: "whole number",
    str: "string",
    bool: "true or false",
    tuple[str, ...]: "list of strings",
}


def pages() -> dict[str, str]:
    """Every page, by its path from the root of the checkout."""
    made = {
        "api": api_reference.page(),
        "settings": _settings(),
        "cli": _cli(),
        "errors": _errors(),
        "facts": _facts(),
        "stats": _stats(),
    }
    return {f"{FOLDER}/{name}.md": f"{_HEAD}\n\n" + "\n".join(lines).strip() + "\n" for name, lines in made.items()}


def write(root: Path) -> list[str]:
    """Bring the pages up to date. Returns the paths of those that changed."""
    changed = []
    for path, text in pages().items():
        target = root / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def differences(root: Path) -> str:
    """What `write` would change, as a diff; empty when the pages are up to date."""
    lines: list[str] = []
    for path, text in pages().items():
        target = root / path
        held = target.read_text(encoding="utf-8") if target.exists() else ""
        lines += difflib.unified_diff(
            held.splitlines(), text.splitlines(), path, f"{path} (from the code)", lineterm=""
        )
    return "\n".join(lines)


# -- settings


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield (
        "Strongest first: flag, `FDN_*` variable, context, `./fdn.toml`, `/etc/fdn/fdn.toml`, default. In files and\n"
        'variables, seconds may be durations (`"250ms"`, `"1m30s"`) and bytes sizes (`"64KiB"`). In Python they\n'
        'are arguments: `fdn.Node(cluster="shop")`, `fdn.Node(settings=fdn.Settings(...))`.'
    )
    yield from _settings_of(settings.Settings)
    for field in dataclasses.fields(settings.Settings):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from ("", f"## `[{field.name}]`", "", _first_paragraph(field.type).partition(": ")[2])
            yield from _settings_of(field.type)


def _settings_of(section: type) -> Iterator[str]:
    notes = _leading_comments(section)
    prefix = f"{section.KEY}." if section.KEY else ""  # type: ignore[attr-defined]  # a section of Settings has one
    for field in dataclasses.fields(section):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            continue
        key = f"{prefix}{field.name}"
        facts_of_it = [
            _KINDS[field.type],
            _default(key, field),
            *_range(key, field),
            f"`{config_file.variable_of(key)}`",
        ]
        yield from ("", f"### `{key}`", "", " · ".join(facts_of_it), "", notes[field.name])


def _default(key: str, field: "dataclasses.Field[Any]") -> str:
    value: Any = field.default
    match value:
        case "" | ():
            return "empty by default"
        case bool():
            shown = str(value).lower()
        case str():
            shown = f'"{value}"'
        case _:
            shown = _number(key, value)
    return f"`{shown}` by default"


def _range(key: str, field: "dataclasses.Field[Any]") -> Iterator[str]:
    if "low" in field.metadata:
        yield f"{_number(key, field.metadata['low'])} to {_number(key, field.metadata['high'])}"
    if "choices" in field.metadata:
        yield "one of " + ", ".join(f'`"{choice}"`' for choice in field.metadata["choices"] if choice)


def _number(key: str, value: int | float) -> str:
    if "_bytes" in key:
        return units.format_size(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- commands


def _cli() -> Iterator[str]:
    yield from ("# Commands", "", inspect.cleandoc(command_root.help or ""), "")
    yield "These options may stand before or after a command's name:"
    yield ""
    context = click.Context(command_root, info_name="fdn")
    yield from _options(command_root)
    shared = {opt for param in command_root.params for opt in param.opts}
    for name in command_root.list_commands(context):
        command = command_root.get_command(context, name)
        assert command is not None
        yield from _command(command, click.Context(command, info_name=name, parent=context), shared)
    yield from ("", "## Exit status", "", "| status | name | when |", "|---|---|---|")
    notes = _trailing_comments(exit_codes.ExitCode)
    for code in exit_codes.ExitCode:
        raised = [f"`{name}`" for name in errors.__all__ if getattr(getattr(errors, name), "code", None) == code]
        when = "; ".join(part for part in (notes.get(code.name, ""), ", ".join(raised)) if part)
        yield f"| {int(code)} | {code.name.lower().replace('_', ' ')} | {when} |"


def _command(command: click.Command, context: click.Context, shared: set[str]) -> Iterator[str]:
    if command.hidden:
        return
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), shared)
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ("", f"## `{context.command_path}`", "", "```text", usage, "```", "")
    yield "\n".join(line.strip() for line in (command.help or "").splitlines()).strip()
    own = list(_options(command, shared))
    if own:
        yield ""
        yield from own
    lines = examples_of(command)
    if lines:
        yield from ("", "```sh", *lines, "```")


def _options(command: click.Command, without: set[str] = frozenset()) -> Iterator[str]:  # type: ignore[assignment]
    for param in command.params:
        if not isinstance(param, click.Option) or param.hidden or without & {*param.opts}:
            continue
        # Not click's own rendering, which differs from release to release.
        flags = " / ".join(", ".join(names) for names in (param.opts, param.secondary_opts) if names)
        default = param.default if isinstance(param.default, str | int | float) and not param.is_flag else None
        text = " ".join(filter(None, (param.help, f"(default {default})" if default not in (None, "") else "")))
        yield f"- `{f'{flags} {_metavar(param)}'.strip()}`: {text}".rstrip(": ")


def _metavar(param: click.Option) -> str:
    if param.is_flag or param.count:
        return ""
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    name = "N" if isinstance(param.type, click.IntRange) else param.type.name.strip("_").upper()
    return param.metavar or name


# -- errors


def _errors() -> Iterator[str]:
    yield "# Errors"
    yield ""
    tree, _, rest = inspect.cleandoc(errors.__doc__ or "").partition("\n\n`.code`")
    intro, _, drawing = tree.partition("\n\n")
    yield from (intro, "", "```text", textwrap.dedent(drawing), "```", "", "`.code`" + rest)
    kinds = {name for name in fdn.__all__ if _is_error(getattr(fdn, name))}
    index = messages_in(Path(fdn.__file__).parent, kinds)
    for name in sorted(kinds):
        yield from ("", f"## `{name}`", "", *_docstring(getattr(fdn, name)))
        messages = [message for message in index if message.error == name]
        if messages:
            yield from ("", "| It says | What to do |", "|---|---|")
            yield from (f"| {_cell(message.text)} | {_cell(message.hint)} |" for message in messages)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.Error)


def _cell(text: str) -> str:
    """Text in a cell of a table, taken literally, but for code between backticks."""
    parts = text.replace("\n", " ").split("`")
    if len(parts) % 2 == 0:
        parts = ["'".join(parts)]
    plain = ["".join(f"\\{char}" if char in "|*_<>" else char for char in part) for part in parts[::2]]
    code = [f"`{part}`".replace("|", "\\|") for part in parts[1::2]]
    return "".join(piece for pair in itertools.zip_longest(plain, code, fillvalue="") for piece in pair)


# -- facts


def _facts() -> Iterator[str]:
    yield "# Facts"
    yield ""
    yield (
        "`async for fact in node.facts()` yields one value per change of state, as this node sees it, from the call\n"
        "on. They come from `fdn.runtime.facts`. Each also has `at`: loop time in seconds."
    )
    for name in facts.__all__:
        cls = getattr(facts, name)
        if isinstance(cls, type) and issubclass(cls, facts.Fact) and cls is not facts.Fact:
            yield from ("", f"## `{name}`", "", *_docstring(cls), "", *_fields(cls))


# -- counters


def _stats() -> Iterator[str]:
    yield "# Counters"
    yield ""
    yield (
        "`await node.stats()` returns one frozen snapshot. Counters count from the node's start, or from the making\n"
        "of the connection or listener that they belong to. `dataclasses.asdict` makes plain values of it."
    )
    yield from _component("stats", NodeStats, set())


def _component(path: str, cls: type, seen: set[type]) -> Iterator[str]:
    if cls in seen:
        return
    seen.add(cls)
    yield from ("", f"## `{path}`", "", *_docstring(cls), "", *_fields(cls))
    for name, hint in typing.get_type_hints(cls).items():
        inner, step = hint, name
        if typing.get_origin(hint) is not None and typing.get_args(hint):
            inner, step = typing.get_args(hint)[-1], f"{name}[...]"
        if isinstance(inner, type) and inner.__name__.endswith("Stats"):
            yield from _component(f"{path}.{step}", inner, seen)


# -- reading the source


def _fields(cls: type) -> Iterator[str]:
    """The fields of a class that are not its base's, as a list."""
    notes = _trailing_comments(cls)
    for name, node in _members(cls):
        assert isinstance(node, ast.AnnAssign)
        yield f"- `{name}`: {ast.unparse(node.annotation)}" + (f"; {notes[name]}" if name in notes else "")


def _docstring(cls: type) -> Iterator[str]:
    """The docstring, with the entries of its `Attributes:` as a list."""
    body, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:\n")
    yield body.strip()
    if attributes:
        yield ""
    entry = ""
    for line in [*textwrap.dedent(attributes).splitlines(), ""]:
        if line.startswith(" ") and entry:
            entry += " " + line.strip()
            continue
        if entry:
            name, _, text = entry.partition(": ")
            yield f"- `{name}`: {text}"
        entry = line


def _first_paragraph(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]


def _leading_comments(cls: type) -> dict[str, str]:
    """The comment lines right above each field."""
    lines = _source(cls).splitlines()
    notes = {}
    for name, node in _members(cls):
        begin = node.lineno
        while lines[begin - 2].strip().startswith("#"):
            begin -= 1
        notes[name] = "\n".join(line.strip().removeprefix("#").strip() for line in lines[begin - 1 : node.lineno - 1])
    return notes


def _trailing_comments(cls: type) -> dict[str, str]:
    """The comment at the end of each field's line, and of the lines of comment that continue it."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(_source(cls)).readline)
        if token.type == tokenize.COMMENT
    }
    return {name: comments[node.lineno] for name, node in _members(cls) if node.lineno in comments}


def _members(cls: type) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    """Each field of a class, or each member of an enum, and where it stands."""
    definition = ast.parse(_source(cls)).body[0]
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                yield target.id, node


def _source(cls: type) -> str:
    return textwrap.dedent(inspect.getsource(cls))

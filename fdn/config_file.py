"""From flags, environment, context and files to one checked `Settings`, and where each value came from.

Strongest first: flag, `FDN_*` variable, context, `./fdn.toml`, `/etc/fdn/fdn.toml`, default. A value that a stronger
source overrides is checked all the same: a mistake in a file is found when it is made, not when the flag goes away.

Nested keys of variables take two underscores: `FDN_DATA__CREDIT_BYTES=8MiB` is `data.credit_bytes`. An empty
variable counts as not set. A flat `FDN_` variable that is no setting is left alone (Kubernetes makes `FDN_PORT` and
the like for a service named "fdn") and reported in `Loaded.ignored`; a nested one can only be meant for us, and is an
error.
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.errors import ConfigError
from fdn.settings import Settings, check_value, setting_fields
from fdn.units import parse_duration, parse_size

__all__ = ("CONTEXT_KEYS", "DEFAULT_FILES", "OTHER_VARIABLES", "Loaded", "load", "read_toml", "variable_of")

DEFAULT_FILES: Final = (Path("fdn.toml"), Path("/etc/fdn/fdn.toml"))
# What a context file holds beside settings: who made it.
CONTEXT_KEYS: Final = frozenset({"pid"})
# Variables that the command line reads itself.
OTHER_VARIABLES: Final = frozenset({"FDN_CONTEXT"})

_ALIASES: Final = {"FDN_NODE_NAME": "name", "FDN_LOG_LEVEL": "log.level", "FDN_LOG_FORMAT": "log.format"}
_FIELDS: Final = dict(setting_fields())
_SECTIONS: Final = frozenset(key.partition(".")[0] for key in _FIELDS if "." in key)
# The two kinds of line that name a key: [table] and key = value, bare, quoted or dotted.
_TABLE: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_KEY: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_FILE_BYTES_MAX: Final = 1024 * 1024
_WORDS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and the story of their making.

    Attributes:
        settings: What is in force.
        origins: For every key what won: "flag", "FDN_BIND", "context up", "fdn.toml:7" or "default".
        ignored: `FDN_` variables that are no setting, each with what may have been meant.
        files: The files that were read, strongest first.
    """

    settings: Settings
    origins: Mapping[str, str]
    ignored: Sequence[str] = ()
    files: Sequence[Path] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """One value as it was written.

    Attributes:
        key: Full key, known or not.
        raw: The value.
        where: Its source and, in a file, its line.
        typed: Whether the source has types of its own, so that a string there is meant to be one.
    """

    key: str
    raw: object
    where: str
    typed: bool = False


def load(
    flags: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    context: Path | None = None,
    files: Iterable[Path] | None = None,
) -> Loaded:
    """Build the settings that are in force.

    Args:
        flags: Full keys to values, as typed or as text; None counts as not given.
        env: Usually `os.environ`; None reads no variable.
        context: A context file, or None.
        files: Configuration files, strongest first, which must exist. None takes those of `DEFAULT_FILES` that do.

    Raises:
        ConfigError: A key is unknown, or a value does not fit. The message begins with the source, its line
            included, and the first mistake found is the one reported, weakest source first.
    """
    paths = [path for path in DEFAULT_FILES if path.exists()] if files is None else list(files)
    ignored: list[str] = []
    sources: list[Iterable[_Found]] = [_from_file(path, str(path)) for path in reversed(paths)]
    if context is not None:
        sources.append(_from_file(context, f"context {context.stem}", CONTEXT_KEYS))
    sources.append(_from_env(env or {}, ignored))
    sources.append(_Found(key, raw, "flag") for key, raw in (flags or {}).items() if raw is not None)
    values: dict[str, object] = {}
    origins = dict.fromkeys(_FIELDS, "default")
    for source in sources:
        for found in source:
            values[found.key] = _value(found)
            origins[found.key] = found.where
    return Loaded(_assemble(values, origins), origins, tuple(ignored), tuple(paths))


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """A TOML file, parsed, and its text.

    Raises:
        ConfigError: It cannot be read, is too large to be a configuration, or is not TOML; with the line.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="check the path and its permissions",
            file=str(path),
        ) from error
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(
            f"{path} is larger than {_FILE_BYTES_MAX} bytes", hint="name a configuration file", file=str(path)
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8", hint="save the file as UTF-8", file=str(path), line=line
        ) from error
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        position = re.search(r"at line (\d+)", str(error))
        # "at end of document" has no line of its own.
        line = int(position[1]) if position else text.count("\n") + 1
        raise ConfigError(
            f"{path}:{line}: {error}",
            hint='strings need quotes: bind = "tcp://127.0.0.1:7400"',
            file=str(path),
            line=line,
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply to be a configuration", file=str(path)) from error


def _from_file(path: Path, source: str, also: frozenset[str] = frozenset()) -> Iterator[_Found]:
    tree, text = read_toml(path)
    lines = _lines_of_keys(text)
    for key, raw in _leaves(tree):
        line = lines.get(key) or lines.get(key.partition(".")[0])
        where = f"{source}:{line}" if line else source
        if key in also:
            continue
        if key not in _FIELDS:
            raise _unknown(key, raw, where, path=str(path), line=line or 0)
        yield _Found(key, raw, where, typed=True)


def _from_env(env: Mapping[str, str], ignored: list[str]) -> Iterator[_Found]:
    for variable, raw in sorted(env.items()):
        if not variable.startswith("FDN_") or variable in OTHER_VARIABLES or not raw:
            continue
        key = _ALIASES.get(variable) or variable.removeprefix("FDN_").lower().replace("__", ".")
        if key in _FIELDS:
            yield _Found(key, raw, variable)
        elif "." in key:
            raise _unknown(key, raw, variable, spell=variable_of)
        else:
            near = difflib.get_close_matches(variable, [variable_of(key) for key in _FIELDS], n=1, cutoff=0.8)
            ignored.append(f"{variable} (did you mean {near[0]}?)" if near else variable)


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Full keys and values. Only known sections are entered, so that an unknown table is reported as itself."""
    for name, value in tree.items():
        if name in _SECTIONS and isinstance(value, Mapping):
            for inner, leaf in value.items():
                yield f"{name}.{inner}", leaf
        else:
            yield name, value


def _unknown(key: str, raw: object, where: str, spell: Any = str, **facts: object) -> ConfigError:
    if key in _SECTIONS:
        return ConfigError(
            f"{where}: {key} = {_shown(raw)}: {key} is a section",
            hint=f"write its settings under [{key}]",
            key=key,
            **facts,
        )
    section = key.partition(".")[0] if "." in key else ""
    candidates = [*_FIELDS] if section else [*_FIELDS, *_SECTIONS]
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
    if not near:
        # The right name in the wrong section, or in none.
        name = key.rpartition(".")[2]
        near = [candidate for candidate in _FIELDS if candidate.rpartition(".")[2] == name]
    siblings = [name for name in candidates if name.rpartition(".")[0] == section]
    hint = f"did you mean {spell(near[0])}?" if near else f"known here: {', '.join(map(spell, sorted(siblings)))}"
    return ConfigError(f"{where}: unknown key {key}", hint=hint, key=key, **facts)


def variable_of(key: str) -> str:
    """The environment variable that sets this key."""
    for variable, aliased in _ALIASES.items():
        if aliased == key:
            return variable
    return "FDN_" + key.replace(".", "__").upper()


def _value(found: _Found) -> object:
    """The value in its field's type, checked.

    Raises:
        ConfigError: It does not fit; naming source, line, key, value and what is expected.
    """
    field = _FIELDS.get(found.key)
    if field is None:
        raise _unknown(found.key, found.raw, found.where)
    try:
        value = _converted(found, field.type)
        check_value(found.key, field, value)
    except ValueError as error:
        raise ConfigError(
            f"{found.where}: {found.key} = {_shown(found.raw)}: {error}", key=found.key, where=found.where
        ) from None
    return value


def _converted(found: _Found, kind: object) -> object:
    raw = found.raw
    if kind == tuple[str, ...]:
        if isinstance(raw, str) and not found.typed:
            return tuple(part.strip() for part in raw.split(",") if part.strip())
        return tuple(raw) if isinstance(raw, list | tuple) else raw
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, str):
        return raw
    # Units are written as strings everywhere; other numbers only where nothing but text can be written.
    if kind is float:
        return parse_duration(raw)
    if kind is int and "_bytes" in found.key:
        return parse_size(raw)
    if kind is int and not found.typed and re.fullmatch(r"[+-]?[0-9]{1,18}", raw.strip()):
        return int(raw)
    if kind is bool and not found.typed:
        return _WORDS.get(raw.strip().lower(), raw)
    return raw


def _assemble(values: Mapping[str, object], origins: Mapping[str, str]) -> Settings:
    arguments: dict[str, Any] = {}
    nested: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if dot:
            nested.setdefault(section, {})[name] = value
        else:
            arguments[key] = value
    try:
        for field in dataclasses.fields(Settings):
            if field.name in nested:
                arguments[field.name] = field.type(**nested[field.name])  # type: ignore[operator]  # a section's class
        return Settings(**arguments)
    except ConfigError as error:
        # What is left to find here is a contradiction between values that are each in order.
        origin = origins.get(error.facts.get("key", ""), "default")
        if origin == "default":
            raise
        raise ConfigError(f"{origin}: {error.message}", hint=error.hint, **error.facts) from None


def _shown(raw: object) -> str:
    """A value as it is written in TOML, cut to a readable length."""
    if isinstance(raw, bool):
        text = str(raw).lower()
    elif isinstance(raw, str):
        text = f'"{raw}"'
    elif isinstance(raw, Mapping):
        text = "{...}"
    elif isinstance(raw, list | tuple):
        text = f"[{', '.join(_shown(item) for item in raw)}]"
    else:
        text = str(raw)
    return text if len(text) <= 200 else text[:200] + "..."


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line, from 1, of every key and table of a TOML document, as far as a plain scan can tell.

    tomllib keeps no positions, and a line number is help, not truth: text inside a multi-line string may be taken
    for a key, but only a key that the real parser has found is ever looked up, and the first hit wins.
    """
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _plain_key(header[1])
            lines.setdefault(table, number)
        elif pair := _KEY.match(line):
            key = _plain_key(pair[1])
            lines.setdefault(f"{table}.{key}" if table else key, number)
    return lines


def _plain_key(written: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in written.split("."))

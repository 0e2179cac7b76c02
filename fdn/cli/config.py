"""`fdn config`: the settings in force here, and where each came from."""

import difflib
from pathlib import Path
from typing import Any, Final

import click

from fdn.cli.completing import complete_settings
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.output import Column, note
from fdn.config_file import Loaded, variable_of
from fdn.errors import NotFound
from fdn.settings import Settings, setting_fields

__all__ = ("command",)

_KINDS: Final[dict[Any, str]] = {
    float: "number",
    int: "whole number",
    str: "string",
    bool: "true or false",
    tuple[str, ...]: "list of strings",
}
_config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="The only file of settings to read, as for `fdn node run`."
)


@examples("fdn config show --changed", "fdn config explain calls.timeout_s", "fdn config validate fdn.toml")
@click.group("config")
def command() -> None:
    """Show the settings in force here, and where each came from.

    Strongest first: flag, FDN_* variable, context, ./fdn.toml, /etc/fdn/fdn.toml, default.
    """


@examples("fdn config show", "fdn config show --changed -o wide", "fdn config show --config shop.toml --json")
@command.command("show")
@output_options
@_config_option
@click.option("--changed", is_flag=True, help="Only those that are not as by default.")
@click.pass_obj
def show(invocation: Invocation, /, config: Path | None, changed: bool) -> None:
    """List every setting that a node started here would have."""
    loaded = invocation.load(config=config)
    rows = [_row(key, loaded) for key, _ in setting_fields()]
    _tell_ignored(loaded)
    invocation.emit(
        [row for row in rows if not changed or row["origin"] != "default"],
        Column("key"),
        Column("value", show=_shown),
        Column("origin"),
        Column("default", wide=True, show=_shown),
        Column("variable", wide=True),
    )


@examples("fdn config explain calls.timeout_s", "fdn config explain bind --json")
@command.command("explain")
@output_options
@_config_option
@click.argument("key", shell_complete=complete_settings)
@click.pass_obj
def explain(invocation: Invocation, /, key: str, config: Path | None) -> None:
    """Say what setting KEY is here, where that came from, and what else it could be."""
    fields = dict(setting_fields())
    if key not in fields:
        near = difflib.get_close_matches(key, fields, n=1, cutoff=0.6) or [
            known for known in fields if known.rpartition(".")[2] == key
        ]
        hint = f'did you mean "{near[0]}"?' if near else "`fdn config show` lists them"
        raise NotFound(f'there is no setting "{key}"', hint=hint, key=key)
    field = fields[key]
    row = _row(key, invocation.load(config=config)) | {"type": _KINDS[field.type]}
    if "low" in field.metadata:
        row |= {"lowest": field.metadata["low"], "highest": field.metadata["high"]}
    if "choices" in field.metadata:
        row["choices"] = list(field.metadata["choices"])
    invocation.emit(row, *(Column(name, name, show=_shown if name in ("value", "default") else None) for name in row))


@examples("fdn config validate", "fdn config validate /etc/fdn/fdn.toml")
@command.command("validate")
@output_options
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def validate(invocation: Invocation, /, file: Path | None) -> None:
    """Check FILE, or all that a node started here would read. Exit status 2 names the first mistake and its line."""
    loaded = invocation.load(config=file)
    _tell_ignored(loaded)
    changed = [key for key, origin in loaded.origins.items() if origin != "default"]
    row = {"valid": True, "files": [str(path) for path in loaded.files], "set": changed}
    invocation.emit(row, *(Column(key, key) for key in row))


def _row(key: str, loaded: Loaded) -> dict[str, Any]:
    return {
        "key": key,
        "value": _get(loaded.settings, key),
        "origin": loaded.origins[key],
        "default": _get(Settings(), key),
        "variable": variable_of(key),
    }


def _get(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _shown(value: Any) -> str:
    match value:
        case "" | [] | ():
            return "-"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ", ".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)


def _tell_ignored(loaded: Loaded) -> None:
    for name in loaded.ignored:
        note(f"note: {name} is no setting; ignored")

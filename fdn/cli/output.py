"""What commands print: one set of data as a table for people, or as JSON for programs, on standard output.

Everything else (progress, notes, errors) goes to standard error, so that a pipe only ever carries data.
"""

import dataclasses
import enum
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

import click

__all__ = ("Column", "Output", "Printer", "note")


class Output(enum.StrEnum):
    """The form of what is printed."""

    TABLE = "table"
    WIDE = "wide"  # a table with every column
    JSON = "json"
    NDJSON = "ndjson"  # one object a line: for streams, and for tools that read lines


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: The key in each row.
        title: The heading; empty takes the key in capitals.
        wide: Whether only `-o wide` shows it.
        show: Turns a value into text; None takes the plain rule of `Printer`.
    """

    key: str
    title: str = ""
    wide: bool = False
    show: Callable[[Any], str] | None = None


# Words for a state have the same colour in every table.
_COLOURS: Final = {
    "ok": "green",
    "alive": "green",
    "warn": "yellow",
    "suspect": "yellow",
    "leaving": "yellow",
    "fail": "red",
    "dead": "red",
}


class Printer:
    """Prints data in the form that was asked for."""

    def __init__(self, output: Output = Output.TABLE, color: bool = False, stream: TextIO | None = None) -> None:
        """Print to `stream`, which is standard output unless given."""
        self._output = output
        self._color = color
        self._stream = stream

    @property
    def is_json(self) -> bool:
        """Whether a program reads this, so that nothing but data may be printed."""
        return self._output in (Output.JSON, Output.NDJSON)

    def emit(self, data: object, columns: Sequence[Column] = ()) -> None:
        """Print one result.

        Args:
            data: A sequence of rows, or one record. A row or record is a mapping, a dataclass or a Struct.
            columns: Columns of the table, in order; empty shows every key. JSON always carries every key.
        """
        stream = self._stream or sys.stdout
        if self.is_json:
            stream.write(_json(data, self._output))
        else:
            plain = _plain(data)
            if isinstance(plain, Mapping):
                lines = _record_lines(plain, columns)
            else:
                lines = _table_lines(plain, columns, self._output is Output.WIDE, self._color)
            stream.writelines(line + "\n" for line in lines)
        # A reader at the other end of a pipe gets the result now, even if the command runs on.
        stream.flush()


def note(text: str) -> None:
    """Tell the person, on standard error, what is no part of the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _plain(data: object) -> Any:
    """Mappings, lists, strings and numbers only, as in JSON."""
    # Imported when something is printed, not when `fdn --help` is.
    import msgspec

    return msgspec.to_builtins(data, enc_hook=str, str_keys=True)


def _json(data: object, output: Output) -> str:
    import msgspec

    plain = _plain(data)
    if output is Output.NDJSON:
        rows = plain if isinstance(plain, list | tuple) else [plain]
        return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"


def _record_lines(record: Mapping[str, Any], columns: Sequence[Column]) -> Iterable[str]:
    shown = columns or [Column(key, key) for key in record]
    width = max((len(column.title or column.key) for column in shown), default=0)
    for column in shown:
        yield f"{column.title or column.key:<{width}}  {_cell(column, record.get(column.key))}".rstrip()


def _table_lines(rows: Sequence[Any], columns: Sequence[Column], wide: bool, color: bool) -> Iterable[str]:
    if not columns:
        columns = [Column(key) for key in dict.fromkeys(key for row in rows for key in row)]
    shown = [column for column in columns if wide or not column.wide]
    titles = [column.title or column.key.upper().replace("_", " ") for column in shown]
    cells = [[_cell(column, row.get(column.key)) for column in shown] for row in rows]
    widths = [max(len(text) for text in texts) for texts in zip(titles, *cells, strict=True)]
    numeric = [
        bool(rows) and all(isinstance(row.get(column.key), int | float | None) for row in rows) for column in shown
    ]
    for number, texts in enumerate([titles, *cells]):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        ]
        if color:
            # After padding: escape sequences have no width.
            bold = number == 0
            padded = [click.style(text, bold=True) if bold else _coloured(text) for text in padded]
        yield "  ".join(padded).rstrip()


def _coloured(text: str) -> str:
    colour = _COLOURS.get(text.strip())
    return click.style(text, fg=colour) if colour else text


def _cell(column: Column, value: Any) -> str:
    if value is None:
        text = "-"
    elif column.show is not None:
        text = column.show(value)
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, list | tuple):
        text = ", ".join(_cell(Column(""), item) for item in value) or "-"
    elif isinstance(value, Mapping):
        text = " ".join(f"{key}={_cell(Column(''), item)}" for key, item in value.items())
    else:
        text = str(value)
    # Names come from the network: no byte of them may drive the terminal or break the line.
    return "".join(c if c.isprintable() else "\ufffd" for c in text)

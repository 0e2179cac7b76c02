import dataclasses
import enum
import io
import json

import msgspec
import pytest

from fdn.cli.output import Column, Output, Printer, note


class State(enum.Enum):
    ALIVE = "alive"


class Row(msgspec.Struct):
    name: str
    rtt_ms: float | None
    state: State = State.ALIVE
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    name: str
    count: int


ROWS = [Row("n1", 0.25), Row("node-2", None, tags=("a", "b"))]


def printed(data: object, *columns: Column, output: Output = Output.TABLE, color: bool = False) -> str:
    stream = io.StringIO()
    Printer(output, color, stream).emit(data, columns)
    return stream.getvalue()


def test_a_table_has_a_heading_and_aligns_numbers_right() -> None:
    assert printed(ROWS) == ("NAME    RTT MS  STATE  TAGS\nn1        0.25  alive  -\nnode-2       -  alive  a, b\n")


def test_columns_choose_order_title_and_form() -> None:
    columns = (
        Column("rtt_ms", "RTT", show=lambda value: f"{value:.1f} ms"),
        Column("name"),
        Column("state", wide=True),
    )
    assert printed(ROWS, *columns) == "   RTT  NAME\n0.2 ms  n1\n     -  node-2\n"
    assert "STATE" not in printed(ROWS, *columns)
    assert "STATE" in printed(ROWS, *columns, output=Output.WIDE)


def test_a_record_is_printed_line_by_line() -> None:
    assert printed(Fact("n1", 3)) == "name   n1\ncount  3\n"
    assert printed({"ok": True, "nothing": None, "map": {"a": 1}}) == "ok       yes\nnothing  -\nmap      a=1\n"


def test_an_empty_table_still_says_its_columns() -> None:
    assert printed([], Column("name"), Column("state")) == "NAME  STATE\n"
    assert printed([]) == "\n"


def test_json_carries_every_key_whatever_the_columns() -> None:
    rows = json.loads(printed(ROWS, Column("name"), output=Output.JSON))
    assert rows[1] == {"name": "node-2", "rtt_ms": None, "state": "alive", "tags": ["a", "b"]}
    assert json.loads(printed(Fact("n1", 3), output=Output.JSON)) == {"name": "n1", "count": 3}


def test_ndjson_is_one_object_a_line() -> None:
    lines = printed(ROWS, output=Output.NDJSON).splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["n1", "node-2"]
    assert json.loads(printed(Fact("n1", 3), output=Output.NDJSON)) == {"name": "n1", "count": 3}


def test_json_has_no_word_for_what_is_not_a_number() -> None:
    assert json.loads(printed({"rate": float("nan"), "other": object}, output=Output.JSON))["rate"] is None


def test_colour_is_for_headings_and_states_and_does_not_shift_columns() -> None:
    text = printed(ROWS, color=True)
    assert "\x1b[32malive" in text
    assert text.startswith("\x1b[1m")
    assert "\x1b" not in printed(ROWS)


def test_names_from_the_network_do_not_drive_the_terminal() -> None:
    assert printed([{"name": "a\x1b[2J\nb"}]) == "NAME\na\ufffd[2J\ufffdb\n"


def test_notes_are_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    note("starting")
    assert capsys.readouterr() == ("", "starting\n")

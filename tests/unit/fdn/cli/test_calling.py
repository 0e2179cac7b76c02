import io
from pathlib import Path

import click
import pytest

from fdn.cli.calling import items_of, read_body


class Input:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_the_argument_is_json() -> None:
    assert read_body(None) is None
    assert read_body('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}


def test_it_may_come_from_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "body.json").write_text("[1]")
    assert read_body(f"@{tmp_path / 'body.json'}") == [1]
    monkeypatch.setattr("sys.stdin", Input(b'"two"'))
    assert read_body("-") == "two"


def test_it_may_be_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_body("{", raw=True) == b"{"
    (tmp_path / "body").write_bytes(b"\xff\x00")
    assert read_body(f"@{tmp_path / 'body'}", raw=True) == b"\xff\x00"
    monkeypatch.setattr("sys.stdin", Input(b"\xfe"))
    assert read_body("-", raw=True) == b"\xfe"


@pytest.mark.parametrize("body", ["hello", "", "{", "[" * 100_000, "@no/such/file"])
def test_a_mistake_is_a_usage_error(body: str) -> None:
    with pytest.raises(click.BadParameter):
        read_body(body)


def test_a_string_without_quotes_is_explained() -> None:
    with pytest.raises(click.BadParameter, match="a string needs quotes of its own"):
        read_body("hello")


def test_items_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "items").write_text('1\n\n{"a": 2}\noops\n')
    items = items_of(str(tmp_path / "items"))
    assert [next(items), next(items)] == [1, {"a": 2}]
    with pytest.raises(click.BadParameter, match="line 4"):
        next(items)
    monkeypatch.setattr("sys.stdin", Input(b"[1]\n"))
    assert list(items_of("-")) == [[1]]
    with pytest.raises(click.BadParameter, match="cannot be read"):
        list(items_of(str(tmp_path / "missing")))

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fdn.cli.frames import explain_frame

VECTORS = json.loads((Path(__file__).parents[3] / "interop" / "vectors.json").read_text(encoding="utf-8"))


def problems(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [problem for part in (told, *told["envelopes"]) for problem in part["problems"]]


@pytest.mark.parametrize("vector", VECTORS["batches"], ids=lambda vector: vector["name"])
def test_golden_vectors_are_read(vector: dict[str, Any]) -> None:
    told = explain_frame(bytes.fromhex(vector["hex"]))
    assert told["bytes"] == len(vector["hex"]) // 2
    assert bool(problems(told)) is bool(vector["malformed"])
    good = [envelope for envelope in told["envelopes"] if not envelope["problems"]]
    assert [(envelope["kind"], envelope.get("to", "")) for envelope in good] == [
        (envelope["kind"], envelope["to"]) for envelope in vector["envelopes"]
    ]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_what_is_refused_has_a_reason(vector: dict[str, Any]) -> None:
    assert problems(explain_frame(bytes.fromhex(vector["hex"])))


def test_fields_have_names_and_offsets() -> None:
    frame = b"\x01" + msgpack.packb([[10], [5, "math.add", 7, 250, {11: {"a": "b"}, 99: 1}, [2, 3]]])
    first, second = explain_frame(frame)["envelopes"]
    assert (first["at"], first["bytes"], first["kind_name"]) == (2, 2, "CANCEL")
    assert (second["at"], second["kind_name"], second["to"], second["id"]) == (4, "CALL", "math.add", 7)
    assert (second["meta"], second["body"]) == ({"headers": {"a": "b"}, "99": 1}, [2, 3])


@pytest.mark.parametrize(
    ("envelope", "at", "what"),
    [
        ([5, 6], 4, "to: 6: expected a string"),
        ([5, "x", -1], 6, "id: -1: expected an integer from 0"),
        ([5, "x", 1, None], 7, "deadline_ms: nil: expected an integer from 0"),
        ([5, "x", 1, 0, [1]], 8, "meta: an array: expected nil or a map"),
        ([5, "x", 1, 0, {"a": 1}], 8, "meta: a key is no integer"),
        ([True], 3, "kind: a boolean: expected an integer"),
        ([5, "x" * 1025], 4, "to: 1025 characters: expected at most 1024"),
        ([], 2, "an empty array: expected a kind at least"),
        ("text", 2, "a string: expected an array"),
        ([5, "x", 1, 0, {n: n for n in range(65)}], 8, "meta: 65 keys: expected at most 64"),
        ([5, "x", 1, 0, {1: "x" * 70_000}], 8, "meta: 70007 bytes: expected at most 65536"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_where(envelope: Any, at: int, what: str) -> None:
    told = explain_frame(b"\x01" + msgpack.packb([envelope]))
    assert problems(told) == [{"at": at, "what": what}]


def test_an_end_in_the_middle_names_the_field() -> None:
    frame = b"\x01" + msgpack.packb([[5, "math.add", 7, 250, None, "a long text"]])
    (problem,) = problems(explain_frame(frame[:-3]))
    assert problem == {
        "at": 17,
        "what": "envelope 1 of 1: body cannot be read, nor what follows: the frame ends before it does",
    }


def test_elements_of_a_later_version_are_no_problem() -> None:
    told = explain_frame(b"\x01" + msgpack.packb([[5, "x", 1, 0, None, None, "new"]]))
    assert problems(told) == []

from typing import Any

import pytest

from fdn.errors import Unreachable
from fdn.local.views import Eye, changes, is_whole


def row(node: str, status: str = "alive", **other: Any) -> dict[str, Any]:
    return {
        "node": node,
        "name": node,
        "status": status,
        "incarnation": [1, 0],
        "reachable": status == "alive",
        "reason": "",
        "state": "serving",
        **other,
    }


def test_a_view_is_whole_when_it_holds_exactly_these_as_reachable():
    assert is_whole([row("a"), row("b")], ["b", "a"])
    assert is_whole([row("a"), row("b"), row("old", "left")], ["a", "b"])
    assert not is_whole([row("a"), row("b", "suspect")], ["a", "b"])
    assert not is_whole([row("a"), row("b", reachable=False)], ["a", "b"])
    assert not is_whole([row("a"), row("b"), row("c")], ["a", "b"])


def test_no_news_is_no_line():
    assert changes([row("a")], [row("a", incarnation=[1, 4], rtt_us=17.0)]) == []


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (row("a"), row("a", "dead", reason="no ack"), "a is dead (no ack), was alive"),
        (row("a", "dead"), row("a", incarnation=[2, 0]), "a is alive, was dead"),
        (row("a"), row("a", incarnation=[2, 0]), "a is alive, was alive"),
        (row("a"), row("a", state="stalled"), "a is stalled, was serving"),
    ],
)
def test_a_change_is_a_line(before: dict[str, Any], after: dict[str, Any], line: str):
    assert changes([before], [after]) == [line]


def test_a_newcomer_is_a_line():
    assert changes([row("a")], [row("a"), row("b")]) == ["b is alive, new here"]


def test_an_eye_on_nobody_says_so_and_may_look_again():
    eye = Eye("tcp://127.0.0.1:1", "fdn")
    for _ in range(2):
        with pytest.raises(Unreachable):
            eye.look()
    eye.close()

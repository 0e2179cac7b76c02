"""What a sender may ask for, and what does not fit together."""

from typing import Any

import pytest

import fdn
from fdn.messaging.delivery.promise import Promise, promise
from fdn.runtime.send_options import NO_OPTIONS, SendOptions


@pytest.mark.parametrize(
    ("delivery", "causal", "confirm", "options", "expected"),
    [
        ("at_most_once", None, False, NO_OPTIONS, None),
        ("at_least_once", None, False, NO_OPTIONS, Promise()),
        ("effectively_once", None, False, SendOptions(b"k"), Promise(identified=True, key=b"k")),
        (None, "cart", False, NO_OPTIONS, Promise(label="cart")),
        (None, None, True, NO_OPTIONS, Promise(confirm=True)),
        (None, None, True, SendOptions(priority=2, refuse=True), Promise(confirm=True, refuse=True, priority=2)),
    ],
)
def test_what_is_asked_for(delivery: Any, causal: Any, confirm: bool, options: SendOptions, expected: Promise | None):
    assert promise(delivery, causal, confirm, options) == expected


@pytest.mark.parametrize(
    ("delivery", "causal", "confirm", "says"),
    [
        ("exactly_once", None, False, "delivery='exactly_once'"),
        ("at_most_once", None, True, "confirm=True with"),
        ("at_most_once", "cart", False, "causal='cart' with"),
        (None, "", False, "causal=''"),
        (None, "x" * 257, False, "causal='xxx"),
    ],
)
def test_what_does_not_fit(delivery: Any, causal: Any, confirm: bool, says: str):
    with pytest.raises(fdn.BadRequest, match=says):
        promise(delivery, causal, confirm, NO_OPTIONS)

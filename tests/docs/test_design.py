"""Figures that the design names are those of the code."""

import re

import pytest

from tests.docs.snippets import ROOT
from topologies.swim import SwimSettings

DESIGN = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("preset", ["local", "lan", "wan"])
def test_presets(preset: str):
    made: SwimSettings = getattr(SwimSettings, preset)()
    (row,) = re.findall(rf"^\| `{preset}`.*?\| (\S+ \w+) \| (\S+ \w+) \| (\d+) intervals \|$", DESIGN, re.MULTILINE)
    assert row == (shown(made.probe_interval_s), shown(made.ack_timeout_s), str(made.suspicion_multiplier))


def shown(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"

import dataclasses

from topologies.hyparview.interface import HyParViewStats


def test_stats_are_frozen_values():
    assert all(field.type == "int" or field.type is int for field in dataclasses.fields(HyParViewStats))
    assert "__dict__" not in dir(HyParViewStats)

from typing import get_args

import pytest

from topologies.plumtree.interface import PlumtreeEffect, PlumtreeInput, PlumtreeStats


@pytest.mark.parametrize("kind", [*get_args(PlumtreeInput), *get_args(PlumtreeEffect), PlumtreeStats])
def test_inputs_and_effects_are_frozen_values(kind):
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)

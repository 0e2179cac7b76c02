import dataclasses
from typing import get_args

import pytest

from topologies.swim import interface
from topologies.swim.interface import Effect, Input


@pytest.mark.parametrize("kind", [*get_args(Input), *get_args(Effect), interface.SwimStats])
def test_inputs_and_effects_are_frozen_values(kind):
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)
    assert all(field.type is not None for field in dataclasses.fields(kind))

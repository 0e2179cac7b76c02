import dataclasses
from typing import get_args

import pytest

from consensus.raft import interface
from consensus.raft.interface import Effect, Input


@pytest.mark.parametrize("kind", [*get_args(Input), *get_args(Effect), interface.RaftStatus, interface.PeerStatus])
def test_inputs_and_effects_are_frozen_values(kind):
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)
    assert all(field.type is not None for field in dataclasses.fields(kind))


@pytest.mark.parametrize("reason", [*interface.Cause, *interface.Refusal])
def test_causes_and_refusals_can_be_read_aloud(reason):
    assert " " in reason.value or reason.value.islower()

import dataclasses

import pytest

from topologies.anti_entropy.interface import Drop, Peers, Put, Sync
from topologies.anti_entropy.messages import Entry
from topologies.identity import NodeId

INPUTS = [Put(Entry(b"", (1, 0), b"")), Drop(b""), Peers(frozenset()), Sync(NodeId("a"))]


@pytest.mark.parametrize("input", INPUTS, ids=lambda it: type(it).__name__)
def test_inputs_cannot_be_changed(input):
    field = dataclasses.fields(input)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(input, field, None)

import pytest

from consensus import raft
from consensus.errors import RemoteProtocolError


def test_the_door_raises_it_with_the_cause():
    with pytest.raises(RemoteProtocolError, match="no Raft message") as caught:
        raft.decode(b"\xc1")
    assert caught.value.__cause__ is not None

import pytest

from topologies import records, swim
from topologies.errors import RemoteProtocolError


@pytest.mark.parametrize("decode", [swim.decode, records.decode])
def test_both_doors_raise_it_with_the_cause(decode):
    with pytest.raises(RemoteProtocolError, match="expected") as caught:
        decode(b"\xc1")
    assert caught.value.__cause__ is not None

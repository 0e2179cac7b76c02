import pytest

from consensus.machine import MachineLimits


def test_a_bound_bounds():
    with pytest.raises(ValueError, match="rows_max=0 is no bound"):
        MachineLimits(rows_max=0)

import pytest

from tests.unit.transports.harness import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig("zmq")

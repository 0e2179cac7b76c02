import pytest

from tests.unit.transports.harness import Rig


@pytest.fixture(params=["zmq", "memory"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)

import pytest

from transports import errors


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (errors.OversizedEnvelope(70_000, 65_536), {"size": 70_000, "limit": 65_536}),
        (errors.MalformedBatch("truncated", 12), {"reason": "truncated", "size": 12}),
        (errors.UnknownWireVersion(9), {"version": 9}),
        (errors.EndpointInvalid("x", "no port"), {"endpoint": "x", "reason": "no port"}),
        (errors.EndpointInUse("tcp://h:1"), {"endpoint": "tcp://h:1"}),
        (errors.TransportClosed(), {}),
    ],
)
def test_facts_are_attributes_and_in_the_message(error: errors.TransportError, facts: dict[str, object]):
    assert isinstance(error, errors.TransportError)
    for name, value in facts.items():
        assert getattr(error, name) == value
        assert str(value) in str(error)


def test_the_tree_is_the_one_drawn():
    assert issubclass(errors.OversizedEnvelope, errors.LocalProtocolError)
    assert issubclass(errors.TransportClosed, errors.LocalProtocolError)
    assert issubclass(errors.MalformedBatch, errors.RemoteProtocolError)
    assert issubclass(errors.UnknownWireVersion, errors.RemoteProtocolError)
    assert issubclass(errors.EndpointInvalid, ValueError)
    assert all(name in (errors.__doc__ or "") for name in errors.__all__)

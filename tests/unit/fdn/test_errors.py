import asyncio

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdn import errors
from fdn.errors import (
    MESSAGE_BYTES_MAX,
    TRACEBACK_BYTES_MAX,
    ConfigError,
    DeadlineExceeded,
    Error,
    NotFound,
    NotLeader,
    Overloaded,
    RemoteError,
    from_wire,
    to_wire,
)

TREE = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Error)]


class Haiku(Exception):
    """An error that a user's handler may raise, and that no other node knows."""


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def crossed(error: BaseException, node: str = "n1-00") -> Error:
    """The error as the other side sees it: through real bytes, read by the independent reader too."""
    encoded = msgspec.msgpack.encode(to_wire(error, node=node))
    assert msgpack.unpackb(encoded) == msgspec.msgpack.decode(encoded)
    return from_wire(msgpack.unpackb(encoded))


@pytest.mark.parametrize(
    ("name", "code", "retryable", "wire_code"),
    [
        # As drawn at the top of the module, and promised to scripts: neither column may change.
        ("Error", 1, False, "error"),
        ("BadRequest", 2, False, "bad_request"),
        ("ConfigError", 2, False, "config"),
        ("Cancelled", 1, False, "cancelled"),
        ("Conflict", 8, False, "conflict"),
        ("Corrupt", 1, False, "corrupt"),
        ("DeadlineExceeded", 5, False, "deadline_exceeded"),
        ("Denied", 7, False, "denied"),
        ("NoQuorum", 6, True, "no_quorum"),
        ("NotFound", 4, False, "not_found"),
        ("NotLeader", 6, True, "not_leader"),
        ("Overloaded", 1, True, "overloaded"),
        ("RemoteError", 1, False, "remote"),
        ("Unreachable", 3, True, "unreachable"),
        ("VersionMismatch", 3, False, "version_mismatch"),
    ],
)
def test_the_tree_is_as_drawn(name: str, code: int, retryable: bool, wire_code: str) -> None:
    cls = getattr(errors, name)
    assert (cls.code, cls.retryable, cls.wire_code) == (code, retryable, wire_code)
    drawing = next(line for line in (errors.__doc__ or "").splitlines() if name in line.split())
    assert str(code) in drawing.split()
    assert ("yes" in drawing.split()) == retryable


def test_the_table_above_holds_the_whole_tree() -> None:
    assert len(TREE) == 15


def test_message_and_hint_are_shown_and_facts_are_kept() -> None:
    error = ConfigError("x = 5: expected 1 to 3", hint="lower x", key="x")
    assert str(error) == "x = 5: expected 1 to 3; lower x"
    assert str(ConfigError("bare")) == "bare"
    assert error.facts == {"key": "x"}


def test_a_missed_deadline_is_a_timeout_for_those_who_catch_that() -> None:
    with pytest.raises(TimeoutError):
        raise DeadlineExceeded("took too long", hint="wait longer")
    assert str(DeadlineExceeded("took too long")) == "took too long"
    assert isinstance(DeadlineExceeded("x"), asyncio.TimeoutError)


@pytest.mark.parametrize("cls", [cls for cls in TREE if cls is not RemoteError])
def test_own_errors_cross_as_themselves(cls: type[Error]) -> None:
    back = crossed(raised(cls("it broke", hint="mend it", leader="n2-00", count=7)))
    assert type(back) is cls
    assert (back.message, back.hint, back.node) == ("it broke", "mend it", "n1-00")
    assert back.facts == {"leader": "n2-00", "count": 7}
    assert (back.code, back.retryable) == (cls.code, cls.retryable)
    assert not hasattr(back, "__notes__")


def test_the_leader_hint_crosses() -> None:
    back = crossed(NotLeader("ask another", leader="n2-00"))
    assert isinstance(back, NotLeader)
    assert back.leader == "n2-00"
    assert NotLeader("nobody knows").leader == ""


def test_a_crash_arrives_with_type_message_and_traceback() -> None:
    back = crossed(raised(Haiku("autumn moonlight")))
    assert isinstance(back, RemoteError)
    assert back.remote_type.endswith("Haiku")
    assert back.message == "autumn moonlight"
    assert back.node == "n1-00"
    assert "in raised" in back.remote_traceback
    assert back.__notes__[0].startswith("Traceback on n1-00:\n")
    assert crossed(raised(ValueError("x"))).remote_type == "ValueError"  # type: ignore[attr-defined]


def test_tracebacks_are_stitched_over_nodes() -> None:
    """A worm of three nodes: each later one shows the frames of all before, and the first one's type stays."""
    first = crossed(raised(Haiku("moonlight")), "n3")
    second = crossed(raised(first), "n2")
    assert isinstance(second, RemoteError)
    assert second.remote_type.endswith("Haiku")
    assert second.node == "n3"
    assert "Traceback on n3" in second.remote_traceback
    assert second.remote_traceback.count("in raised") == 2


def test_what_crosses_is_bounded_and_keeps_the_end_of_a_traceback() -> None:
    body = to_wire(raised(Haiku("é" * 100_000)))
    assert len(body["message"].encode()) <= MESSAGE_BYTES_MAX
    assert len(body["traceback"].encode()) <= TRACEBACK_BYTES_MAX
    assert body["traceback"].startswith("[earlier lines left out]\n")
    assert body["traceback"].endswith("é\n")
    big = to_wire(Error("m", hint="h" * 10_000, **{f"fact{i}": "v" * 10_000 for i in range(100)}))
    assert len(msgspec.msgpack.encode(big)) < 16 * 1024


def test_facts_that_no_reader_would_understand_stay_behind() -> None:
    error = Error("m", file=object(), items=[1], huge=2**70, ok=1.5)
    assert to_wire(error)["details"] == {"ok": 1.5}


def test_lone_surrogates_do_not_break_the_encoder() -> None:
    assert crossed(Haiku("\ud800 file name")).message == "? file name"


def test_an_error_that_cannot_print_itself_is_reported_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "whose __str__ raised RuntimeError" in crossed(raised(Broken())).message


def test_an_unknown_code_becomes_a_remote_error_and_keeps_its_word_on_retrying() -> None:
    back = from_wire({"code": "from_the_future", "message": "m", "retryable": True, "details": {"hint": "x", "n": 1}})
    assert isinstance(back, RemoteError)
    assert back.remote_type == "from_the_future"
    assert back.retryable
    assert back.facts == {"hint": "x", "n": 1}


def test_a_peer_cannot_name_our_arguments() -> None:
    back = from_wire({"code": "not_found", "message": "m", "details": {"hint": "x", "message": "y", "self": "z"}})
    assert isinstance(back, NotFound)
    assert (back.message, back.hint) == ("m", "")


def test_whether_an_own_error_is_retryable_is_ours_to_say() -> None:
    assert from_wire({"code": "overloaded", "retryable": False}).retryable is True
    assert from_wire({"code": "deadline_exceeded", "retryable": True}).retryable is False
    assert isinstance(from_wire({"code": "overloaded"}), Overloaded)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)
keys = st.sampled_from(["code", "message", "hint", "node", "details", "traceback", "retryable"])


@given(anything | st.dictionaries(keys, anything))
def test_no_body_makes_the_reader_raise(body: object) -> None:
    error = from_wire(body)
    assert isinstance(error, Error)
    assert len(str(error)) <= 2 * MESSAGE_BYTES_MAX + 2

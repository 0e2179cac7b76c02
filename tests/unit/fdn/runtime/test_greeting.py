import msgspec
import pytest

from fdn.runtime.greeting import Greeter, fingerprint
from transports.channel import Channel
from transports.wire.handshake import LANES_MAX, Hello, Identity, Refused, RefusedCode, Role, Welcome

ME = Identity("n1-1", "n1", (1, 0), {"data": "tcp://127.0.0.1:1"})


def greeter(**settings: object) -> Greeter:
    return Greeter("fdn", ME, "abc", (100, 2000), **settings)  # type: ignore[arg-type]


def hello(**changes: object) -> Hello:
    said = Hello((1, 1), "fdn", Identity("n2-1", "n2"), "data", 7)
    return msgspec.structs.replace(said, **changes)


def test_what_we_say():
    said = greeter().hello(Channel.GOSSIP, 9)
    assert said == Hello((1, 1), "fdn", ME, "gossip", 9, Role.NODE, fingerprint="abc")
    assert greeter().hello(Channel.DATA, 9, 3).lane == 3


def test_a_good_hello_is_welcome():
    welcome = Welcome(1, "fdn", ME, 7, (100, 2000), fingerprint="abc", lanes=LANES_MAX)
    assert greeter().answer(hello(), Channel.DATA) == welcome
    gossip = greeter().answer(hello(channel="gossip"), Channel.GOSSIP)
    assert isinstance(gossip, Welcome)
    assert gossip.lanes == 1
    assert isinstance(greeter().answer(hello(role=Role.CLIENT), Channel.DATA), Welcome)
    assert isinstance(greeter().answer(hello(versions=(0, 99)), Channel.DATA), Welcome)


@pytest.mark.parametrize(
    ("changes", "code", "both"),
    [
        ({"versions": (2, 3)}, RefusedCode.NO_COMMON_VERSION, ("1 to 1", "2 to 3")),
        ({"versions": (0, 0)}, RefusedCode.NO_COMMON_VERSION, ("1 to 1", "0 to 0")),
        ({"cluster": "west"}, RefusedCode.WRONG_CLUSTER, ("'fdn'", "'west'")),
        ({"channel": "events"}, RefusedCode.WRONG_CHANNEL, ("data", "'events'")),
        ({"channel": "nonsense"}, RefusedCode.WRONG_CHANNEL, ("data", "'nonsense'")),
    ],
)
def test_a_refusal_names_both_sides(changes: dict[str, object], code: RefusedCode, both: tuple[str, str]):
    answer = greeter().answer(hello(**changes), Channel.DATA)
    assert isinstance(answer, Refused)
    assert answer.code == code
    for side in (*both, "'n1'", "'n2'"):
        assert side in answer.reason


def test_a_further_objection_comes_last():
    objection = Refused(RefusedCode.LEAVING, "not now", retry=True)
    asked: list[Hello] = []

    def object_to(said: Hello) -> Refused:
        asked.append(said)
        return objection

    made = greeter(object_to=object_to)
    assert made.answer(hello(), Channel.DATA) is objection
    assert made.answer(hello(cluster="west"), Channel.DATA) is not objection
    assert len(asked) == 1


def test_a_new_incarnation_is_said_from_then_on():
    made = greeter()
    risen = msgspec.structs.replace(ME, incarnation=(1, 5))
    made.now_known_as(risen)
    assert made.hello(Channel.DATA, 1).identity == risen
    assert made.answer(hello(), Channel.DATA).identity == risen  # type: ignore[union-attr]


def test_fingerprints():
    assert fingerprint({"a": 1, "b": "x"}) == fingerprint({"b": "x", "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint({})) == 16

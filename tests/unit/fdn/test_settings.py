import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from fdn.errors import ConfigError
from fdn.settings import (
    BlobSettings,
    CallSettings,
    DataSettings,
    DeliverySettings,
    EventSettings,
    FactSettings,
    LinkSettings,
    LogSettings,
    RelaySettings,
    Settings,
    SharedSettings,
    check_value,
    setting_fields,
)

SECTIONS: dict[str, Any] = {
    "links": LinkSettings,
    "data": DataSettings,
    "calls": CallSettings,
    "events": EventSettings,
    "delivery": DeliverySettings,
    "blobs": BlobSettings,
    "relay": RelaySettings,
    "shared": SharedSettings,
    "facts": FactSettings,
    "log": LogSettings,
}
RANGED = [(key, field) for key, field in setting_fields() if "low" in field.metadata]


def test_the_defaults_are_in_order_and_cannot_be_changed() -> None:
    settings = Settings()
    assert settings.bind == "tcp://127.0.0.1:0"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.name = "x"  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        Settings("positional")  # type: ignore[call-arg]  # the point of the test


def test_every_section_is_found_by_its_key() -> None:
    for key, section in SECTIONS.items():
        assert key == section.KEY
        assert isinstance(getattr(Settings(), key), section)
    assert {key.partition(".")[0] for key, _ in setting_fields() if "." in key} == set(SECTIONS)


def test_every_number_has_a_range_that_holds_its_default() -> None:
    numbers = [key for key, field in setting_fields() if field.type in (int, float)]
    assert numbers == [key for key, _ in RANGED]
    for key, field in RANGED:
        check_value(key, field, field.default)


@pytest.mark.parametrize(("key", "field"), RANGED, ids=[key for key, _ in RANGED])
def test_ranges_are_kept_and_named(key: str, field: dataclasses.Field[Any]) -> None:
    low, high = field.metadata["low"], field.metadata["high"]
    for value in (low, high):
        check_value(key, field, value)
    wrong = [low - 1, high + 1] + ([float("nan")] if field.type is float else [])
    for value in wrong:
        with pytest.raises(ValueError, match="expected"):
            check_value(key, field, value)


def test_the_message_names_key_value_and_range() -> None:
    with pytest.raises(ConfigError, match=r"^data.credit_bytes = 5: expected 65536 to 4294967296 \(64KiB to 4GiB\)$"):
        DataSettings(credit_bytes=5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Node 1"}, 'name = "Node 1": expected 1 to 64 characters'),
        ({"cluster": ""}, "cluster"),
        ({"cluster": "x" * 65}, "1 to 64"),
        ({"bind": "nowhere"}, "expected tcp://HOST:PORT"),
        ({"join": "10.0.0.1:7400"}, "is a string"),
        ({"join": ["h"]}, "join"),
        ({"join": [5]}, "a list of strings"),
        ({"advertise": "h:1:"}, "advertise"),
        ({"preset": "fast"}, 'expected "local" or "lan" or "wan"'),
        ({"role": "leader"}, 'expected "member"'),
        ({"insecure": 1}, "true or false"),
        ({"join_timeout_s": "5s"}, "expected a number"),
        ({"join_timeout_s": True}, "expected a number"),
        ({"calls": {"timeout_s": 1}}, "expected a CallSettings"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**changed)


def test_a_float_may_be_given_as_a_whole_number_but_not_the_reverse() -> None:
    assert CallSettings(timeout_s=1).timeout_s == 1
    with pytest.raises(ConfigError, match="a whole number"):
        CallSettings(retries=1.0)  # type: ignore[arg-type]  # the point of the test


def test_addresses_to_join_are_made_whole() -> None:
    assert Settings(join=["h:7400", "tcp://[::1]:7400"]).join == ("tcp://h:7400", "tcp://[::1]:7400")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bind", ["tcp://10.0.0.1:7400", "tcp://*:7400", "tcp://0.0.0.0:7400", "tcp://[::]:0", "tcp://host:1"]
)
def test_beyond_loopback_takes_the_word_insecure(bind: str) -> None:
    with pytest.raises(ConfigError, match=r"no keys; .*--insecure"):
        Settings(bind=bind, advertise="10.0.0.1")
    assert Settings(bind=bind, advertise="10.0.0.1", insecure=True).bind == bind


@pytest.mark.parametrize(
    "bind", ["tcp://127.0.0.1:7400", "tcp://127.0.0.2:1", "tcp://localhost:0", "tcp://[::1]:7400+"]
)
def test_loopback_needs_no_such_word(bind: str) -> None:
    assert Settings(bind=bind).bind == bind


def test_a_wildcard_cannot_be_advertised() -> None:
    with pytest.raises(ConfigError, match="which peers cannot dial"):
        Settings(bind="tcp://0.0.0.0:7400", insecure=True)


def test_the_pace_follows_the_address_unless_it_is_named() -> None:
    assert Settings().pace == "local"
    assert Settings(bind="tcp://10.0.0.1:7400", insecure=True).pace == "lan"
    assert Settings(preset="wan").pace == "wan"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LinkSettings(redial_min_s=3.0), "links.redial_min_s = 3 is above links.redial_max_s = 2"),
        (
            lambda: DeliverySettings(retransmit_min_s=9.0),
            "delivery.retransmit_min_s = 9 is above delivery.retransmit_max_s",
        ),
        (lambda: DataSettings(stall_warn_s=15.0), "data.stall_warn_s = 15 is not below data.stall_max_s = 15"),
        (lambda: DataSettings(beat_interval_s=1.0), "data.beat_interval_s = 1 is not below data.stall_warn_s"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_addresses_are_taken_apart_for_those_who_bind() -> None:
    settings = Settings(bind="tcp://127.0.0.1:7400+", advertise="::1")
    assert settings.bind_address.search
    assert settings.advertise_address == "[::1]"
    assert Settings().advertise_address == ""


def test_importing_the_settings_is_cheap() -> None:
    heavy = ("click", "structlog", "zmq", "numpy", "msgspec", "asyncio", "psutil")
    script = f"import sys, fdn.settings; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"

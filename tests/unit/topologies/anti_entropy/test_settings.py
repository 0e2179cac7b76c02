import pytest

from topologies.anti_entropy.settings import AntiEntropySettings


@pytest.mark.parametrize("name", ["interval_s", "parts_max", "entries_max"])
def test_wrong_settings_say_what_is_wrong(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be above 0"):
        AntiEntropySettings(**{name: 0})

import pytest

from topologies.client_server.settings import ClientServerSettings


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"homes": 0}, "homes is 0; it must be above 0"),
        ({"refresh_s": float("inf")}, "refresh_s is inf"),
        ({"server_tag": ""}, "server_tag is empty"),
        ({"retry_min_s": 2.0, "retry_max_s": 1.0}, "the least must not be above the most"),
    ],
)
def test_wrong_settings_say_what_is_wrong(wrong, said):
    with pytest.raises(ValueError, match=said):
        ClientServerSettings(**wrong)

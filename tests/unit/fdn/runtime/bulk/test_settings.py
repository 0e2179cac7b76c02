import pytest

from fdn.runtime.bulk.settings import BulkSettings


def test_the_defaults_fit_together():
    settings = BulkSettings()
    assert settings.whole_bytes_max < settings.piece_bytes <= 64 * 1024
    assert settings.transfer_bytes_max <= settings.queue_bytes_max
    # What one sender has under way must fit at the receiver, or it would be refused as busy.
    assert settings.active_max <= settings.taken_max
    assert settings.queue_bytes_max <= settings.taken_bytes_max <= settings.taken_total_bytes_max


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"piece_bytes": 0}, "piece_bytes is 0"),
        ({"ack_timeout_s": float("inf")}, "ack_timeout_s is inf"),
        ({"piece_bytes": 65537}, "receivers take 65536"),
    ],
)
def test_what_is_no_bound_is_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        BulkSettings(**fields)

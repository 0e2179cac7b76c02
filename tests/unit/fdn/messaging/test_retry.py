import random

import pytest

from fdn.errors import ConfigError, DeadlineExceeded, Overloaded, Unreachable
from fdn.messaging.retry import Retry


def test_only_what_may_pass_is_tried_again():
    retry = Retry(3)
    rng = random.Random(1)
    assert retry.pause_before(1, Unreachable("x"), rng) == 0.0
    assert retry.pause_before(1, Overloaded("x"), rng) == 0.0
    assert retry.pause_before(1, DeadlineExceeded("x"), rng) is None
    assert retry.pause_before(3, Unreachable("x"), rng) is not None
    assert retry.pause_before(4, Unreachable("x"), rng) is None


def test_pauses_double_with_full_jitter_up_to_the_cap():
    retry = Retry(20, pause_s=0.1, pause_max_s=1.0)
    for attempt, most in ((2, 0.1), (3, 0.2), (4, 0.4), (5, 0.8), (6, 1.0), (20, 1.0)):
        pauses = [retry.pause_before(attempt, Unreachable("x"), random.Random(seed)) for seed in range(200)]
        assert all(pause is not None and 0 <= pause <= most for pause in pauses)
        assert max(pause for pause in pauses if pause is not None) > most * 0.9


@pytest.mark.parametrize("arguments", [(-1,), (1, -0.1), (1, 2.0, 1.0)])
def test_impossible_settings(arguments: tuple[float, ...]):
    with pytest.raises(ConfigError, match="is not possible"):
        Retry(*arguments)  # type: ignore[arg-type]

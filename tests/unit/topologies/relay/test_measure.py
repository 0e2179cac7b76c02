from topologies.relay.measure import Direct


def measured(direct: Direct, *samples: float) -> None:
    for number, sample in enumerate(samples):
        direct.on_sent(number, 10.0)
        assert direct.on_echo(number, 10.0 + sample)


def test_nothing_is_known_before_the_first_answer():
    direct = Direct()
    direct.on_sent(1, 0.0)
    assert (direct.rtt_s, direct.missed) == (None, 0)


def test_the_median_follows_a_step_after_three_and_ignores_one_outlier():
    direct = Direct()
    measured(direct, 0.25, 0.25, 0.25, 0.25, 4.0)
    assert direct.rtt_s == 0.25
    measured(direct, 2.0)
    assert direct.rtt_s == 0.25
    measured(direct, 2.0)
    assert direct.rtt_s == 2.0


def test_what_is_lost_counts_as_slow_and_in_a_row():
    direct = Direct()
    direct.on_sent(1, 0.0)
    direct.on_sent(2, 0.5)
    direct.expire(1.0, 1.0)
    assert (direct.rtt_s, direct.missed) == (1.0, 1)
    direct.expire(1.5, 1.0)
    assert direct.missed == 2
    measured(direct, 0.25)
    assert direct.missed == 0


def test_an_answer_counts_once_and_only_if_it_was_asked_for():
    direct = Direct()
    direct.on_sent(1, 0.0)
    assert direct.on_echo(1, 0.5)
    assert not direct.on_echo(1, 0.5)
    assert not direct.on_echo(9, 0.5)
    direct.on_sent(2, 0.0)
    direct.expire(2.0, 1.0)
    assert not direct.on_echo(2, 2.0)


def test_a_new_link_is_measured_anew():
    direct = Direct()
    measured(direct, 0.25)
    direct.on_sent(7, 0.0)
    direct.expire(5.0, 1.0)
    direct.forget()
    assert (direct.rtt_s, direct.missed) == (None, 0)

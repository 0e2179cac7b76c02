from fdn.runtime.flow.transit import Transit


def test_the_shortest_way_and_the_offset_of_the_clocks_are_no_age():
    transit = Transit()
    transit.on_clock(5000.0, 100.0)
    assert transit.age_s == 0.0
    transit.on_clock(5001.0, 101.25)
    assert transit.age_s == 0.25
    transit.on_clock(5002.0, 101.9)
    assert transit.age_s == 0.0, "a shorter way than any before"
    transit.on_clock(5003.0, 103.0)
    assert round(transit.age_s, 6) == 0.1


def test_clocks_that_drift_do_no_harm_for_ever():
    transit = Transit()
    for second in range(1200):  # theirs loses a millisecond in a second: ten times what a bad clock does
        transit.on_clock(second * 0.999, float(second))
        assert transit.age_s < 0.35
    assert transit.age_s > 0.2, "and five minutes of it are not told from waiting"

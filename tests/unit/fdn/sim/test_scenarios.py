from fdn.sim.scenarios import SCENARIOS, STUDIES


def test_each_is_found_by_its_name():
    assert len(SCENARIOS) >= 7
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert scenario.summary
        assert scenario.nodes > 1
    for name, study in STUDIES.items():
        assert study.name == name
        assert study.summary
        assert study.nodes > 1

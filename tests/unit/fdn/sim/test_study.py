from fdn.sim.study import Study, StudyRequest


def test_a_study_measures_what_it_is_asked():
    study = Study(
        name="sum",
        summary="adds",
        nodes=3,
        messages=1,
        cycles=1,
        measure=lambda request: {"sum": request.nodes + request.seed},
        table=lambda result: [str(result["sum"])],
    )
    said: list[str] = []
    request = StudyRequest(nodes=study.nodes, seed=4, messages=1, cycles=1, progress=said.append)
    request.progress("adding")
    assert study.table(study.measure(request)) == ["7"]
    assert said == ["adding"]

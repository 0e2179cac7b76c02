from fdn.client.signals import Signal


def test_wakes_everybody_once():
    signal, woken = Signal(), []
    for name in "abc":
        signal.add(lambda name=name: woken.append(name))  # type: ignore[misc]
    assert signal
    signal.fire()
    signal.fire()
    assert woken == ["a", "b", "c"]
    assert not signal


def test_who_left_is_not_woken():
    signal, woken = Signal(), []

    def wake() -> None:
        woken.append(1)

    signal.add(wake)
    signal.discard(wake)
    signal.discard(wake)
    signal.fire()
    assert woken == []


def test_who_waits_again_is_woken_next_time():
    signal, woken = Signal(), []

    def again() -> None:
        woken.append(1)
        signal.add(again)

    signal.add(again)
    signal.fire()
    signal.fire()
    assert woken == [1, 1]

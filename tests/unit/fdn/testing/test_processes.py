"""What a `ProcessCluster` says and refuses before there is any process."""

import os
from pathlib import Path

import pytest

import fdn
from fdn.testing.processes import ProcessCluster


def test_its_environment_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FDN_JOIN", "127.0.0.1:7400")
    with ProcessCluster(environment={"FDN_DATA_STALL_MAX_S": "1"}) as cluster:
        kept = {key for key in cluster.environment if key.startswith("FDN_")}
        assert kept == {"FDN_DATA_STALL_MAX_S"}
        assert not Path(cluster.environment["XDG_CONFIG_HOME"]).exists()
        assert str(Path(fdn.__file__).parents[1]) in cluster.environment["PYTHONPATH"].split(os.pathsep)


def test_its_folder_is_temporary_unless_it_is_given(tmp_path: Path):
    with ProcessCluster() as own, ProcessCluster(tmp_path / "given") as given:
        assert own.folder.is_dir()
        assert given.folder == tmp_path / "given"
    assert not own.folder.exists()
    assert given.folder.is_dir()


def test_faults_need_a_proxy():
    with ProcessCluster() as cluster:
        for change in (cluster.heal, cluster.traffic, lambda: cluster.slow(0, 1)):
            with pytest.raises((AssertionError, IndexError)):
                change()
        with pytest.raises(AssertionError, match="faults=True"):
            cluster.heal()
        with pytest.raises(KeyError, match="no node is named 'n9'"):
            cluster["n9"]


def test_faults_are_read_and_set_both_ways():
    with ProcessCluster(faults=True) as cluster:
        one, two, three = (cluster._make(f"n{number}", (), "") for number in (1, 2, 3))
        assert (one.runs, one.pid, one.log) == (False, 0, "")
        proxy = cluster._faults()
        cluster.slow(one, "n2", delay="50ms", jitter=0.01, rate="1MiB/s", channel="data")
        cluster.lossy(0, 1, loss=0.5)
        for pair in (("n1", "n2"), ("n2", "n1")):
            fault = proxy.fault(*pair, "data")
            assert (fault.delay_s, fault.jitter_s, fault.bytes_per_s, fault.loss) == (0.05, 0.01, 1024**2, 0.5)
            assert proxy.fault(*pair, "gossip").delay_s == 0
        with pytest.raises(ValueError, match="a share from 0 to 1"):
            cluster.lossy(0, 1, loss=5)
        cluster.lossy(0, 1, duplication=0.1, reordering=0.2, channel="events")
        fault = proxy.fault("n2", "n1", "events")
        assert (fault.loss, fault.duplication, fault.reordering) == (0.0, 0.1, 0.2)
        cluster.cut({two})
        assert proxy.fault("n2", "n3", "events").cut
        assert proxy.fault("n1", "n2", "gossip").cut
        assert not proxy.fault("n1", "n3", "gossip").cut
        cluster.heal()
        assert not proxy.fault("n1", "n2", "data").cut
        cluster.cut([0], [2], reset=True)
        assert proxy.fault("n3", "n1", "data").reset
        assert [what for what, _ in cluster.logs()] == [repr(node) for node in (one, two, three)]


def test_a_proxy_comes_before_the_first_node():
    with ProcessCluster() as cluster:
        cluster._make("n1", (), "")
        with pytest.raises(AssertionError, match="when the first is started"):
            cluster.with_faults()

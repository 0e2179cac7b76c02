import os

from transports.shm.probe import Probe, sees


def test_a_process_of_this_host_sees_it(tmp_path):
    folder = str(tmp_path)
    probe = Probe(folder)
    assert sees(probe.name, folder)
    assert not sees("fdn-" + "0" * 32, folder)
    assert not sees("../../etc/passwd", folder)
    assert not sees("", folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert not sees(probe.name, str(elsewhere))
    probe.close()
    probe.close()
    assert not sees(probe.name, folder)


def test_without_shared_memory_there_is_none():
    probe = Probe("/nowhere")
    assert probe.name == ""
    probe.close()


def test_a_forked_child_does_not_remove_it(tmp_path):
    folder = str(tmp_path)
    probe = Probe(folder)
    pid = os.fork()
    if not pid:
        probe.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert sees(probe.name, folder)
    probe.close()

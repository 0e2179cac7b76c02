import io

from fdn.demo.progress import Progress


def test_lines_now_and_then_where_there_is_no_terminal():
    stream = io.StringIO()
    progress = Progress(stream, total=100, bar=False, started=10.0)
    for done in range(1, 101):
        progress.update(done, {"n1": done}, 10.0 + done / 10)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "20/100 files  10/s  n1 20"
    assert lines[-1] == "100/100 files  10/s  n1 100"
    assert "\r" not in stream.getvalue()


def test_the_bar_is_redrawn_at_most_ten_times_a_second_and_at_the_end():
    stream = io.StringIO()
    progress = Progress(stream, total=1000, bar=True, started=0.0)
    for done in range(1, 1001):
        progress.update(done, {"n2": 1, "n1": done - 1}, done / 1000)
    drawn = stream.getvalue().split("\r")[1:]
    assert 9 <= len(drawn) <= 12
    assert drawn[-1].startswith(f"[{'#' * 28}] 1000/1000 files  1000/s  n1 999  n2 1")


def test_clearing_wipes_what_stands_there():
    stream = io.StringIO()
    progress = Progress(stream, total=2, bar=True, started=0.0)
    progress.clear()
    assert stream.getvalue() == ""
    progress.update(1, {}, 1.0)
    width = len(stream.getvalue()) - 1
    progress.clear()
    assert stream.getvalue().endswith("\r" + " " * width + "\r")


def test_nothing_to_do_is_no_division_by_zero():
    Progress(io.StringIO(), total=0, bar=True, started=0.0).update(0, {}, 0.0)

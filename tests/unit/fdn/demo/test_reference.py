from pathlib import Path

from fdn.demo.reference import index_all
from fdn.demo.source import index_source


def test_every_file_is_in_it(tmp_path: Path):
    sources = {"a.py": b"import os\n", "b/c.py": b"def f(): ...\n"}
    for path, source in sources.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(source)
    reference = index_all(tmp_path, tuple(sources))
    assert reference.entries == {path: index_source(path, source) for path, source in sources.items()}
    assert reference.seconds > 0

import os

import fdn
from fdn.demo.indexer import FileSource, Index, Indexed, Sum, add, app
from fdn.demo.source import index_source

CONTEXT = fdn.Context("n1", "driver-1", "index.file", "", "", 0.0)


def test_an_entry_says_who_holds_it():
    source = b"class A: ...\n"
    assert Index().file(FileSource("a.py", source), CONTEXT) == Indexed(index_source("a.py", source), "n1", os.getpid())


def test_indexing_a_file_twice_holds_it_once():
    index = Index()
    for source in (b"old = 1\n", b"def new(): ...\n"):
        index.file(FileSource("a.py", source), CONTEXT)
    assert index.files() == {"a.py": index_source("a.py", b"def new(): ...\n").digest}


def test_find_gives_the_files_that_define_a_name():
    index = Index()
    for path in ("b.py", "a.py"):
        index.file(FileSource(path, b"def main(): ...\n"), CONTEXT)
    index.file(FileSource("c.py", b"main()\n"), CONTEXT)
    assert index.find("main") == ["a.py", "b.py"]
    assert index.find("missing") == []


def test_add():
    assert add(2, 3, CONTEXT) == Sum(5, "n1")


def test_the_app_serves_both_and_parses_on_a_thread():
    assert {service.name: service.threads for service in app.services} == {"index": 1, "add": 0}

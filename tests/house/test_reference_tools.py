"""What the reference pages are made with: the error index, and the API from its docstrings."""

from pathlib import Path

import fdn
from tools import api_reference
from tools.error_index import Message, messages_in

SOURCE = """
def f(n, ok):
    raise NotFound(f"no member is named {n!r}", hint="`fdn members` lists them")
    raise errors.Conflict("taken: " + n, hint="first" if ok else "second", port=1)
    raise Other("not one of ours")
    raise NotFound(message)
"""


def test_messages_are_found_with_their_changing_parts_left_open(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "some.py").write_text(SOURCE)
    (tmp_path / "same.py").write_text(SOURCE)
    assert messages_in(tmp_path, {"NotFound", "Conflict"}) == [
        Message("Conflict", "taken: ...", "..."),
        Message("NotFound", "no member is named ...", "`fdn members` lists them"),
    ]


def test_the_api_page_has_every_public_name():
    page = "\n".join(api_reference.page())
    for name in fdn.__all__:
        value = getattr(fdn, name)
        if not (isinstance(value, type) and issubclass(value, fdn.Error)):
            assert f"## `fdn.{name}" in page, name
    assert "### `async fdn.Node.call(target, payload=None" in page
    assert "- `timeout`:" in page
    assert "```python" not in page
    assert " at 0x" not in page

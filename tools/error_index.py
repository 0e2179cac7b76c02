"""Every error message in the source, with what it advises: so that whoever is shown one can look it up.

Read from the syntax tree, not by raising anything. The changing parts of a message become `...`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ("Message", "messages_in")

_ANYTHING: Final = "..."


class Message(NamedTuple):
    """One message of one error.

    Attributes:
        error: Name of the class.
        text: What it says.
        hint: What to do about it, or empty.
    """

    error: str
    text: str
    hint: str


def messages_in(folder: Path, classes: set[str]) -> list[Message]:
    """The messages of these error classes in all Python files under `folder`, sorted, each once."""
    found = {
        message
        for path in folder.rglob("*.py")
        for message in _messages(ast.parse(path.read_text(encoding="utf-8")), classes)
    }
    return sorted(found, key=lambda message: (message.error, message.text.lower(), message.hint))


def _messages(tree: ast.AST, classes: set[str]) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        text = _text(node.args[0])
        if name in classes and text and text != _ANYTHING:
            hints = [_text(keyword.value) for keyword in node.keywords if keyword.arg == "hint"]
            yield Message(name, text, "".join(hints))


def _text(node: ast.expr) -> str:
    """The words of an expression that makes a string."""
    match node:
        case ast.Constant(value=str(words)):
            return " ".join(words.split(" "))
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            either = [words for words in (_text(body), _text(other)) if words]
            return either[0] if len(either) == 1 or either[:1] == either[1:] else _ANYTHING
    return _ANYTHING

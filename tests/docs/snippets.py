"""The documents as data: their fenced blocks, and the marks that say what a test does with each.

A mark is an HTML comment on the line before the fence:

    <!-- file: NAME -->   written to a file of that name, for what follows in the same document
    <!-- program -->      a complete Python program: run, and must end with 0
    <!-- program: beside NAME -->  the same, while that program of `tests/docs/beside/` runs
    <!-- output -->       what the program before it prints; `...` stands for anything
    <!-- background -->   a command that is started, and ended with the document
    <!-- run -->          commands that are run, and print what stands below each

A `console` block without a mark is not run; its commands must exist all the same. A `python` block needs a mark.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ("DOCUMENTS", "ROOT", "Block", "blocks", "commands", "matches", "name_of")

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE: Final = re.compile(
    r"^(?:<!-- (?P<mark>file|program|output|background|run)(?:: (?:beside )?(?P<name>\S+))? -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block: where it is, what it holds, and its mark ("" for none)."""

    line: int
    language: str
    text: str
    mark: str
    name: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["text"],
            match["mark"] or "",
            match["name"] or "",
        )
        for match in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each `$ command` of a console block, and what stands below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what was written down, where `...` stands for anything."""
    return re.fullmatch(re.escape(expected.strip()).replace(r"\.\.\.", ".*"), printed.strip(), re.DOTALL) is not None


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))

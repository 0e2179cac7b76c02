"""Links between documents lead somewhere, and what they must not say they do not say."""

import re
from pathlib import Path

import pytest

from tests.docs.snippets import DOCUMENTS, ROOT, name_of

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
URL = re.compile(r"\w+://([\w.-]+)")
# The only sites that a document may send a reader to, and the hosts of examples.
HOSTS = {"keepachangelog.com", "semver.org", "127.0.0.1", "10.0.0.5", "0.0.0.0", "HOST", "H", "PATH", "NAME"}


def slugs(document: Path) -> set[str]:
    """The anchors of a document's headings, as forges make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path):
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), link
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in slugs(target), f"{link}: no such heading; there are {sorted(slugs(target))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_exist(document: Path):
    named = re.findall(r"`((?:fdn|transports|topologies|consensus|tests|tools|docs)/[\w./-]*)`", document.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_sends_nobody_to_strangers(document: Path):
    text = document.read_text(encoding="utf-8")
    # On the public index `fdn` is another project.
    assert not re.search(r"pip3? install (-\S+ )*['\"]?fdn\b", text)
    assert {host.rstrip(".") for host in URL.findall(text)} <= HOSTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_has_one_title(document: Path):
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# \S", text, flags=re.MULTILINE)) == 1


def test_decisions_are_numbered_and_listed():
    folder = ROOT / "docs" / "adr"
    decisions = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    numbers = [path.name[:4] for path in decisions]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
    index = (folder / "README.md").read_text(encoding="utf-8")
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert f"({path.name})" in index
        assert text.startswith(f"# {path.name[:4]}: ")
        assert re.search(r"^Status: (proposed|accepted|superseded)", text, flags=re.MULTILINE)
        assert all(f"**{part}.**" in text for part in ("Context", "Options", "Decision", "Consequences")), path.name


def test_every_document_can_be_reached():
    reached: set[Path] = set()
    ahead = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    while ahead:
        document = ahead.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        links = (link.partition("#")[0] for link in LINK.findall(document.read_text(encoding="utf-8")))
        ahead += [(document.parent / link).resolve() for link in links if link and "://" not in link]
    assert not [name_of(document) for document in DOCUMENTS if document not in reached]

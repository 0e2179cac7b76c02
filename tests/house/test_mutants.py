"""Planted bugs fit the code as it is, and somebody is named who should see them."""

import subprocess
from pathlib import Path

import pytest

from fdn.sim.scenarios import SCENARIOS
from tools import mutants
from tools.sim import play

ROOT = Path(__file__).parents[2]
PATCHES = sorted((ROOT / "tests" / "mutants").rglob("*.patch"))


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_bug_fits_and_says_what_it_is(path: Path):
    mutant = mutants.read(path)
    assert mutant.what.endswith(".")
    assert mutant.scenario in SCENARIOS
    done = subprocess.run(["git", "apply", "--check", str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_a_dozen():
    assert len(PATCHES) >= 12


def test_a_planted_bug_is_seen(capfd: pytest.CaptureFixture[str]):
    patch = ROOT / "tests" / "mutants" / "raft" / "acknowledge-before-disk.patch"
    assert play(["raft-elections", "--seed", "0", "--no-shrink", "--patch", str(patch)]) == 1
    assert "leader completeness" in capfd.readouterr().err


def test_a_patch_that_does_not_fit_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    patch = tmp_path / "wrong.patch"
    patch.write_text("--- a/fdn/errors.py\n+++ b/fdn/errors.py\n@@ -1 +1 @@\n-nothing of that\n+anything\n")
    assert play(["raft", f"--patch={patch}"]) == 2
    assert "cannot be applied" in capsys.readouterr().err


def test_a_mutant_that_there_is_not(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        play(["mutants", "raft/nobody"])
    assert "no mutant raft/nobody" in capsys.readouterr().err


def test_a_patch_that_names_no_scenario(tmp_path: Path):
    (tmp_path / "it.patch").write_text("It breaks.\n\n--- a/x\n+++ b/x\n")
    with pytest.raises(ValueError, match="names no scenario"):
        mutants.read(tmp_path / "it.patch")

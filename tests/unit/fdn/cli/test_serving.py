from pathlib import Path
from typing import Any

import click
import pytest

from fdn.cli.options import Invocation
from fdn.cli.serving import NodeOptions

NOTHING: dict[str, Any] = {"config": None, "context": None, "join": (), "alone": False, "insecure": False}


def test_what_was_given_becomes_settings() -> None:
    options = NodeOptions.of(**NOTHING | {"join": ("h:1",), "insecure": True}, name="n1", data_dir=None)
    assert options.flags == {"name": "n1", "data_dir": None, "insecure": True, "join": ("h:1",)}
    assert NodeOptions.of(**NOTHING).flags == {"insecure": None}
    assert NodeOptions.of(**NOTHING | {"alone": True}).flags["join"] == ()


def test_alone_and_joined_is_a_contradiction() -> None:
    with pytest.raises(click.UsageError, match="--alone"):
        NodeOptions.of(**NOTHING | {"alone": True, "join": ("h:1",)})


def test_the_same_options_for_another_process() -> None:
    given = NOTHING | {"config": Path("fdn.toml"), "context": "up", "join": ("h:1",), "insecure": True}
    options = NodeOptions.of(**given, name="n1", data_dir="d", bind=None, preset="wan")
    assert options.arguments(name="n1-2", bind="tcp://127.0.0.1:0", data_dir="") == [
        *("--name=n1-2", "--preset=wan", "--bind=tcp://127.0.0.1:0", "--insecure", "--config=fdn.toml"),
        "--context=up",
    ]
    assert NodeOptions.of(**NOTHING).arguments() == []


def test_files_are_read_anew() -> None:
    options, invocation = NodeOptions.of(**NOTHING), Invocation(env={})
    assert options.load(invocation).settings.cluster == "fdn"
    Path("fdn.toml").write_text('cluster = "c"\n')
    assert options.load(invocation).settings.cluster == "c"

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdn import config_file
from fdn.config_file import Loaded, load, read_toml
from fdn.errors import ConfigError
from fdn.settings import Settings, setting_fields


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of our own; /etc is out of the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_file, "DEFAULT_FILES", (Path("fdn.toml"), tmp_path / "etc.toml"))
    return tmp_path


def loaded(folder: Path, text: str, **sources: Any) -> Loaded:
    (folder / "fdn.toml").write_text(text)
    return load(**sources)


def refused(folder: Path, text: str = "", **sources: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **sources)
    return str(caught.value)


def test_nothing_given_is_the_defaults(folder: Path) -> None:
    found = load()
    assert found.settings == Settings()
    assert set(found.origins.values()) == {"default"}
    assert set(found.origins) == {key for key, _ in setting_fields()}
    assert found.files == ()


def test_each_source_wins_over_those_below(folder: Path) -> None:
    """Flag > variable > context > ./fdn.toml > /etc/fdn/fdn.toml > default: take them away one by one."""
    (folder / "etc.toml").write_text('cluster = "etc"\n')
    (folder / "fdn.toml").write_text('# ours\ncluster = "here"\n')
    (folder / "up.toml").write_text('cluster = "context"\npid = 1\n')
    flags, env, context = {"cluster": "flag"}, {"FDN_CLUSTER": "env"}, folder / "up.toml"

    def winner(**sources: Any) -> tuple[str, str]:
        found = load(**sources)
        return found.settings.cluster, found.origins["cluster"]

    assert winner(flags=flags, env=env, context=context) == ("flag", "flag")
    assert winner(flags={"cluster": None}, env=env, context=context) == ("env", "FDN_CLUSTER")
    assert winner(env={"FDN_CLUSTER": ""}, context=context) == ("context", "context up:1")
    assert winner() == ("here", "fdn.toml:2")
    (folder / "fdn.toml").unlink()
    assert winner() == ("etc", f"{folder}/etc.toml:1")
    assert load().files == (folder / "etc.toml",)


def test_a_section_may_come_from_several_sources(folder: Path) -> None:
    found = loaded(folder, "[calls]\nretries = 1\ntimeout_s = 1", env={"FDN_CALLS__TIMEOUT_S": "2s"})
    assert (found.settings.calls.retries, found.settings.calls.timeout_s) == (1, 2.0)
    assert found.origins["calls.retries"] == "fdn.toml:2"


def test_a_file_that_was_named_replaces_the_usual_ones_and_must_exist(folder: Path) -> None:
    (folder / "mine.toml").write_text('name = "a"')
    assert loaded(folder, 'cluster = "here"', files=[Path("mine.toml")]).settings.cluster == "fdn"
    with pytest.raises(ConfigError, match=r"gone.toml cannot be read: No such file"):
        load(files=[Path("gone.toml")])


def test_units_are_read_wherever_they_are_written(folder: Path) -> None:
    text = 'join_timeout_s = "1m30s"\n[data]\ncredit_bytes = "64KiB"\nbody_bytes_max = 2048\nstall_max_s = 20'
    settings = loaded(folder, text, env={"FDN_CALLS__TIMEOUT_S": "250ms", "FDN_CALLS__RETRIES": "3"}).settings
    assert settings.join_timeout_s == 90.0
    assert (settings.data.credit_bytes, settings.data.body_bytes_max, settings.data.stall_max_s) == (65536, 2048, 20.0)
    assert (settings.calls.timeout_s, settings.calls.retries) == (0.25, 3)


def test_variables_and_flags_are_text_and_may_be_lists_and_words(folder: Path) -> None:
    env = {"FDN_JOIN": "a:1, b:2,", "FDN_INSECURE": "yes", "FDN_NODE_NAME": "n1", "FDN_LOG_LEVEL": "debug"}
    settings = load(flags={"log.format": "json", "drain_timeout_s": "3"}, env=env).settings
    assert settings.join == ("tcp://a:1", "tcp://b:2")
    assert settings.insecure is True
    assert (settings.name, settings.log.level, settings.log.format) == ("n1", "debug", "json")
    assert settings.drain_timeout_s == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bnd = "x"', "fdn.toml:1: unknown key bnd; did you mean bind?"),
        ("[data]\n\ncredt_bytes = 1", "fdn.toml:3: unknown key data.credt_bytes; did you mean data.credit_bytes?"),
        ("\n[daat]\nx = 1", "fdn.toml:2: unknown key daat; did you mean data?"),
        ("retries = 1", "fdn.toml:1: unknown key retries; did you mean calls.retries?"),
        ("[log]\nretries = 1", "fdn.toml:2: unknown key log.retries; did you mean calls.retries?"),
        ("[log]\nzzz = 1", "fdn.toml:2: unknown key log.zzz; known here: log.format, log.level"),
        ("data = 1", "fdn.toml:1: data = 1: data is a section; write its settings under [data]"),
        ("[bind]\nhost = 1", "fdn.toml:1: bind = {...}: expected a string"),
        ("data.credit_bytes = 5", "fdn.toml:1: data.credit_bytes = 5: expected 65536 to"),
        ("data = { credit_bytes = 5 }", "fdn.toml:1: data.credit_bytes = 5: expected 65536 to"),
        ('[data]\ncredit_bytes = "8MB"', 'fdn.toml:2: data.credit_bytes = "8MB": expected a whole number of bytes'),
        ('[calls]\ntimeout_s = "soon"', 'fdn.toml:2: calls.timeout_s = "soon": expected seconds'),
        ("[calls]\ntimeout_s = nan", "fdn.toml:2: calls.timeout_s = nan: expected 0.001 to 86400"),
        ('[calls]\nretries = "3"', 'fdn.toml:2: calls.retries = "3": expected a whole number'),
        ('insecure = "true"', 'fdn.toml:1: insecure = "true": expected true or false'),
        ("insecure = 1", "fdn.toml:1: insecure = 1: expected true or false"),
        ("name = true", "fdn.toml:1: name = true: expected a string"),
        ('join = "a:1"', 'fdn.toml:1: join = "a:1": expected a list of strings'),
        ('join = ["a"]', 'fdn.toml:1: join = ["a"]: no port'),
        ('x = 1\nbind = "tcp://0.0.0.0:1"', "fdn.toml:1: unknown key x"),
        ('\nbind = "tcp://0.0.0.0:1"', 'fdn.toml:2: bind = "tcp://0.0.0.0:1" can be reached from other machines'),
        ("data.stall_warn_s = 20", "fdn.toml:1: data.stall_warn_s = 20 is not below data.stall_max_s = 15"),
        ("bind = x", "fdn.toml:1: Invalid value (at line 1, column 8); strings need quotes"),
        ("a = 1\na = 2", "fdn.toml:2: Cannot overwrite a value"),
        ('bind = """', "fdn.toml:1: "),
    ],
)
def test_a_mistake_is_told_with_file_and_line(folder: Path, text: str, message: str) -> None:
    assert refused(folder, text).startswith(message)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"FDN_DATA__CREDT_BYTES": "1"},
            "FDN_DATA__CREDT_BYTES: unknown key data.credt_bytes; did you mean FDN_DATA__CREDIT_BYTES?",
        ),
        ({"FDN_CALLS__RETRIES": "17"}, 'FDN_CALLS__RETRIES: calls.retries = "17": expected 0 to 16'),
        ({"FDN_CALLS__RETRIES": "many"}, 'FDN_CALLS__RETRIES: calls.retries = "many": expected a whole number'),
        ({"FDN_INSECURE": "perhaps"}, 'FDN_INSECURE: insecure = "perhaps": expected true or false'),
        ({"FDN_BIND": "tcp://1.2.3.4:5"}, 'FDN_BIND: bind = "tcp://1.2.3.4:5" can be reached'),
    ],
)
def test_a_mistake_in_a_variable_is_told_with_its_name(folder: Path, env: dict[str, str], message: str) -> None:
    assert refused(folder, env=env).startswith(message)


def test_a_mistake_in_a_flag_or_context_is_told(folder: Path) -> None:
    assert refused(folder, flags={"nme": "x"}) == "flag: unknown key nme; did you mean name?"
    (folder / "up.toml").write_text("pid = 5\njoin = 3\n")
    assert refused(folder, context=folder / "up.toml").startswith("context up:2: join = 3: expected a list of strings")


def test_a_mistake_is_found_even_where_a_stronger_source_overrides_it(folder: Path) -> None:
    assert refused(folder, "cluster = 5", flags={"cluster": "x"}).startswith("fdn.toml:1: cluster = 5")


def test_variables_that_are_not_ours_are_left_alone_and_reported(folder: Path) -> None:
    env = {"FDN_PORT_7400_TCP": "tcp://x", "FDN_JION": "a:1", "FDN_CONTEXT": "up", "PATH": "/bin", "FDN_UNUSED": ""}
    found = load(env=env)
    assert found.settings == Settings()
    assert found.ignored == ("FDN_JION (did you mean FDN_JOIN?)", "FDN_PORT_7400_TCP")


def test_the_line_is_found_in_every_way_to_write_a_key(folder: Path) -> None:
    text = """# data.credit_bytes = 0
"cluster" = "c"
calls . "retries" = 1

[ data ] # a section
  credit_bytes = 65536
[links]
redial_max_s = 3
"""
    origins = loaded(folder, text).origins
    assert {key: origin for key, origin in origins.items() if origin != "default"} == {
        "cluster": "fdn.toml:2",
        "calls.retries": "fdn.toml:3",
        "data.credit_bytes": "fdn.toml:6",
        "links.redial_max_s": "fdn.toml:8",
    }


def test_files_that_are_no_configuration_are_refused(folder: Path) -> None:
    path = folder / "x.toml"
    path.write_bytes(b'name = "a"\nx = "\xff"\n')
    with pytest.raises(ConfigError, match=r"x.toml:2: not UTF-8"):
        read_toml(path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_toml(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(folder)
    path.write_text("x = " + "[" * 5000)
    with pytest.raises(ConfigError, match=r"x.toml"):
        read_toml(path)


@given(st.text(max_size=80))
def test_no_text_makes_the_line_scan_fail(text: str) -> None:
    assert all(1 <= line <= len(text.splitlines()) for line in config_file._lines_of_keys(text).values())

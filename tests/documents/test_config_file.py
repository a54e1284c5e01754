"""Whatever is wrong with a file, one line names the file, and the line in it."""

import codecs
from pathlib import Path

import pytest

from epo_lightning.documents.config_file import read_config
from tests.support.command_line import Cli

FAULTS: dict[str, tuple[bytes, str]] = {
    "latin-1": (b"model:\n  num_agents: 2 # f\xfcnf\n", "bad.yaml, line 2: not in UTF-8"),
    "UTF-16": ("model: {}".encode("utf-16"), "bad.yaml is in UTF-16"),
    "UTF-16 without a mark": ("model: {}".encode("utf-16-le"), "bad.yaml is not a configuration but a binary file"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0", "bad.yaml is not a configuration but a binary file"),
    "empty": (b"", "bad.yaml is empty"),
    "a comment": (b"# nothing\n", "bad.yaml is empty"),
    "a list": (b"- 1\n- 2\n", "bad.yaml holds a list"),
    "a word": (b"hello\n", "bad.yaml holds only 'hello'"),
    "tabs": (b"model:\n\tnum_agents: 2\n", "bad.yaml, line 2: a tab"),
    "broken": (b"model: [\n", "bad.yaml, line 2: this is not YAML"),
    "twice": (b"model:\n  num_agents: 2\n  num_agents: 3\n", "bad.yaml, line 3: the key num_agents stands twice"),
    "a tag": (b"model: !!python/name:os.system\n", "bad.yaml, line 1: this is not YAML"),
    "a number as key": (b"1: 2\n", "bad.yaml: the key 1 is not a name"),
    "unknown": (b"model:\n  # x\n  num_agent: 2\n", "bad.yaml, line 3: model.num_agent is not a key (did you mean mo"),
    "unknown group": (b"modle: {num_agents: 2}\n", "bad.yaml, line 1: modle is not a key (did you mean model?)"),
    "a value for a group": (b"model:\n  loss: 3\n", "bad.yaml, line 2: model.loss holds keys"),
    "a wrong type": (b"model:\n  num_agents: many\n", "bad.yaml, line 2: model.num_agents must be an integer; got m"),
    "a text for a number": (b"model: {num_agents: '4'}", 'model.num_agents must be an integer; got the text "4"'),
    "an unknown class": (
        b"data:\n  env: WallMase\n",
        "line 2: data.env: there is no class WallMase (did you mean WallM",
    ),
    "an unknown argument": (
        b"data:\n  env:\n    class_path: WallMaze\n    init_args:\n      sped: 1\n",
        "bad.yaml, line 5: data.env: WallMaze has no argument sped (did you mean speed?)",
    ),
    "a misspelt init_args": (b"data: {env: {class_path: Probe, init_arg: {}}}", "did you mean init_args?"),
    "an unknown choice": (b"algorithm: scap", "or a class path; got 'scap' (did you mean sac?)"),
    "trust": (b"trust: true", "bad.yaml, line 1: trust is for the command line only"),
    "config": (b"config: x", "bad.yaml, line 1: a file names the files that it overlays by the key base"),
    "resume": (b"resume: maybe", "bad.yaml, line 1: resume must be true or false"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_its_file(cli: Cli, fault: str) -> None:
    content, words = FAULTS[fault]
    Path("bad.yaml").write_bytes(content)
    outcome = cli("validate", "--config", "tiny.yaml", "--config", "bad.yaml")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    if fault not in ("an unknown choice", "a misspelt init_args"):
        assert "config: bad.yaml" in outcome.err


def test_a_fault_in_a_base_names_the_base(cli: Cli) -> None:
    Path("ground.yaml").write_text("model: {num_agents: 2}\nmodel: {}\n")
    Path("over.yaml").write_text("base: ground.yaml\n")
    outcome = cli("validate", "--config", "over.yaml")
    assert outcome.err == "error: config: ground.yaml, line 2: the key model stands twice\n"


def test_a_folder_is_none(cli: Cli) -> None:
    Path("folder").mkdir()
    assert cli("validate", "--config", "folder").err == "error: config: folder is a folder; give the YAML file itself\n"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_bytes(codecs.BOM_UTF8 + "model: {num_agents: 3}  # ü".encode())
    assert read_config(path).values == {"model": {"num_agents": 3}}

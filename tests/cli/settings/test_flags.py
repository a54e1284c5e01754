"""A mistake in a flag is one line that names the key, what it takes, and the nearest word."""

from pathlib import Path

import pytest

from tests.support.command_line import Cli

EVOLUTION = "--trainer.callbacks={class_path: GeneticEvolution, init_args: {%s}}"
GYM = "--data.env=GymnasiumEnv"
FAULTS: dict[str, tuple[list[str], str]] = {
    "a misspelt key": (
        ["--model.los.clip_eps", "0.1"],
        "--model.los.clip_eps is not a flag (did you mean --model.loss.clip_e",
    ),
    "a key without its groups": (["--clip_eps", "0.1"], "(did you mean --model.loss.clip_eps?)"),
    "a misspelt file": (["--config", "quikstart"], "(did you mean quickstart?)"),
    "a misspelt algorithm": (["--algorithm", "scap"], "(did you mean sac?)"),
    "a misspelt environment": (["--data.env", "WallMase"], "(did you mean WallMaze?)"),
    "a misspelt class of a module": (["--data.env", "epo_lightning.envs.classic.WallMase"], "(did you mean WallMaze?)"),
    "a misspelt module": (["--data.env", "no.such.Env"], "data.env: there is no module no for no.such.Env"),
    "a module that fails": (
        ["--data.env", "broken.Env"],
        "data.env: broken.Env cannot be imported: No module named 'nothing_there'",
    ),
    "no class": (["--data.env", "os.path"], "data.env: os.path is no class"),
    "a misspelt callback": (["--trainer.callbacks+", "GenticEvolution"], "(did you mean GeneticEvolution?)"),
    "a misspelt callback of Lightning": (["--trainer.callbacks+", "EarlyStoping"], "(did you mean EarlyStopping?)"),
    "a misspelt logger among others": (
        ["--trainer.logger", "[TensorBoardLogger, WandLogger]"],
        "there is no class WandLogger (did you mean WandbLogger?)",
    ),
    "an empty value": (["--model.num_agents="], "model.num_agents must be an integer; got nothing"),
    "a misspelt logger": (["--trainer.logger", "TensorBordLogger"], "(did you mean TensorBoardLogger?)"),
    "a misspelt argument": (
        [EVOLUTION % "num_elite: 1"],
        "GeneticEvolution has no argument num_elite (did you mean num_elites?)",
    ),
    "a misspelt argument of the environment": (
        ["--data.env.max_step", "3"],
        "Probe has no argument max_step (did you mean max_st",
    ),
    "a wrong argument": ([EVOLUTION % "num_elites: few"], "GeneticEvolution.num_elites must be an integer; got few"),
    "a wrong argument of the environment": (
        ["--data.env.max_steps", "few"],
        "Probe.max_steps must be an integer; got few",
    ),
    "a number out of range": ([EVOLUTION % "num_elites: 0"], "GeneticEvolution.num_elites must be at least 1, got 0"),
    "a misspelt choice": ([EVOLUTION % "crossover: k_pont"], "got k_pont (did you mean k_point?)"),
    "a misspelt operator": ([EVOLUTION % "crossover: KPont"], "got KPont (did you mean KPoint?)"),
    "a missing argument": ([GYM], "data.env.init_args.id is missing: GymnasiumEnv needs it"),
    "a list for a number": (["--model.num_agents", "[1, 2]"], "model.num_agents must be an integer; got [1, 2]"),
    "a word for a number": (
        ["--model.loss.dual_clip", "x"],
        "model.loss.dual_clip must be a number (float) or null; got x",
    ),
    "a fraction for a whole number": (
        ["--trainer.max_epochs", "1.5"],
        "trainer.max_epochs must be an integer or null; got 1.5",
    ),
    "a number for a list": (["--model.network.hidden", "5"], "model.network.hidden must be a list of integers; got 5"),
    "a word in a list": (["--model.network.hidden", "[a]"], "model.network.hidden must be a list of integers; got a"),
    "a word for a truth": (
        ["--trainer.benchmark", "maybe"],
        "trainer.benchmark must be true or false or null; got maybe",
    ),
    "a misspelt word": (["--model.network.activation", "rel"], "got rel (did you mean relu?)"),
    "half a mapping": (["--data.env.init_args", "{a"], "--data.env.init_args: this is not YAML"),
    "a word for arguments": (["--data.env.init_args", "a"], "--data.env.init_args must be keys and values"),
    "a word for a group": (["--model", "big"], "model holds keys, such as model.num_agents, not a value; got 'big'"),
    "numbers for classes": (["--trainer.callbacks", "[3]"], "trainer.callbacks must be a class"),
    "a word for a mapping": (
        ["--data.eval_difficulty", "3"],
        "data.eval_difficulty must be keys with numbers or null; got 3",
    ),
    "nothing": (["--data.num_envs"], "--data.num_envs needs a value"),
    "a word": (["extra"], "extra means nothing here"),
    "a single dash": (["-x", "3"], "-x is not a flag"),
    "a quoted number": (["--model.num_agents", '"4"'], 'model.num_agents must be an integer; got the text "4"'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    Path("broken.py").write_text("import nothing_there\n")
    monkeypatch.syspath_prepend(Path.cwd())
    args, words = FAULTS[fault]
    outcome = cli("validate", "--config", "tiny.yaml", *args)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert len(outcome.err) < 480
    for noise in ("Namespace", "Union", "Parser key", "typing.", "<class", "tiny.yaml"):
        assert noise not in outcome.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fti"], "fti is not a command (did you mean fit?)"),
        (["report", "x", "--ou=y"], "error: "),
        (["report", "--otu", "y"], "--otu means nothing here (did you mean --out?)"),
        (["doctor", "--pyhton", "y"], "--pyhton means nothing here (did you mean --python?)"),
    ],
)
def test_so_it_is_in_every_command(cli: Cli, args: list[str], words: str) -> None:
    outcome = cli(*args)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert words in outcome.err

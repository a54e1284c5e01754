"""The file of a study: what it means, and what is refused before anything is started."""

from pathlib import Path

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.study import Study, read_study


def find(name: str, key: str) -> Path:
    """Packaged configurations of this test: `known` alone."""
    if name != "known":
        raise Mistake(f"{key}: {name} is unknown")
    return Path("/packaged/known.yaml")


def read(tmp_path: Path, text: str) -> Study:
    (tmp_path / "mine.yaml").touch()
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return read_study(file, find)


def test_an_evaluation_may_tell_of_all_agents(tmp_path: Path) -> None:
    for given in ("validate --agents all --noise", "validate  --noise --agents=all"):
        study = read(tmp_path, f"methods: {{a: {{config: known}}}}\nevaluate: {given}")
        assert study.evaluate == "validate --agents all --noise"


def test_methods_are_crossed_with_grids_and_come_in_order(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        """
        out: results
        seeds: [3, 7]
        jobs: 2
        threads: 4
        evaluate: test
        common: {config: known, trainer.max_epochs: 9}
        methods:
          epo: {model: {num_agents: 8}}
          other: {config: mine.yaml, grid: {config: [known, mine.yaml]}}
        grid: {model.loss.clip_eps: [1e-1, 0.2]}
        """,
    )
    assert (study.out, study.seeds, study.jobs, study.threads, study.evaluate) == (
        tmp_path / "results", (3, 7), 2, 4, "test",
    )  # fmt: skip
    assert [method.name for method in study.methods] == [
        "epo,clip_eps=0.1",
        "epo,clip_eps=0.2",
        "other,clip_eps=0.1,config=known",
        "other,clip_eps=0.1,config=mine.yaml",
        "other,clip_eps=0.2,config=known",
        "other,clip_eps=0.2,config=mine.yaml",
    ]
    first, *_, last = study.methods
    known, mine = Path("/packaged/known.yaml"), tmp_path / "mine.yaml"
    assert first.configs == (known,)
    assert first.overlays == (
        {"trainer": {"max_epochs": 9}}, {"model": {"num_agents": 8}}, {"model": {"loss": {"clip_eps": 0.1}}},
    )  # fmt: skip
    assert last.configs == (known, mine, mine)


def test_little_is_needed(tmp_path: Path) -> None:
    study = read(tmp_path, "methods: {a: {config: known}}")
    assert (study.out, study.seeds, study.jobs, study.threads, study.evaluate) == (
        Path("runs/study"), (0,), None, 1, None,
    )  # fmt: skip
    assert read(tmp_path, "seeds: 3\nmethods: {a: {config: known}}").seeds == (0, 1, 2)
    alone = read(tmp_path, "common: {config: known}\ngrid: {model.num_agents: [2, 4]}")
    assert [method.name for method in alone.methods] == ["num_agents=2", "num_agents=4"]
    task = read(tmp_path, "methods: {a: {data.env: mine.Task}}")
    assert task.methods[0].configs == ()


def test_what_a_packaged_study_writes_goes_to_the_working_folder(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("out: there\nmethods: {a: {config: known}}")
    assert read_study(file, find, is_packaged=True).out == Path("there")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sedes: 3\nmethods: {a: {config: known}}", "did you mean seeds?"),
        ("methods: {}", "methods must be names"),
        ("methods: [a]", "methods must be names"),
        ("seeds: 2", "add methods, grid or search"),
        ("methods: {a: 3}", "methods.a must hold keys"),
        ("methods: {a: {config: none}}", "methods.a.config: none is unknown"),
        ("methods: {a: {config: [known, 3]}}", "methods.a.config must be names"),
        ("methods: {a: {}}", "methods.a: nothing says which task"),
        ("methods: {a: {config: known}, A: {config: known}}", "two methods are called a"),
        ("methods: {a/b: {config: known}}", "cannot be a name"),
        ("methods: {.a: {config: known}}", "cannot be a name"),
        ("methods: {1: {config: known}}", "cannot be a name"),
        ("methods: {report: {config: known}}", "cannot be a name"),
        ("methods: {a: {config: known, seed_everything: 3}}", "say seeds at the top"),
        ("methods: {a: {config: known, run_dir: x}}", "say out at the top"),
        ("methods: {a: {config: known, ckpt_path: x}}", "ckpt_path cannot stand here"),
        ("methods: {a: {config: known, base: x}}", "say config"),
        ("common: {resume: true}\nmethods: {a: {config: known}}", "common: resume cannot stand here"),
        ("methods: {a: {config: known}}\ngrid: {seed_everything: [1]}", "say seeds at the top"),
        ("methods: {a: {config: known}}\ngrid: {x.y: 3}", "grid.x.y must be a list"),
        ("methods: {a: {config: known}}\nseeds: 0", "seeds must be how many"),
        ("methods: {a: {config: known}}\nseeds: true", "seeds must be how many"),
        ("methods: {a: {config: known}}\nseeds: []", "seeds must be how many"),
        ("methods: {a: {config: known}}\nseeds: [1, -1]", "seeds must be how many"),
        ("methods: {a: {config: known}}\nseeds: [1, 1]", "seeds has 1 twice"),
        ("methods: {a: {config: known}}\njobs: 0", "jobs must be a number"),
        ("methods: {a: {config: known}}\nthreads: many", "threads must be a number"),
        ("methods: {a: {config: known}}\nout: 3", "out must be a folder"),
        ("methods: {a: {config: known}}\nevaluate: play", "evaluate must be validate or test"),
        ("methods: {a: {config: known}}\nevaluate: validate --agents 0,1", "perhaps followed by --agents all"),
        (
            "methods: {a: {config: known}}\nevaluate: test --noise --noise",
            "perhaps followed by --agents all and --noise",
        ),
        ("methods: {a: {config: known}}\nevaluate: {validate: all}", "evaluate must be validate or test"),
        ("methods: {a: {config: known}}\nevaluate: ''", "evaluate must be validate or test"),
        ("methods: {a: {config: known}}\nsearch: {}", "exclude each other"),
        ("search: {parameters: {a: [1]}}", "a search needs common"),
        ("program: x\nmethod: random\nparameters: {}", "wandb sweep"),
        ("model: {num_agents: 3}", "is a configuration of one run: fit --config"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_remedy(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Mistake) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "study.yaml"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

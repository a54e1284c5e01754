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
    assert (study.out, study.methods[0].seeds, study.jobs, study.threads, study.evaluate) == (
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
    assert (study.out, study.methods[0].seeds, study.jobs, study.threads, study.evaluate) == (
        Path("runs/study"), (0,), None, 1, None,
    )  # fmt: skip
    assert read(tmp_path, "seeds: 3\nmethods: {a: {config: known}}").methods[0].seeds == (0, 1, 2)
    alone = read(tmp_path, "common: {config: known}\ngrid: {model.num_agents: [2, 4]}")
    assert [method.name for method in alone.methods] == ["num_agents=2", "num_agents=4"]
    task = read(tmp_path, "methods: {a: {data.env: mine.Task}}")
    assert task.methods[0].configs == ()


TASKS = """
    seeds: 3
    common: {trainer.max_epochs: 9}
    tasks:
      known: {model.num_agents: 8}
      hard: {config: mine.yaml, seeds: [7], trainer.max_epochs: 20}
    methods:
      epo: {config: "{task}.yaml"}
      ppo:
        config: known
        model.num_agents: 1
        tasks: {hard: {config: mine.yaml, model.num_agents: 2}}
      sac: {config: known, skip: [hard]}
    """


def test_tasks_are_crossed_with_methods_and_each_may_say_what_differs(tmp_path: Path) -> None:
    for name in ("known.yaml", "hard.yaml"):
        (tmp_path / name).touch()
    study = read(tmp_path, TASKS)
    assert [str(method.folder) for method in study.methods] == [
        "known/epo", "known/ppo", "known/sac", "hard/epo", "hard/ppo",
    ]  # fmt: skip
    assert [method.seeds for method in study.methods] == [(0, 1, 2)] * 3 + [(7,)] * 2
    epo, *_, last = study.methods
    packaged, mine = Path("/packaged/known.yaml"), tmp_path / "mine.yaml"
    assert epo.configs == (tmp_path / "known.yaml",)
    assert epo.overlays == ({"trainer": {"max_epochs": 9}}, {"model": {"num_agents": 8}})
    assert last.configs == (mine, packaged, mine)  # the task's, the method's, the method's on that task
    assert last.overlays == (
        {"trainer": {"max_epochs": 9}}, {"trainer": {"max_epochs": 20}},
        {"model": {"num_agents": 1}}, {"model": {"num_agents": 2}},
    )  # fmt: skip
    assert last.where.endswith("study.yaml: methods.ppo (hard)")


def test_tasks_may_be_names_alone_and_grids_cross_them(tmp_path: Path) -> None:
    study = read(tmp_path, "tasks: [known]\ncommon: {config: '{task}'}\ngrid: {model.num_agents: [2, 4]}")
    assert [str(method.folder) for method in study.methods] == ["known/num_agents=2", "known/num_agents=4"]
    assert study.methods[0].configs == (Path("/packaged/known.yaml"),)


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
        ("tasks: {}\nmethods: {a: {config: known}}", "tasks must be names"),
        ("tasks: 3\nmethods: {a: {config: known}}", "tasks must be names"),
        ("tasks: [t, t]\nmethods: {a: {config: known}}", "tasks has t twice"),
        ("tasks: {t: , T: }\nmethods: {a: {config: known}}", "two tasks are called t"),
        ("tasks: {a/b: }\nmethods: {a: {config: known}}", "tasks: 'a/b' cannot be a name"),
        ("tasks: {report: }\nmethods: {a: {config: known}}", "tasks: 'report' cannot be a name"),
        ("tasks: {t: 3}\nmethods: {a: {config: known}}", "tasks.t must hold keys"),
        ("tasks: {t: }\nmethods: {a: {}}", "methods.a (t): nothing says which task"),
        ("tasks: {t: {seeds: 0}}\nmethods: {a: {config: known}}", "tasks.t.seeds must be how many"),
        (
            "tasks: {t: {grid: {a.b: [1]}}}\nmethods: {a: {config: known}}",
            "grid cannot stand here, a grid stands at the top",
        ),
        ("tasks: {t: {config: known}}\nmethods: {a: {config: 'ppo_{task}'}}", "methods.a.config: ppo_t is unknown"),
        ("tasks: [t]\nmethods: {a: {config: 'ppo_{tsk}'}}", "{tsk} of ppo_{tsk} stands for nothing; {task} is the"),
        ("tasks: {t: {config: known}}\nmethods: {a: {config: {task}}}", "write '{task}' in quotes"),
        ("methods: {a: {config: 'ppo_{task}'}}", "ppo_{task} is for a study with tasks"),
        (
            "tasks: {t: {config: known}}\nmethods: {a: {tasks: {tt: }}}",
            "methods.a.tasks: tt is no task of this study (did you mean t?); it has t",
        ),
        ("tasks: {t: {config: known}}\nmethods: {a: {tasks: [t]}}", "methods.a.tasks must be names of tasks"),
        ("tasks: {t: {config: known}}\nmethods: {a: {tasks: {t: 3}}}", "methods.a.tasks.t must hold keys"),
        ("tasks: {t: {config: known}}\nmethods: {a: {skip: t}}", "methods.a.skip must be a list"),
        ("tasks: {t: {config: known}}\nmethods: {a: {skip: [s]}}", "methods.a.skip: s is no task"),
        ("tasks: {t: {config: known}}\nmethods: {a: {skip: [t]}}", "leaves out every task"),
        (
            "tasks: {t: {config: known}, u: {config: known}}\nmethods: {a: {skip: [t], tasks: {t: }}}",
            "t stands in skip and in tasks",
        ),
        ("methods: {a: {config: known, tasks: {t: }}}", "methods.a.tasks is for a study with tasks"),
        ("methods: {a: {config: known, skip: [t]}}", "methods.a.skip is for a study with tasks"),
        ("common: {config: known, skip: [t]}\nmethods: {a: }", "only a method can leave out tasks"),
        ("tasks: [t]\ncommon: {config: known}\nsearch: {parameters: {a: [1]}}", "tasks and search exclude each other"),
        ("common: {configs: known}\nmethods: {a: }", "configs means nothing here (did you mean config?)"),
        ("methods: {a: {config: known, seeds: 3}}", "seeds are given at the top"),
        (
            "methods: {a: {config: known, evaluate: test}}",
            "evaluate cannot stand here, it stands at the top of the file",
        ),
        ("methods: {a: {config: known}}\nseeds: 99999999999", "seeds must be how many"),
        ("common: {config: known}\ngrid: {}", "grid must be keys with lists"),
        ("methods: {a: {config: known, grid: }}", "methods.a.grid must be keys with lists"),
        ("common: {config: known}\ngrid: {3: [1, 2]}", "grid: 3 is not a key"),
        (
            "methods: {a: {config: known, grid: {x.y: [1]}}}\ngrid: {x.y: [2]}",
            "methods.a.grid.x.y stands in the grid of all methods, too",
        ),
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

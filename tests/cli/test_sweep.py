"""`sweep`: a study from its file to its report, and what is refused before anything is started."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from epo_lightning.cli import report, resolution, sweep
from epo_lightning.cli.arguments import find_config
from epo_lightning.cli.entry import main
from epo_lightning.limits import Mistake
from epo_lightning.run.code import made_by
from tests.support.command_line import TINY, Cli, wait_for_rows
from tests.support.fake_runs import FakeRun

ROOT = Path(__file__).parents[2]
STUDY = """
out: out
seeds: 2
common: {config: tiny.yaml, trainer.max_epochs: 300}
methods:
  tiny: {}
"""
EVOLUTION = "{class_path: epo_lightning.callbacks.GeneticEvolution, init_args: {num_elites: 7}}"


@pytest.fixture
def parsed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations are parsed in this process, which has everything imported."""
    monkeypatch.setattr(resolution, "_ask", lambda requests: [resolution._answer(request) for request in requests])


def write(text: str, name: str = "study.yaml") -> str:
    Path(name).write_text(text)
    return name


def test_a_study_goes_on_after_a_kill_and_ends_with_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("studies")
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY)
    file = write(STUDY, str(folder / "study.yaml"))
    command = [sys.executable, "-m", "epo_lightning", "sweep", file, "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = [folder / "out" / "tiny" / f"seed{seed}" for seed in (0, 1)]
    for run in runs:
        wait_for_rows(run / "metrics.csv", 5, driver)
    assert main(["sweep", file]) == 2
    assert capsys.readouterr().err.startswith("error: out: another sweep is at work in studies/out")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    cut = [run for run in runs if not (run / "finished.json").exists()]
    assert cut

    # at once, while the children of the first one are still saving
    assert main(["sweep", file]) == 0
    told = capsys.readouterr()
    assert "study: 1 method(s) x 2 seed(s) = 2 runs" in told.err
    assert "2 run(s) of 1 method(s): studies/out/report/report.html" in told.out
    for run in runs:
        rows = (run / "metrics.csv").read_text().splitlines()
        assert len(rows) == 301
    for run in cut:
        assert run.with_suffix(".log").read_text().count("$ ") == 2
        assert "SIGTERM: finishing this iteration, then saving" in run.with_suffix(".log").read_text()
    seeds = [yaml.safe_load((run / "config.yaml").read_text())["seed_everything"] for run in runs]
    assert seeds == [0, 1]
    assert (folder / "out" / "report" / "report.html").stat().st_size > 1000


@pytest.mark.usefixtures("parsed_here")
def test_a_dry_run_checks_writes_configurations_and_prints_commands(cli: Cli) -> None:
    grid = "grid: {model.loss.clip_eps: [1e-1, 0.2]}\nevaluate: validate\n"
    outcome = cli("sweep", write(STUDY + grid), "--dry-run")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert len(lines) == 8
    folder = "out/tiny,clip_eps=0.1"
    assert lines[0] == (
        f"OMP_NUM_THREADS=1 python -m epo_lightning fit --config {folder}/method.yaml --run_dir {folder}/seed0"
        " --seed_everything=0 --resume"
    )
    assert lines[1] == f"OMP_NUM_THREADS=1 python -m epo_lightning validate --ckpt_path {folder}/seed0"
    config = yaml.safe_load(Path(folder, "method.yaml").read_text())
    assert config["model"]["loss"]["clip_eps"] == 0.1
    assert config["trainer"]["max_epochs"] == 300
    assert not Path(folder, "seed0").exists()


@pytest.mark.usefixtures("parsed_here")
def test_what_comes_later_lies_over_what_comes_before_members_of_lists_too(cli: Cli) -> None:
    text = f"""
        out: out
        common: {{config: tiny.yaml, trainer.callbacks: [{EVOLUTION}]}}
        tasks:
          one: {{trainer.callbacks.GeneticEvolution.num_elites: 1}}
        methods:
          bred: {{trainer.callbacks.GeneticEvolution.num_elites: 2}}
          not_bred: {{trainer.callbacks: [epo_lightning.callbacks.NaNGuard]}}
    """
    outcome = cli("sweep", write(text), "--dry-run")
    assert outcome.code == 0, outcome.err
    bred, not_bred = (
        yaml.safe_load(Path("out/one", name, "method.yaml").read_text())["trainer"]["callbacks"]
        for name in ("bred", "not_bred")
    )
    assert [(each["class_path"], each["init_args"]["num_elites"]) for each in bred] == [
        ("epo_lightning.callbacks.GeneticEvolution", 2)
    ]
    assert [each["class_path"] for each in not_bred] == ["epo_lightning.callbacks.NaNGuard"]


@pytest.mark.usefixtures("parsed_here")
def test_agents_are_evaluated_where_there_are_several(cli: Cli) -> None:
    grid = "grid: {model.num_agents: [1, 4]}\nseeds: 1\nevaluate: test --agents all --noise\n"
    outcome = cli("sweep", write(STUDY.replace("seeds: 2\n", "") + grid), "--dry-run")
    assert outcome.code == 0, outcome.err
    commands = [line.partition("epo_lightning ")[2] for line in outcome.out.splitlines()[1::2]]
    assert commands == [
        "test --ckpt_path out/tiny,num_agents=1/seed0 --noise",
        "test --ckpt_path out/tiny,num_agents=4/seed0 --agents all --noise",
    ]


@pytest.mark.usefixtures("parsed_here")
def test_a_study_of_several_tasks_has_a_folder_for_each(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runs(monkeypatch)
    tasks = "tasks: {long: {trainer.max_epochs: 8}, short: {seeds: 1}}\n"
    methods = "methods: {a: {}, b: {model.num_agents: 2, skip: [short]}}"
    outcome = cli("sweep", write(f"out: out\nseeds: 2\ncommon: {{config: tiny.yaml}}\n{tasks}{methods}"))
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("study: 2 task(s), 2 method(s), 1 or 2 seed(s) = 5 runs, ")
    runs = ["out/long/a/seed0", "out/long/b/seed0", "out/short/a/seed0", "out/long/a/seed1", "out/long/b/seed1"]
    assert outcome.out.splitlines()[-1].startswith(f"reported {runs[0]} ")
    assert sorted(str(path.parent) for path in Path("out").rglob("finished.json")) == sorted(runs)
    assert json.loads(Path("out/short/a/study.json").read_text()) == {"task": "short", "method": "a"}
    assert [len(Path(run, "metrics.csv").read_text().splitlines()) for run in runs] == [9, 9, 3, 9, 9]
    again = cli("sweep", write(f"out: out\nseeds: 2\ncommon: {{config: tiny.yaml}}\n{tasks}{methods}"))
    assert (again.code, again.err) == (0, "")  # nothing is left to do


@pytest.mark.usefixtures("parsed_here")
def test_a_study_that_goes_on_by_other_code_says_so_before_it_starts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runs(monkeypatch)
    assert "other code" not in cli("sweep", write(STUDY)).err
    record = {**made_by(), "versions": {"epo_lightning": "0.0.9"}}
    Path("out/tiny/seed0/run.json").write_text(json.dumps(record))
    Path("out/tiny/seed1/run.json").write_text(json.dumps(made_by()))
    assert cli("sweep", write(STUDY)).err == ""  # all are done, so nothing is mixed now
    told = cli("sweep", write(STUDY.replace("seeds: 2", "seeds: 3"))).err.splitlines()
    assert told[0].startswith("study: ")
    assert told[1].startswith(
        "notice: 1 run(s) here, such as out/tiny/seed0, were made by other code (epo_lightning 0.0.9,"
    )


@pytest.mark.usefixtures("parsed_here")
def test_settings_of_callbacks_are_named_by_their_class(cli: Cli) -> None:
    text = """
        common: {config: wall_maze, trainer.callbacks.GeneticEvolution.mutation_sigma: 3e-1}
        methods:
          a: {trainer: {callbacks: {ElitePreservation: {archive_size: 2}}}}
        """
    outcome = cli("sweep", write(text), "--dry-run", "--out", "there")
    assert outcome.code == 0, outcome.err
    elites, evolution, _ = yaml.safe_load(Path("there/a/method.yaml").read_text())["trainer"]["callbacks"]
    assert elites["init_args"]["archive_size"] == 2
    assert evolution["init_args"]["mutation_sigma"] == 0.3
    assert evolution["init_args"]["num_elites"] == 4  # that of the configuration


@pytest.mark.usefixtures("parsed_here")
@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("a: {model.lss.x: 3}", "methods.a: "),
        ("a: {model.num_agents: many}", "model.num_agents"),
        ("a: {model.loss.clip_eps: -1}", "model.loss.clip_eps must be greater than 0"),
        ("a: {trainer.callbacks.GeneticEvolution.num_elites: 3}", "GeneticEvolution: there is none"),
        ("a: {model.rollout.num_minibatches: 1000}", "num_minibatches must be at most 80, the number of samples"),
        ("a: {model.rollout: {num_minibatches: null, minibatch_size: 3}}", "minibatch_size must divide the 80 samples"),
        ("a: {data.num_envs: 18}", "data.num_envs must be a positive multiple of model.num_agents: 18 environments"),
        ("a: {model.rollout.off_policy_ratio: 99}", "model.rollout.off_policy_ratio must be at most 3"),
        (f"a: {{trainer.callbacks: [{EVOLUTION}]}}", "num_elites must be less than the number of followers (3"),
        (
            "a: {config: pbt, model.num_agents: 5}",
            "data.num_envs must be a positive multiple of model.num_agents",
        ),
        ("a: {trainer.max_epochs: -1}", "trainer.max_epochs is without an end"),
        ("a: {trainer.max_epochs: 0}", "trainer.max_epochs must be at least 1"),
        ("a: {model.lss.x: 3}, b: {model.lss.x: 3}", "(and 1 more)"),
    ],
)
def test_what_fit_refuses_is_one_line_and_nothing_is_started(cli: Cli, methods: str, words: str) -> None:
    outcome = cli("sweep", write(f"out: out\ncommon: {{config: tiny.yaml}}\nmethods: {{{methods}}}"))
    assert outcome.code == 2
    assert outcome.err.startswith("error: study.yaml: methods.a: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert "/tmp" not in outcome.err
    assert [*Path("out").iterdir()] == []


@pytest.mark.usefixtures("parsed_here")
def test_a_configuration_that_changed_after_its_runs_began_is_refused(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_runs(monkeypatch)
    assert cli("sweep", write(STUDY)).code == 0
    changed = STUDY.replace("tiny: {}", "tiny: {model.num_agents: 2}")
    outcome = cli("sweep", write(changed))
    assert outcome.code == 2
    assert outcome.err.startswith("error: study.yaml: methods.tiny: model.num_agents 4 -> 2, but out/tiny/seed0 has")
    outcome = cli("sweep", write(STUDY.replace("300", "400").replace("seeds: 2", "seeds: 3")))
    assert outcome.code == 0, outcome.err
    assert "3 runs, 2 at a time" in outcome.err or "3 runs, 1 at a time" in outcome.err  # all go on
    Path("tiny.yaml").write_text(TINY.replace("num_agents: 4", "num_agents: 8"))
    outcome = cli("sweep", write(STUDY))
    assert outcome.code == 2
    assert "trainer.max_epochs 400 -> 300 (and 1 more)" in outcome.err


@pytest.mark.usefixtures("parsed_here")
def test_a_method_none_of_whose_runs_began_is_named_to_the_report(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runs(monkeypatch)

    class Fails(sweep.StudyRun):  # type: ignore[misc, name-defined]  # the fake one
        @property
        def training(self) -> list[str]:
            good: list[str] = super().training
            return [sys.executable, "-c", "raise SystemExit(3)"] if self.method == "bad" else good

    monkeypatch.setattr(sweep, "StudyRun", Fails)
    outcome = cli("sweep", write(STUDY.replace("tiny: {}", "good: {}\n  bad: {}").replace("seeds: 2", "seeds: 1")))
    assert outcome.code == 1
    assert "reported out/good/seed0 out/bad --out out/report" in outcome.out


def use_fake_runs(monkeypatch: pytest.MonkeyPatch, value: str = "i") -> None:
    """Runs that write rows at once, whatever their configuration."""

    class Run(FakeRun):
        @property
        def training(self) -> list[str]:
            config = yaml.safe_load(self.config.read_text())
            command = super().training
            rate = config["model"]["optimizer"]["learning_rate"]
            return [*command[:5], "0", value.format(rate=rate), "well"]

    monkeypatch.setattr(sweep, "StudyRun", Run)
    monkeypatch.setattr(report, "main", lambda arguments: print("reported", *arguments))


SEARCH = """
out: out
common: {config: tiny.yaml, trainer.max_epochs: 20}
search:
  parameters:
    model.optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}
    model.rollout.estimator: [gae, n_step]
  metric: score
  value: last
  trials: 5
"""


@pytest.mark.usefixtures("parsed_here")
def test_what_a_search_varies_together_need_not_fit_one_by_one(cli: Cli) -> None:
    elites = "trainer.callbacks.GeneticEvolution.num_elites"
    text = f"""
        out: out
        common: {{config: tiny.yaml, model.num_agents: 16, trainer.callbacks: [{EVOLUTION}]}}
        search: {{parameters: {{model.num_agents: [4, 8], {elites}: [1, 2]}}, trials: 2}}
    """
    outcome = cli("sweep", write(text), "--dry-run")
    assert outcome.code == 0, outcome.err


@pytest.mark.usefixtures("parsed_here")
def test_a_search_ends_with_the_best_configuration_and_a_picture(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runs(monkeypatch, "{rate} * i")
    outcome = cli("sweep", write(SEARCH))
    assert outcome.code == 0, outcome.err
    assert "Results in out: trials.csv, best.yaml, search.png" in outcome.out
    assert "fit --config out/best.yaml" in outcome.out
    configs = [yaml.safe_load(path.read_text()) for path in Path("out").glob("trial-*/trial.yaml")]
    rates = [config["model"]["optimizer"]["learning_rate"] for config in configs]
    best = yaml.safe_load(Path("out/best.yaml").read_text())
    assert len({*rates}) == 5
    assert best["model"]["optimizer"]["learning_rate"] == max(rates)
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "out/best.yaml", "--print_config"])
    again = cli("sweep", write(SEARCH))
    assert again.code == 0, again.err
    assert len([*Path("out").glob("trial-*")]) == 5
    other = cli("sweep", write(SEARCH.replace("score", "other")))
    assert other.code == 2
    assert "study.yaml: metric of the search changed" in other.err
    other = cli("sweep", write(SEARCH.replace("20", "30")))
    assert "trainer.max_epochs 20 -> 30" in other.err


@pytest.mark.usefixtures("parsed_here")
def test_values_that_fit_refuses_are_told_before_a_search_begins(cli: Cli) -> None:
    for old, new, words in (
        ("[gae, n_step]", "[gae, nstep]", "model.rollout.estimator"),
        ("high: 1e-2", "high: 2", "model.optimizer.learning_rate must be"),
        ("rollout.estimator", "rolout.estimator", "search.parameters"),
        ("metric: score", "metric: charts/episodic_sucesses", "(did you mean charts/episodic_successes?)"),
    ):
        outcome = cli("sweep", write(SEARCH.replace(old, new)))
        assert outcome.code == 2
        assert words in outcome.err
        assert outcome.err.count("\n") == 1
    assert not Path("out/search.db").exists()


def test_without_optuna_a_search_tells_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    outcome = cli("sweep", write(SEARCH))
    assert (outcome.code, outcome.err) == (
        2, "error: study.yaml: search needs optuna: pip install 'epo-lightning[optuna]'\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "name the file of a study, or a packaged one: first"),
        (("none",), "sweep: none is neither a file nor one of the packaged studies: first"),
        (("quickstart",), "quickstart is a configuration of one run: fit --config quickstart"),
        (("sweep",), "wandb sweep"),
        (("first", "--jobs", "0"), "--jobs must be at least 1"),
        (("first", "--jobs", "two"), "--jobs"),
        (("first", "--dry"), "--dry means nothing here"),
        (("first", "second"), "second means nothing here"),
        ((".",), "Is a directory"),
    ],
)
def test_a_wrong_argument_is_one_line(cli: Cli, args: tuple[str, ...], words: str) -> None:
    outcome = cli("sweep", *args)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.usefixtures("parsed_here")
@pytest.mark.parametrize("name", sweep.packaged())
def test_every_packaged_study_is_one(cli: Cli, name: str) -> None:
    outcome = cli("sweep", name, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert f"--run_dir runs/{name}/" in outcome.out


def test_no_run_takes_a_study_or_the_agents_file_for_its_configuration(cli: Cli) -> None:
    write("methods: {a: {config: quickstart}}")
    for name, words in (
        ("sweep", "is for the agent of Weights & Biases, which starts runs: wandb sweep "),
        ("first", "first is a study of several runs: epo-lightning sweep first"),
        ("study.yaml", "study.yaml is a study of several runs: epo-lightning sweep study.yaml"),
    ):
        outcome = cli("fit", "--config", name)
        assert outcome.code == 2
        assert words in outcome.err
        with pytest.raises(Mistake, match="base"):
            find_config(name, "base")


def test_the_driver_loads_nothing_heavy() -> None:
    heavy = "torch lightning mujoco optuna jsonargparse"
    code = (
        "import sys; from epo_lightning.cli.entry import main\n"
        f"try: main(['sweep', '--help'])\nexcept SystemExit: print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"

"""`sweep`: configurations times seeds, or a search, from a file. It loads no torch: its runs do."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.cli import report
from epo_lightning.cli.arguments import CONFIGS, STUDIES, find_config
from epo_lightning.cli.resolution import Wanted, resolve_all
from epo_lightning.documents.nearest import hint
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.limits import Mistake
from epo_lightning.report import study_names
from epo_lightning.report.study_names import StudyNames
from epo_lightning.run.code import code_of, made_by
from epo_lightning.run.folder import RunFolder
from epo_lightning.sweep.driver import Driver, alone
from epo_lightning.sweep.folder import evaluation_of, iterations_of, keep_config, keep_space, other_code, write
from epo_lightning.sweep.metric import require_metric
from epo_lightning.sweep.plan import ListPlan
from epo_lightning.sweep.progress import Screen
from epo_lightning.sweep.runs import StudyRun, printed
from epo_lightning.sweep.section import REPORT
from epo_lightning.sweep.settings import assign
from epo_lightning.sweep.study import Study, read_study

_FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """The command line.

    Args:
        arguments: What follows `sweep`.

    Returns:
        0; 1 when a run failed; 128 + n after signal n.

    Raises:
        Mistake: When the file or an argument means nothing, before anything is started.
    """
    parser = argparse.ArgumentParser(
        "epo-lightning sweep",
        description="Run a study, configurations times seeds, or a search for settings; then compare the runs. The same"
        " command goes on with what was cut, and skips what is done.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="a study: a YAML file, or the name of a packaged one")
    parser.add_argument("--out", type=_path, help="folder of the study (default: the file's out, or runs/NAME)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: the file's jobs, or what the cores allow)")
    parser.add_argument(
        "--dry-run", action="store_true", help="check all, write the configurations, print the commands, start nothing"
    )
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        near = hint(unknown[0], ["--out", "--jobs", "--dry-run", "--help"])
        raise Mistake(f"sweep: {unknown[0]} means nothing here{near}; it takes FILE, --out, --jobs and --dry-run")
    if not hasattr(os, "killpg"):
        raise Mistake("sweep: this system has no process groups, so that runs could outlive a sweep; use WSL")
    if given.file is None:
        raise Mistake(f"sweep: name the file of a study, or a packaged one: {', '.join(packaged())}")
    if given.jobs is not None and given.jobs < 1:
        raise Mistake(f"--jobs must be at least 1, got {given.jobs}")
    file, is_packaged = find_study(given.file)
    study = read_study(file, find_config, is_packaged=is_packaged)
    out = given.out or study.out
    if study.search is not None:
        require_optuna(file)
    with alone(out):
        if study.search is not None:
            return search(study, out, given.jobs, dry=given.dry_run)
        return sweep(study, out, given.jobs, dry=given.dry_run)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def packaged() -> list[str]:
    """Names of the studies that come with this package."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def find_study(name: str) -> tuple[Path, bool]:
    """The file that `sweep NAME` means, and whether it came with this package.

    Raises:
        Mistake: When there is none.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path, False
    if (file := STUDIES / f"{name}.yaml").is_file():
        return file, True
    if (CONFIGS / f"{name}.yaml").is_file():
        find_config(name, "sweep")  # which refuses what no run is
        raise Mistake(
            f"sweep: {name} is a configuration of one run: fit --config {name}; a study has methods or search"
        )
    raise Mistake(f"sweep: {name} is neither a file nor one of the packaged studies: {', '.join(packaged())}")


def require_optuna(file: Path) -> None:
    """Refuse a search where nobody can do it.

    Raises:
        Mistake: With what to install.
    """
    if find_spec("optuna") is None:
        raise Mistake(f"{file}: search needs optuna: pip install 'epo-lightning[optuna]'")


def sweep(study: Study, out: Path, jobs: int | None, *, dry: bool) -> int:
    """Every method with every seed, then the report; returns the exit code."""
    texts = resolve_all([Wanted(one.where, one.configs, one.overlays) for one in study.methods])
    runs = []
    for method, text in zip(study.methods, texts, strict=True):
        content, folder = yaml.safe_load(text), out / method.folder
        iterations, evaluate = iterations_of(method.where, content), evaluation_of(study.evaluate, content)
        config = folder / "method.yaml"
        its = [StudyRun(method.name, folder, seed, iterations, config, evaluate, method.task) for seed in method.seeds]
        keep_config(method.where, config, text, [run.run for run in its])
        write(folder / study_names.FILE, study_names.as_text(StudyNames(method.task, method.name)))
        runs += its
    if dry:
        for run in runs:
            _print_commands(run, study.threads)
        return 0
    jobs = choose_jobs(study, jobs, len(runs))
    screen = Screen()
    todo = [run for run in runs if not run.is_done()]
    if todo:
        done = f", {len(runs) - len(todo)} done already" if len(todo) < len(runs) else ""
        screen.say(f"{study.file.stem}: {study.told()} = {len(runs)} runs{done}, {jobs} at a time, in {out}")
        _tell_of_other_code([run.run for run in runs], screen)
    # the first seed of every method, then the second: what there is after a part of the time can be compared
    places = [place for method in study.methods for place in range(len(method.seeds))]
    by_seed = [run for _, run in sorted(zip(places, runs, strict=True), key=lambda pair: pair[0])]
    driver = Driver(ListPlan(by_seed), jobs, study.threads, screen)
    driver.drive()
    if driver.signal:
        return _cut(out, driver.signal)
    begun = [run.run.path for run in runs if run.run.holds_run()]
    if begun:
        idle = dict.fromkeys(run.run.path.parent for run in runs).keys() - {path.parent for path in begun}
        report.main([*map(str, (*begun, *sorted(idle))), "--out", str(out / REPORT)])
    return _FAILED if driver.failed else 0


def search(study: Study, out: Path, jobs: int | None, *, dry: bool) -> int:
    """Trials until there are enough, then a table, the best configuration and a picture; returns the exit code."""
    from epo_lightning.sweep import findings, trials

    assert study.search is not None
    space, (base,) = study.search, study.methods
    checks = [Wanted(base.where, base.configs, base.overlays, is_whole=False)]
    for parameter in space.parameters:
        checks += [
            Wanted(
                f"{study.file}: search.parameters", base.configs, base.overlays, {parameter.key: value}, is_whole=False
            )
            for value in parameter.ends
        ]
    text = resolve_all(checks)[0]
    iterations = iterations_of(base.where, yaml.safe_load(text))
    if iterations is None:
        raise Mistake(f"{base.where}: a search needs trainer.max_epochs, a number of iterations")
    agents_vary = any(one.key == "model.num_agents" for one in space.parameters)
    require_metric(f"{study.file}: search.metric", space.metric, yaml.safe_load(text), agents_may_vary=agents_vary)

    def make_runs(number: int, settings: dict[str, Any]) -> list[StudyRun]:
        content, folder = yaml.safe_load(text), trials.trial_folder(out, number)
        for key, value in settings.items():
            assign(content, key, value)
        config = folder / "trial.yaml"
        write(config, dump(content))
        its, evaluate = iterations_of(str(config), content), evaluation_of(study.evaluate, content)
        return [StudyRun("trial", folder, seed, its, config, evaluate) for seed in base.seeds]

    begun = [RunFolder(path) for path in out.glob("trial-*/seed*") if path.is_dir()]
    keep_space(str(study.file), out, space, base.seeds, has_begun=bool(begun))
    keep_config(base.where, out / "common.yaml", text, begun, may_grow=False)
    if dry:
        for run in make_runs(0, {one.key: one.ends[0] for one in space.parameters}):
            _print_commands(run, study.threads)
        return 0
    jobs, screen = choose_jobs(study, jobs, space.trials * len(base.seeds)), Screen()
    found = trials.open_study(out, space)
    plan = trials.SearchPlan(found, space, len(base.seeds), make_runs, screen.say)
    screen.say(f"{study.file.stem}: {space.trials} trials x {len(base.seeds)} seed(s), {jobs} at a time, in {out}")
    _tell_of_other_code(begun, screen)
    driver = Driver(plan, jobs, study.threads, screen)
    driver.drive()
    findings.write_table(out, found, space)
    best = findings.write_best(out, found, space)
    if driver.signal:
        return _cut(out, driver.signal)
    drawn = findings.draw(out, found, space)
    if not drawn:
        print(
            f"notice: {out / findings.PICTURE} needs matplotlib: pip install 'epo-lightning[report]'", file=sys.stderr
        )
    names = [findings.TABLE, *([findings.BEST] if best else []), *([findings.PICTURE] if drawn else [])]
    print(f"Results in {out}: {', '.join(names)}")
    if findings.is_flat(found):
        print(f"notice: {space.metric} was the same in all trials, so it says nothing here", file=sys.stderr)
    if best is not None:
        told = ", ".join(f"{one.key} {findings.value_of(best, one)}" for one in space.parameters)
        print(f"Best: trial {best.number}, {space.metric} {best.value:.6g}, with {told}")
        print(f"Use it:  python -m epo_lightning fit --config {out / findings.BEST}")
    return _FAILED if driver.failed or plan.failed else 0


def choose_jobs(study: Study, given: int | None, runs: int) -> int:
    """How many runs at a time: as was said, or one for every `threads` cores."""
    if given or study.jobs:
        return given or study.jobs or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // study.threads, runs))


def _tell_of_other_code(runs: Sequence[RunFolder], screen: Screen) -> None:
    """Before anything starts."""
    begun = [run for run in runs if run.holds_run()]
    if begun and (line := other_code(begun, code_of(made_by()))):
        screen.say(line)


def _cut(out: Path, number: int) -> int:
    print(f"Cut: what is done so far is in {out}; the same command goes on", file=sys.stderr)
    return 128 + number


def _print_commands(run: StudyRun, threads: int) -> None:
    for command in (run.training, run.evaluation):
        if command is not None:
            print(printed(command, threads))

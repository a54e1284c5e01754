"""A search as a plan: trials of optuna, each a run for every seed, ended early when they are behind.

Every trial is in a database in the study's folder from its first moment, so that a search that was cut goes on with the
trials that it has, in the runs that they have begun.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from epo_lightning.run.folder import writing
from epo_lightning.sweep.curve import LOOKS, Curve, no_value, read_curve
from epo_lightning.sweep.plan import take_free
from epo_lightning.sweep.runs import StudyRun
from epo_lightning.sweep.space import Parameter, Space

DATABASE = "search.db"
_FOLDER = "folder"
"""Of a trial that repeats one that has failed: whose folder it goes on in."""
MakeRuns = Callable[[int, dict[str, Any]], Sequence[StudyRun]]
"""Number and settings of a trial -> its runs; their configuration lies there then."""


def open_study(folder: Path, space: Space) -> optuna.Study:
    """The trials of a folder, or none yet."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    file = folder / DATABASE
    with writing(file):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o666))
    study = optuna.create_study(
        study_name="search",
        storage=optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}"),
        load_if_exists=True,
        direction="maximize" if space.maximize else "minimize",
        pruner=_pruner(space.pruner),
    )
    # what it suggests after a restart is not what it suggested at the beginning
    study.sampler = optuna.samplers.TPESampler(seed=space.seed + len(study.get_trials(deepcopy=False)))
    return study


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=LOOKS // 4)
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=LOOKS // 10, reduction_factor=3)
    return optuna.pruners.NopPruner()


def suggest(trial: optuna.Trial, parameter: Parameter) -> object:
    """A value of one parameter; of values to choose from, the database holds what JSON calls them."""
    key, low, high, log = parameter.key, parameter.low, parameter.high, parameter.log
    if parameter.values:
        names = [json.dumps(value) for value in parameter.values]
        return parameter.values[names.index(str(trial.suggest_categorical(key, names)))]
    if parameter.is_int:
        step = 1 if parameter.step is None else int(parameter.step)
        return trial.suggest_int(key, int(low), int(high), step=step, log=log)
    return trial.suggest_float(key, low, high, step=parameter.step, log=log)


class _Open:
    """A trial that goes on.

    Args:
        trial: Optuna's.
        runs: One for each seed.
        reported: Steps of which a value is known already.
    """

    def __init__(self, trial: optuna.Trial, runs: Sequence[StudyRun], reported: set[int]) -> None:
        self.trial, self.runs, self.reported = trial, runs, reported
        self.waiting = [run for run in runs if not run.is_done()]
        self.curves: list[Curve | None] = [None] * len(runs)

    def read(self, space: Space) -> None:
        """What its runs have logged since."""
        self.curves = [read_curve(run, space, curve) for run, curve in zip(self.runs, self.curves, strict=True)]

    def steps(self) -> Iterator[tuple[int, float]]:
        """Its value after each look at each seed, seed by seed: the mean of the seeds that ended, and of this one.

        So trials are compared after the same looks at the same seeds, however many runs there are at a time.
        """
        ended: list[float] = []
        for place, curve in enumerate(self.curves):
            if curve is None:
                return
            for look, value in curve.looks.items():
                yield place * LOOKS + look, (sum(ended) + value) / (len(ended) + 1)
            if not curve.is_whole or math.isnan(curve.value):
                return
            ended.append(curve.value)


class SearchPlan:
    """Trials as runs.

    Args:
        study: Optuna's.
        space: What is searched for.
        seeds: How many runs a trial has.
        make_runs: See `MakeRuns`.
        notice: Told in one line what the user should know.

    Attributes:
        failed: How many trials have failed in this session.
    """

    def __init__(
        self, study: optuna.Study, space: Space, seeds: int, make_runs: MakeRuns, notice: Callable[[str], None]
    ) -> None:
        self.study, self.failed = study, 0
        self._space, self._seeds, self._make_runs, self._notice = space, seeds, make_runs, notice
        self._open: list[_Open] = []
        self._unwanted: list[StudyRun] = []
        self._is_column_told = self._is_hopeless = False
        trials = study.get_trials(deepcopy=False)
        self._over = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        folders = {trial.number: trial.user_attrs.get(_FOLDER, trial.number) for trial in trials}
        handled = {folders[trial.number] for trial in trials if trial.state != TrialState.FAIL}
        for trial in trials:
            folder = folders[trial.number]
            if trial.state == TrialState.RUNNING:  # of a driver that was cut
                self._begin(optuna.Trial(study, trial._trial_id), {*trial.intermediate_values})
            elif trial.state == TrialState.FAIL and trial.params and folder not in handled:
                study.enqueue_trial(trial.params, user_attrs={_FOLDER: folder})
                handled.add(folder)

    def next(self) -> StudyRun | None:
        """The next run of an open trial, or the first of a new one."""
        for one in [*self._open]:
            if run := take_free(one.waiting):
                return run
        while self.further():
            if run := take_free(self._begin(self.study.ask(), set()).waiting):
                return run
        return None

    def waiting(self) -> Sequence[StudyRun]:
        """Of open trials."""
        return [run for one in self._open for run in one.waiting]

    def further(self) -> int:
        """Runs of trials that have not begun."""
        if self._is_hopeless:
            return 0
        return max(0, self._space.trials - self._over - self.failed - len(self._open)) * self._seeds

    def ended(self, run: StudyRun, complaint: str | None) -> None:
        """A trial with a run that failed is over, as is one whose runs are all done."""
        one = self._of(run)
        if one is not None and complaint is not None:
            self._fail(one)
        elif one is not None:
            self._conclude(one)

    def put_back(self, run: StudyRun) -> None:
        """It is the next one of its trial."""
        if (one := self._of(run)) is not None:
            one.waiting.insert(0, run)

    def unwanted(self) -> Sequence[StudyRun]:
        """Runs of trials that are behind, or failed."""
        for one in [*self._open]:
            self._report(one)
        return self._unwanted

    def told(self) -> str:
        """Trials."""
        best = best_of(self.study)
        found = "" if best is None or best.value is None else f", best {best.value:.4g}"
        return f"{self._over + self.failed} of {self._space.trials} trials{found}"

    def _begin(self, trial: optuna.Trial, reported: set[int]) -> _Open:
        settings = {one.key: suggest(trial, one) for one in self._space.parameters}
        one = _Open(trial, self._make_runs(trial.user_attrs.get(_FOLDER, trial.number), settings), reported)
        self._open.append(one)
        self._conclude(one)
        return one

    def _of(self, run: StudyRun) -> _Open | None:
        return next((one for one in self._open if run in one.runs), None)

    def _conclude(self, one: _Open) -> None:
        """Tell what a trial is worth, when all of its runs are done."""
        if not all(run.is_done() for run in one.runs):
            return
        self._report(one)
        if one not in self._open:
            return
        values = [math.nan if curve is None else curve.value for curve in one.curves]
        without = [run for run, value in zip(one.runs, values, strict=True) if math.isnan(value)]
        if without:
            reason = no_value(without[0].run.metrics, self._space.metric)
            left = self.further()
            self._is_hopeless = self._over == 0 and any(curve and not curve.has_column for curve in one.curves)
            ends = "; no trial has it, so the search ends" if self._is_hopeless and left else ""
            self._notice(f"failed: trial {one.trial.number}: {reason}{ends}")
            for open_one in [*self._open] if self._is_hopeless else [one]:
                self._fail(open_one)
        else:
            self.study.tell(one.trial, sum(values) / len(values))
            self._open.remove(one)
            self._over += 1

    def _fail(self, one: _Open) -> None:
        self.study.tell(one.trial, state=TrialState.FAIL)
        self._open.remove(one)
        self._unwanted += one.runs
        self.failed += 1

    def _report(self, one: _Open) -> None:
        """Tell optuna what is new of a trial, and end it when it is behind."""
        one.read(self._space)
        for run, curve in zip(one.runs, one.curves, strict=True):
            if curve is not None and not curve.has_column and not self._is_column_told:
                self._is_column_told = True
                self._notice(f"notice: {no_value(run.run.metrics, self._space.metric)}")
        for step, value in one.steps():
            if step in one.reported:
                continue
            one.reported.add(step)
            one.trial.report(value, step)
            if step < LOOKS * len(one.runs) and one.trial.should_prune():
                self.study.tell(one.trial, state=TrialState.PRUNED)
                self._open.remove(one)
                self._unwanted += one.runs
                self._over += 1
                return


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """The best trial that came to its end."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def folder_of(folder: Path, trial: FrozenTrial) -> Path:
    """Where its runs lie."""
    return trial_folder(folder, trial.user_attrs.get(_FOLDER, trial.number))


def trial_folder(folder: Path, number: int) -> Path:
    """Where the runs of a trial lie: `trial-0003`."""
    return folder / f"trial-{number:04d}"

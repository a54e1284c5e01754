"""What a search has found: a table of its trials, the best configuration, a picture."""

import csv
import itertools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from epo_lightning.report.svg import COLORS
from epo_lightning.run.folder import part_of, writing
from epo_lightning.sweep.folder import write
from epo_lightning.sweep.space import Parameter, Space
from epo_lightning.sweep.trials import best_of, folder_of

TABLE, BEST, PICTURE = "trials.csv", "best.yaml", "search.png"
_COLUMNS = 3
_LEAST_TRIALS = 4
"""With fewer, nothing can be said of what matters."""


def value_of(trial: FrozenTrial, parameter: Parameter) -> Any:  # noqa: ANN401  (whatever the file gives to choose from)
    """What a trial tried of a parameter."""
    value = trial.params.get(parameter.key)
    return json.loads(value) if parameter.values and isinstance(value, str) else value


def write_table(folder: Path, study: optuna.Study, space: Space) -> None:
    """A row for each trial."""
    file = folder / TABLE
    temporary = part_of(file)
    with writing(file):
        with temporary.open("w", newline="", encoding="utf-8") as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow(["trial", "state", "value", "folder", *(one.key for one in space.parameters)])
            for trial in study.get_trials(deepcopy=False):
                told = [value_of(trial, one) for one in space.parameters]
                name = folder_of(folder, trial).name
                table.writerow([trial.number, trial.state.name.lower(), _plain(trial.value), name, *told])
        os.replace(temporary, file)


def write_best(folder: Path, study: optuna.Study, space: Space) -> FrozenTrial | None:
    """The best trial's configuration, whole, as `fit --config` takes it; returns the trial."""
    best = best_of(study)
    if best is None or best.value is None:
        return None
    tried = [f"#   {one.key}: {json.dumps(value_of(best, one))}" for one in space.parameters]
    head = [f"# {space.metric} {best.value:.6g}: the best of {folder}, trial {best.number}, with", *tried]
    config = (folder_of(folder, best) / "trial.yaml").read_text(encoding="utf-8")
    write(folder / BEST, "\n".join([*head, config]))
    return best


def importances(study: optuna.Study) -> dict[str, float]:
    """By key the share of a parameter in what made trials good; empty where there are too few to tell."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < _LEAST_TRIALS or is_flat(study):
        return {}
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    )
    return {key: value for key, value in found.items() if math.isfinite(value)}


def is_flat(study: optuna.Study) -> bool:
    """Whether several trials came to their end, and all are worth the same."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len(done) > 1 and len({trial.value for trial in done}) == 1


def draw(folder: Path, study: optuna.Study, space: Space) -> bool:
    """How values came, what mattered, and a panel for each parameter; returns whether matplotlib could draw it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    trials = study.get_trials(deepcopy=False)
    panels = 2 + len(space.parameters)
    rows = -(-panels // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3.1 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    _history(axes[0], trials, space)
    _importance(axes[1], study, space)
    for panel, parameter in zip(axes[2:], space.parameters, strict=False):
        _slice(panel, trials, parameter, space)
    for panel in axes[panels:]:
        panel.set_axis_off()
    file = folder / PICTURE
    temporary = part_of(file)
    with writing(file):
        figure.savefig(temporary, dpi=110, format="png")
        os.replace(temporary, file)
    return True


def _history(panel: Any, trials: Sequence[FrozenTrial], space: Space) -> None:  # noqa: ANN401  (matplotlib's)
    for state, marker, color, label in _kinds():
        some = [trial for trial in trials if trial.state == state and trial.value is not None]
        if some:
            numbers, values = [trial.number for trial in some], [trial.value for trial in some]
            panel.scatter(numbers, values, marker=marker, color=color, s=24, label=label)
    done = {
        trial.number: trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None
    }
    if done:
        best = [*itertools.accumulate(done.values(), max if space.maximize else min)]
        panel.step([*done], best, where="post", color=COLORS[1], label="best so far")
    panel.set(xlabel="trial", ylabel=space.metric)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)
    if trials:
        panel.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _importance(panel: Any, study: optuna.Study, space: Space) -> None:  # noqa: ANN401
    shares = importances(study)
    panel.set(title="what made the best quarter")
    if not shares:
        panel.text(0.5, 0.5, f"needs {_LEAST_TRIALS} trials that differ", ha="center", va="center", color="#555")
        panel.set_axis_off()
        return
    keys = [one.key for one in space.parameters if one.key in shares][::-1]
    panel.barh([_short(key) for key in keys], [shares[key] for key in keys], color=COLORS[0], height=0.6)
    panel.set(xlabel="importance (PED-ANOVA), of 1")
    panel.grid(alpha=0.3, axis="x")


def _slice(panel: Any, trials: Sequence[FrozenTrial], parameter: Parameter, space: Space) -> None:  # noqa: ANN401
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    names = [json.dumps(value) for value in parameter.values]
    for state, marker, color, _ in _kinds():
        some = [one for one in trials if one.state == state and one.value is not None and parameter.key in one.params]
        told = [names.index(one.params[parameter.key]) if names else one.params[parameter.key] for one in some]
        panel.scatter(told, [one.value for one in some], marker=marker, color=color, s=24)
    if names:
        panel.set_xticks(range(len(names)), [name.strip('"') for name in names])
        panel.set_xlim(-0.5, len(names) - 0.5)
    elif parameter.log:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize=8)
    panel.set(xlabel=parameter.key, ylabel=space.metric)
    panel.grid(alpha=0.3)


def _kinds() -> list[tuple[TrialState, str, str, str]]:
    return [(TrialState.COMPLETE, "o", COLORS[0], "whole"), (TrialState.PRUNED, "x", "#999999", "ended early")]


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(value: float | None) -> object:
    return "" if value is None else value

"""Makes the policies that come with the package: trains, keeps what acts, evaluates it, and writes its card.

    python benchmarks/pretrained.py quickstart
    python benchmarks/pretrained.py quickstart --run runs/quickstart/20260101-120000-seed0

With `--run` the training is a run that there is, made by the command of the recipe; its files must be there. The code
must be committed, so that the card's commit tells what made the policy.
"""

import argparse
import json
import math
import shlex
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from epo_lightning import Run, pretrained
from epo_lightning.cli.entry import main as command_line
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.modules import contents
from epo_lightning.run.checkpoint import fingerprint, read_checkpoint
from epo_lightning.run.folder import RunFolder

NORMAL = 1.96
"""Standard errors to either side of the mean that hold it with 95 %."""
POINTS = 16
"""Of the curve."""


class Recipe(NamedTuple):
    """How a policy is made.

    Attributes:
        begins: What trains it, with seed 0: `--config` and a packaged configuration, or `--pretrained` and the policy
            that it begins with.
        title: What it does, in one line.
        limits: What it cannot do.
        more: Words of the command that trains it, beside those.
        then: Words of commands that go on with the run, one after the other.
    """

    begins: tuple[str, str]
    title: str
    limits: str
    more: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()


RECIPES = {
    "quickstart": Recipe(
        ("--config", "quickstart"),
        "A point goes around a wall to the rich goal, and leaves the poor one: EPO, a minute on two cores.",
        "This one wall and these two goals: it sees its own position alone, so it cannot follow a goal that moves. One"
        " seed; other seeds of the same command may end at the poor goal.",
    ),
    "wall_maze": Recipe(
        ("--config", "wall_maze"),
        "A point mass leaves a cup-shaped wall that stands between it and the goal: EPO, a minute on two cores.",
        "The easy maze only (WallMaze.difficulty: easy), with its wall and goal where they are. One seed.",
    ),
    "cartpole": Recipe(
        ("--config", "cartpole"),
        "Gymnasium's CartPole-v1, balanced; its actions are discrete: EPO, half a minute on two cores.",
        "Episodes of 500 steps, from Gymnasium's narrow starts: nothing is known of larger angles or longer episodes."
        " Needs the extra gymnasium. One seed.",
    ),
    "pendulum": Recipe(
        ("--config", "sac"),
        "Gymnasium's Pendulum-v1, swung up and held: soft actor-critic, a minute on two cores.",
        "Mass, length and torque limit as Gymnasium has them by default. Needs the extra gymnasium. One seed.",
    ),
    "two_arm_reach": Recipe(
        ("--config", "two_arm_reach"),
        "Two robot arms bring their hands to points, again and again: EPO, ten minutes on two cores.",
        "Points in a box before each arm, fingers held straight, this simulator alone: nothing but physics keeps the"
        " arms from the table and from each other. One seed.",
    ),
    "regrasp_cube": Recipe(
        ("--config", "regrasp_cube"),
        "One arm and hand lift a cube and hold it at targets: EPO, two hours on one core.",
        "One cube, one arm, this simulator without randomisation: nothing is known of a real hand. One seed.",
        more=("--trainer.max_epochs=626",),
        then=(("--data.env.init_args.tolerance=0.15", "--trainer.max_epochs=3250"),),
    ),
    "regrasp": Recipe(
        ("--pretrained", "regrasp_cube"),
        "One arm and hand lift any of 947 cuboids and sticks and hold them at targets: EPO, an hour more on one core.",
        "Cuboids and sticks on a table, one arm, this simulator without randomisation: nothing is known of a real"
        " hand. One seed.",
        more=("--data.env.init_args.objects=all", "--trainer.max_epochs=1465"),
    ),
}


def main() -> None:
    """Make one of them."""
    parser = argparse.ArgumentParser(description="Make a policy that comes with the package.")
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--run", type=Path, help="a finished run of the recipe's command, instead of a new one")
    args = parser.parse_args()
    recipe = RECIPES[args.name]
    words = ["fit", *recipe.begins, "--seed_everything=0", *recipe.more]
    later = [["fit", "--ckpt_path=RUN", *then] for then in recipe.then]
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder, "run")
        if args.run is None:
            for command in ([*words, f"--run_dir={run}"], *later):
                if code := command_line([word.replace("RUN", str(run)) for word in command]):
                    raise SystemExit(code)
        write(args.name, recipe, RunFolder(run), [words, *later])


def write(name: str, recipe: Recipe, run: RunFolder, commands: list[list[str]]) -> None:
    """The policy of the last checkpoint of `run`, and its card."""
    target = pretrained.POLICIES / f"{name}.ckpt"
    torch.save(policy_of(read_checkpoint(run.last)), target)
    evaluated = evaluation(name, target)
    target.with_suffix(".yaml").write_text(
        dump(
            {
                "title": recipe.title,
                "task": {"name": evaluated.pop("task"), "env": evaluated.pop("env")},
                "made": made(run, commands),
                "curve": curve(Run(run.path)),
                "evaluation": evaluated,
                "limits": recipe.limits,
                "checkpoint": {"file": target.name, "bytes": target.stat().st_size, "id": fingerprint(target)},
            }
        ),
        encoding="utf-8",
    )
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB\n{target.with_suffix('.yaml').read_text()}")


def policy_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint that acts and whose weights a run can begin with: no optimizer, no experience, nobody's mark."""
    kept = ("epoch", "global_step", "pytorch-lightning_version", contents.CONFIG, contents.IDENTITY, contents.LAYOUT)
    reached = {"env_steps": contents.env_steps_of(checkpoint), "curriculum": contents.curriculum_of(checkpoint) or {}}
    return {
        **{key: checkpoint[key] for key in kept},
        "state_dict": {key: value.clone() for key, value in checkpoint["state_dict"].items()},
        contents.RANKS: [reached],
    }


def made(run: RunFolder, commands: list[list[str]]) -> dict[str, Any]:
    """By which command and code, and what it took.

    Raises:
        SystemExit: When the code was not that of a commit, or the run has not finished.
    """
    record, summary = json.loads(run.record.read_text()), json.loads(run.summary.read_text())
    git = record["git"]["package"]
    if summary["status"] != "finished" or git["dirty"]:
        raise SystemExit(f"{run.path}: the run has not finished, or its code was not committed")
    return {
        "command": "; ".join(shlex.join(["epo-lightning", *words]) for words in commands),
        "algorithm": summary["algorithm"],
        "agents": summary["agents"],
        "seed": record["config"]["seed_everything"],
        "commit": git["commit"],
        "started": record["started"],
        "versions": {key: record["versions"][key] for key in ("epo_lightning", "torch", "lightning")},
        "device": record["device"]["kind"],
        "env_steps": summary["env_steps"],
        "iterations": summary["iterations"],
        "seconds": round(summary["seconds"], 1),
    }


def curve(run: Run) -> dict[str, list[float]]:
    """The return of the training's episodes at a few moments."""
    metrics = run.metrics
    steps, returns = metrics["charts/env_steps"], metrics["charts/episodic_return"]
    known = [row for row in range(len(steps)) if row == 0 or returns[row] != returns[row - 1]]  # where episodes ended
    known = [row for row in known if not math.isnan(returns[row])]
    rows = [known[place * (len(known) - 1) // (POINTS - 1)] for place in range(POINTS)]
    rows = list(dict.fromkeys(rows))
    return {"env_steps": [int(steps[row]) for row in rows], "return": [round(float(returns[row]), 3) for row in rows]}


def evaluation(name: str, target: Path) -> dict[str, Any]:
    """What `validate` says."""
    words = ["validate", "--pretrained", name]
    if code := command_line(words):
        raise SystemExit(code)
    file = Path(f"{target.stem}.evaluation.json")
    told = json.loads(file.read_text())
    file.unlink()
    mean, error = told["return"]["mean"], told["return"]["standard_error"]
    return {
        "task": told["task"],
        "env": told["env"],
        "command": shlex.join(["epo-lightning", *words]),
        "seeds": told["seeds"],
        "episodes": told["episodes"],
        "difficulty": told["difficulty"],
        "return": {
            "mean": round(mean, 4),
            "standard_error": round(error, 4),
            "interval": [round(mean - NORMAL * error, 4), round(mean + NORMAL * error, 4)],
        },
        "successes": round(told["successes"]["mean"], 4) if any(told["successes"]["seed_means"]) else None,
    }


if __name__ == "__main__":
    main()

"""The arguments of every command that reads a run's configuration.

The trainer's arguments are the ones that mean something here: one iteration is one epoch, evaluation is a command of
its own, the gradient is clipped by the module.
"""

import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, add_instantiator, set_dumper, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from epo_lightning.cli.algorithm import FLAG
from epo_lightning.cli.arguments import PRETRAINED, RESUME
from epo_lightning.cli.trust.consent import TRUST
from epo_lightning.documents.plain_yaml import dump, load, plain
from epo_lightning.modules import ALGORITHMS, DEFAULT_ALGORITHM
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.run.run_checkpoints import RunCheckpoints

_TRAINER_ARGUMENTS = {
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "max_epochs", "max_time",
    "enable_progress_bar", "deterministic", "benchmark", "profiler", "detect_anomaly",
}  # fmt: skip
OF_ONE_INVOCATION = ("config", "base", "ckpt_path", "pretrained", "run_dir", "trust", "resume")
"""What is not the run's, and no configuration keeps."""
Built = TypeVar("Built")
MODE = "epo_lightning"
"""How the parser reads and writes YAML: by `plain_yaml`."""


def build_plainly(class_type: type[Built], *args: Any, **kwargs: Any) -> Built:
    """An object of a class, whose texts have no marks."""
    return class_type(*(plain(each) for each in args), **{name: plain(each) for name, each in kwargs.items()})


set_loader(MODE, load, (yaml.YAMLError,))
set_dumper(MODE, dump)
add_instantiator(build_plainly, object)


def add_origins(parser: LightningArgumentParser) -> None:
    """Where the settings come from, where the results go, the algorithm, and the seed."""
    parser.add_argument(
        "-c",
        "--config",
        action=ActionConfigFile,
        help="YAML file, or name of a packaged configuration; several overlay each other in order.",
    )
    parser.add_argument(
        "--base",
        type=list[str] | str | None,
        default=None,
        help="In a YAML file: the configurations that this file overlays, files or packaged ones.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="Checkpoint, run folder, `last` or `best`: whose configuration and weights are used.",
    )
    parser.add_argument(
        PRETRAINED,
        type=str | None,
        default=None,
        help="Name of a policy that comes with the package: as --ckpt_path. fit: a new run begins with its weights and"
        " its configuration. `epo-lightning pretrained` lists them.",
    )
    parser.add_argument(
        "--run_dir",
        type=str | None,
        default=None,
        help="Run folder. fit: where the run goes (default: runs/<config>/<time>-seed<seed>, or with --ckpt_path"
        " the folder of that checkpoint). With --ckpt_path last or best: whose checkpoint.",
    )
    parser.add_argument(
        RESUME,
        action="store_true",
        help="fit: continue the run in --run_dir from its last checkpoint, or begin it where there is none.",
    )
    parser.add_argument(
        TRUST,
        action="store_true",
        help="With --ckpt_path: use everything that somebody else's checkpoint names, which can run any code.",
    )
    parser.add_argument(
        FLAG,
        choices=[*ALGORITHMS],
        default=DEFAULT_ALGORITHM,
        help=f"What trains; model.* are its settings, which `{FLAG} NAME --help` tells.",
    )
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of everything random.")


def add_parts(parser: LightningArgumentParser, module: type[PopulationModule]) -> None:
    """The trainer's arguments that make sense, those of `module`, of the datamodule and of the checkpoints."""
    skip = set(L.Trainer.__init__.__annotations__) - _TRAINER_ARGUMENTS
    parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, fail_untyped=False, skip=skip)
    parser.set_defaults({"trainer.max_epochs": 1000})
    if sys.platform == "darwin":  # `auto` would choose MPS, where nothing of this has been tried
        parser.set_defaults({"trainer.accelerator": "cpu"})
    parser.add_lightning_class_args(module, "model")
    parser.add_lightning_class_args(RolloutDataModule, "data")
    parser.add_lightning_class_args(RunCheckpoints, "checkpoint")
    parser.link_arguments("seed_everything", "data.seed")


def known_classes() -> dict[str, dict[str, str]]:
    """Lightning's own callbacks by short name, which may stand beside ours."""
    return {"trainer.callbacks": {kind.__name__: kind.__module__ for kind in subclasses_of(L.Callback)}}


def subclasses_of(kind: type[Any]) -> Iterator[type[Any]]:
    """Everything that derives from `kind` and has been imported."""
    for each in kind.__subclasses__():
        yield each
        yield from subclasses_of(each)

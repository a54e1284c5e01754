"""What the command line of a command with a configuration means: parsed, and built on LightningCLI."""

import argparse
import contextlib
import pkgutil
from collections.abc import Sequence
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning import __version__
from epo_lightning.cli.algorithm import choose_algorithm
from epo_lightning.cli.commands import RunCommand
from epo_lightning.cli.destination import choose_folder
from epo_lightning.cli.loggers import prepare_loggers, without_secrets
from epo_lightning.cli.parser import OF_ONE_INVOCATION, add_origins, add_parts, require_said_where_it_counts
from epo_lightning.cli.strange_settings import require_own_settings, require_present_names
from epo_lightning.cli.trained import read_trained
from epo_lightning.cli.trainer import fixed_arguments, naming_the_key
from epo_lightning.cli.trust.consent import signature_of
from epo_lightning.modules import algorithm_class
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.run.evaluation_report import EvaluationReport
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.interruption import GracefulStop, TimeLimit
from epo_lightning.run.notices import silence
from epo_lightning.run.overrides import Change, find_changes, require_changeable
from epo_lightning.run.progress import IterationProgress
from epo_lightning.run.recorder import RunRecorder


class Invocation(LightningCLI):
    """Everything that a command works with.

    Args:
        command: The row of the table.
        args: The command line.
        name: What a new run is called; None: after its task.
        at_end: Where to put what has to be undone when the command has ended.
        given: The command line as the user gave it.

    Attributes:
        trained: The checkpoint that it names.
        algorithm: Whose settings `model.*` are.
        args: The command line after `arguments.resolve`.
        resolved: The configuration that came out, as YAML.
        folder: Where a training writes; None when nothing is trained.
        stop: How a signal ends a training.
        recorder: What a training leaves behind.
        model: The population.
        datamodule: Its environments.
        trainer: Who runs both.
    """

    model: PopulationModule
    datamodule: RolloutDataModule
    trainer: L.Trainer

    def __init__(
        self,
        command: RunCommand,
        args: list[str],
        name: str | None,
        at_end: contextlib.ExitStack,
        *,
        given: Sequence[str] = (),
    ) -> None:
        self.command, self.args, self.name, self._at_end = command, args, name, at_end
        self.given = given or args
        self.function = pkgutil.resolve_name(command.function)
        self.trained = read_trained(args)
        self.algorithm = choose_algorithm(args, self.trained.algorithm)
        self.folder: RunFolder | None = None
        self.stop = GracefulStop()
        self._signature: str | None = None
        self._changes: list[Change] = []
        silence()
        super().__init__(
            algorithm_class(self.algorithm),
            RolloutDataModule,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            run=False,  # of one command is built what it needs, and `run` below is it
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "dump_header": [f"epo-lightning {__version__}"],
                "prog": f"epo-lightning {args[0]}",
                "description": command.help,
            },
            # the checkpoint's configuration comes first, so that what else is given overrides it
            args=[*(("--config", self.trained.used) if self.trained.used else ()), *args[1:]],
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The command's own arguments, by name."""
        return {name: self.config_init[name] for name in self._own}

    # The parser -----------------------------------------------------------------------------------------------------

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Without `--config`, which `add_origins` adds with its own words."""
        return LightningArgumentParser(**kwargs)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where the settings come from."""
        add_origins(parser)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The settings."""
        add_parts(parser, algorithm_class(self.algorithm))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What the command alone takes."""
        self._own = parser.add_function_arguments(self.function, skip={"run"})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Without Lightning's warning about `sys.argv`."""
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError:
            require_present_names(self.args)
            require_own_settings(self.args, self.algorithm)
            raise
        require_said_where_it_counts(self.config, self.args, self.trained.path)
        self.config.ckpt_path = self.trained.path

    # The objects ----------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Keep the configuration as the user means it; then decide on the run folder."""
        kept = without_secrets(self.config) if self.command.trains else self.config.clone()
        for key in OF_ONE_INVOCATION:
            kept.pop(key, None)
        self.resolved: str = self.parser.dump(kept, skip_unset=False, skip_validation=True)
        if not self.command.trains:
            self.config.trainer.logger = None  # nobody logs, so no logger's package is needed
            return
        is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if is_first_rank:
            self._signature = signature_of(self.resolved)
        if self.trained.config is not None:
            self._changes = find_changes(self.trained.config, yaml.safe_load(self.resolved))
            require_changeable(self._changes, self.trained.fixed)
        self.folder = choose_folder(self.config, self.name, is_first_rank=is_first_rank)
        self._at_end.callback(self.folder.release)
        if is_first_rank:
            self.folder.claim()
        prepare_loggers(self.config, self.folder, self.trained)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """What every run has, in addition to what its configuration says."""
        config = self.config_init["trainer"]
        words = ["epo-lightning", *self.given]
        self.recorder = RunRecorder(self.resolved, self._signature, self._changes, self.trained.history, words)
        callbacks = [self.stop, EvaluationReport(self.config.data.env.as_dict()), self.recorder]
        if config["enable_progress_bar"] is not False:
            callbacks.append(IterationProgress())
        if config["max_time"] is not None:
            callbacks.append(TimeLimit(config["max_time"], interval="epoch"))
        self.trainer_defaults["callbacks"] = callbacks
        fixed = fixed_arguments(config, self.folder, in_one_process=self.command.in_one_process)
        with naming_the_key():
            return super().instantiate_trainer(**fixed)


def run(command: RunCommand, args: list[str], name: str | None, given: Sequence[str]) -> int:
    """Build what `args` say, and do `command` with it.

    Args:
        command: The row of the table.
        args: Command line after `arguments.resolve`.
        name: What a new run is called; None: after its task.
        given: The command line as the user gave it.

    Returns:
        The exit code.
    """
    with contextlib.ExitStack() as at_end:
        invocation = Invocation(command, args, name, at_end, given=given)
        return int(invocation.function(invocation, **invocation.arguments))

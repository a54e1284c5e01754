"""What the command line of a command with a configuration means: parsed, and built on LightningCLI."""

import argparse
import contextlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning import __version__
from epo_lightning.cli.algorithm import choose_algorithm, replaced_files
from epo_lightning.cli.arguments import PRETRAINED
from epo_lightning.cli.commands import COMMANDS, RunCommand
from epo_lightning.cli.destination import choose_folder
from epo_lightning.cli.loggers import as_list, prepare_loggers, without_secrets
from epo_lightning.cli.parser import MODE, OF_ONE_INVOCATION, add_origins, add_parts, known_classes
from epo_lightning.cli.settings.explanation import explain
from epo_lightning.cli.settings.help import Help
from epo_lightning.cli.settings.keys import ParserKeys
from epo_lightning.cli.settings.ranges import SEEDS
from epo_lightning.cli.settings.translation import Translation
from epo_lightning.cli.strange_settings import require_own_settings, require_present_names, require_replaceable
from epo_lightning.cli.trained import read_trained
from epo_lightning.cli.trainer import fixed_arguments, name_members, naming_the_key, put_into
from epo_lightning.cli.trust.consent import signature_of
from epo_lightning.documents.plain_yaml import load, plain
from epo_lightning.limits import require_range
from epo_lightning.modules import algorithm_class
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.supported import require_supported
from epo_lightning.run.beginning import BeginsWith
from epo_lightning.run.evaluation_report import EvaluationReport
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.interruption import GracefulStop, TimeLimit
from epo_lightning.run.lineage import OwnLineage
from epo_lightning.run.neighbours import Neighbours
from epo_lightning.run.notices import silence
from epo_lightning.run.overrides import Change, find_changes, require_changeable
from epo_lightning.run.progress import BarMetrics, IterationProgress
from epo_lightning.run.recorder import RunRecorder


class Invocation(LightningCLI):
    """Everything that a command works with.

    Args:
        command: The row of the table.
        args: The command line.
        name: What a new run is called; None: after its task.
        at_end: Where to put what has to be undone when the command has ended.
        given: The command line as the user gave it.
        callbacks: What a caller in Python adds to those of the configuration.
        in_python: It is a caller in Python, who is told in Python how to go on.

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
        callbacks: Sequence[L.Callback] = (),
        in_python: bool = False,
    ) -> None:
        self.command, self.args, self.name, self._at_end = command, args, name, at_end
        self.given = given or args
        self._given_callbacks, self.in_python = callbacks, in_python
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
                "parser_mode": MODE,
                "prog": f"epo-lightning {args[0]}",
                "description": command.help,
            },
            args=args[1:],
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The command's own arguments, by name."""
        return {name: plain(self.config_init[name]) for name in self._own}

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
        """Files and flags in one meaning, and every mistake in one line."""
        keys = ParserKeys(parser)
        if (help_text := Help(parser, keys, algorithm_class(self.algorithm), self.algorithm).asked(args)) is not None:
            print(help_text)
            parser.exit()
        require_replaceable(self.args, self.algorithm)
        known = known_classes()
        translation = Translation(keys, self.args[0], args, replaced_files(args), known, self._require_own_names)
        # the checkpoint's configuration comes first, so that what else is given overrides it
        used = self.trained.used
        said = [*([f"--config={translation.text(used)}"] if used else []), *translation.arguments()]
        try:
            self.config = parser.parse_args(said)
        except argparse.ArgumentError as error:
            self._require_own_names()
            raise explain(error, keys, translation.sources) from error
        require_range("seed_everything", self.config.seed_everything, *SEEDS)
        for key in OF_ONE_INVOCATION:
            self.config[key] = plain(self.config[key])
        self.config.ckpt_path = self.trained.path

    def _require_own_names(self, key: str = "") -> str:
        """Refuse keys of earlier versions and of other algorithms; returns whose `key` is, where it is a command's."""
        require_present_names(self.args)
        require_own_settings(self.args, self.algorithm)
        owners = [
            name for name, command in COMMANDS.items()
            if key and isinstance(command, RunCommand)
            and key in inspect.signature(pkgutil.resolve_name(command.function)).parameters
        ]  # fmt: skip
        words = " and ".join([*([", ".join(owners[:-1])] if owners[1:] else []), *owners[-1:]])
        return f"; it belongs to {words}" if words else ""

    def _add_instantiators(self) -> None:
        """None of Lightning's, which would build model and data with marked texts (see `plain_yaml`)."""

    # The objects ----------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Keep the configuration as the user means it; then decide on the run folder."""
        kept = without_secrets(self.config) if self.command.trains else self.config.clone()
        for key in OF_ONE_INVOCATION:
            kept.pop(key, None)
        name_members(kept)
        text = self.parser.dump(kept, skip_unset=False, skip_validation=True)
        self.resolved: str = f"# epo-lightning {__version__}\n{text}"
        if not self.command.trains:
            self.config.trainer.logger = None  # nobody logs, so no logger's package is needed
            return
        is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if is_first_rank:
            self._signature = signature_of(self.resolved)
        if self.trained.config is not None:
            self._changes = find_changes(self.trained.config, plain(load(self.resolved)))
            require_changeable(self._changes, self.trained.fixed)
        self.folder = choose_folder(self.config, self.name, is_first_rank=is_first_rank)
        self._at_end.callback(self.folder.release)
        if is_first_rank:
            self.folder.claim()
        prepare_loggers(self.config, self.folder, self.trained)
        put_into(self.folder, self.config)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """What every run has, in addition to what its configuration says."""
        config = self.config_init["trainer"]
        for name, value in list(vars(config).items()):
            config[name] = plain(value)
        words = ["epo-lightning", *self.given]
        self.recorder = RunRecorder(self.resolved, self._signature, self._changes, self.trained.history, words)
        own = [*as_list(config["callbacks"]), *self._given_callbacks]
        if (policy := self.trained.begins_with) is not None:
            own = [BeginsWith(policy, f"{PRETRAINED} {policy.stem}"), *own]  # first: it tells what does not match
        bars = [each for each in own if isinstance(each, ProgressBar)]
        evaluation = EvaluationReport(plain(self.config.data.env.as_dict()))
        callbacks = [self.stop, evaluation, self.recorder, OwnLineage(), Neighbours()]
        if config["enable_progress_bar"] is False:
            own = [each for each in own if each not in bars]
        else:
            callbacks.append(BarMetrics() if bars else IterationProgress())
        config["callbacks"] = own
        if config["max_time"] is not None:
            with naming_the_key("max_time"):
                callbacks.append(TimeLimit(config["max_time"], interval="epoch"))
        self.trainer_defaults["callbacks"] = callbacks
        fixed = fixed_arguments(config, self.folder, in_one_process=self.command.in_one_process)
        with naming_the_key():
            trainer = super().instantiate_trainer(**fixed)
        unscaled = algorithm_class(self.algorithm).unscaled
        require_supported(trainer, trains=self.command.trains, unscaled=unscaled)
        return trainer

    def require_fitting(self) -> None:
        """Refuse settings of a new training that do not fit each other, before its environments are built.

        Where there are weights already, the settings that do not fit them are told first: in `setup`.

        Raises:
            Mistake: With what would do.
        """
        if self.trained.path is not None or self.trained.begins_with is not None:
            return
        self.model.require_envs(self.datamodule.num_envs, in_halves=self.datamodule.double_buffer)
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, PopulationCallback):
                callback.require_population(self.model)
                callback.require_place(callbacks)


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

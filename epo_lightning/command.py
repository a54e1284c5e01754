"""`fit`, `validate` and `test` on LightningCLI.

The trainer's arguments are the ones that mean something here: one iteration is one epoch, evaluation is a command of its
own, the gradient is clipped by the module.
"""

import os
import shlex
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import DDPStrategy

from epo_lightning.arguments import option_values, run_name
from epo_lightning.checkpoint import CONFIG_KEY, AtomicCheckpointIO, RunCheckpoints, read_checkpoint
from epo_lightning.data import RolloutDataModule
from epo_lightning.evaluation_report import EvaluationReport
from epo_lightning.interruption import GracefulStop
from epo_lightning.loggers import MetricsTable
from epo_lightning.module import EPOModule
from epo_lightning.notices import silence
from epo_lightning.progress import IterationProgress
from epo_lightning.run_folder import RunFolder

_TRAINER_ARGUMENTS = {
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "max_epochs", "max_time",
    "enable_progress_bar", "deterministic", "benchmark", "profiler", "detect_anomaly",
}  # fmt: skip
_HELP = {
    "trainer.max_epochs": "Iterations to train; one iteration is one rollout of every environment.",
    "trainer.max_time": "Stop at the end of the iteration in which this time (DD:HH:MM:SS) is over.",
    "trainer.logger": "Loggers beside metrics.csv by class_path, e.g. TensorBoardLogger or WandbLogger; a relative"
    " save_dir lies in the run folder.",
}


class RunRecorder(SaveConfigCallback):
    """Writes `config.yaml`, puts the same into every checkpoint, and rewinds `metrics.csv` on resume."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Not yet: everything is checked before a file is written. All ranks learn the folder of the first."""
        trainer._default_root_dir = trainer.strategy.broadcast(trainer.default_root_dir)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Everything is built and restored."""
        assert isinstance(pl_module, EPOModule)
        dataset = pl_module.data.dataset
        assert dataset is not None
        if not trainer.is_global_zero:
            return
        folder = RunFolder(Path(trainer.default_root_dir))
        folder.create()
        temporary = folder.config.with_name(".config.yaml")
        temporary.write_text(self.as_yaml())
        os.replace(temporary, folder.config)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.rewind(dataset.env_steps)
        envs, ranks = pl_module.data.num_envs, trainer.world_size
        print(
            f"{pl_module.data.spec.name}: {ranks} rank(s) x {envs} envs = {ranks * envs} envs, {pl_module.num_agents}"
            f" agent(s), device {trainer.strategy.root_device.type}, run folder {folder.path}",
            flush=True,
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint alone is enough to go on."""
        checkpoint[CONFIG_KEY] = self.as_yaml()

    def as_yaml(self) -> str:
        """The resolved configuration, without what belongs to one invocation only."""
        config = self.config.clone()
        for key in ("config", "ckpt_path", "run_dir"):
            config.pop(key, None)
        return self.parser.dump(config, skip_none=False, skip_validation=True)


class Command(LightningCLI):
    """One invocation; constructing it runs it.

    Args:
        args: Command line after `arguments.resolve`.

    Attributes:
        exit_code: 0, or 128 + n when signal n stopped the training.
    """

    datamodule: RolloutDataModule
    model: EPOModule

    def __init__(self, args: list[str]) -> None:
        self.command_line = with_checkpoint_config(args)
        self.folder: RunFolder | None = None
        self.exit_code = 0
        quiet = {"exit_on_error": False}
        silence()
        try:
            super().__init__(
                EPOModule,
                RolloutDataModule,
                save_config_callback=RunRecorder,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_kwargs={**quiet, **{name: dict(quiet) for name in self.subcommands()}},
                args=self.command_line,
            )
        finally:
            if self.folder is not None:
                self.folder.remove_if_empty()

    # Arguments ------------------------------------------------------------------------------------------------------

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of the Trainer's methods that are not theirs."""
        skip = {"model", "datamodule", "weights_only", "verbose", "dataloaders", "train_dataloaders", "val_dataloaders"}
        return {name: skip for name in ("fit", "validate", "test")}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed."""
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of everything random (default: 0).")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The trainer's arguments that make sense, the module's and the datamodule's."""
        skip = set(L.Trainer.__init__.__annotations__) - _TRAINER_ARGUMENTS
        parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, fail_untyped=False, skip=skip)
        parser.set_defaults({"trainer.max_epochs": 1000})
        parser.add_lightning_class_args(EPOModule, "model")
        parser.add_lightning_class_args(RolloutDataModule, "data")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Checkpoints and the run folder."""
        parser.add_lightning_class_args(RunCheckpoints, "checkpoint")
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Run folder. fit: where the run goes (default: runs/<config>/<time>-seed<seed>, or with --ckpt_path the"
            " folder of that checkpoint). With --ckpt_path last or best: whose checkpoint.",
        )
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Without Lightning's warning about `sys.argv`."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """`with_checkpoint_config` has done it."""

    # Objects --------------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Decide on the run folder."""
        config = self.config[self.subcommand]
        checkpoint = Path(config.ckpt_path) if config.ckpt_path else None
        home = RunFolder.of_checkpoint(checkpoint) if checkpoint else None
        if self.subcommand != "fit":
            return
        if config.run_dir:
            self.folder = RunFolder(Path(config.run_dir))
            if self.folder.holds_run() and not self.folder.same_as(home):
                raise ValueError(
                    f"run_dir: {config.run_dir} already holds another run: choose another folder, or continue that run"
                    f" with --ckpt_path {config.run_dir}"
                )
            self.folder.create()
        elif home is not None:
            self.folder = home
        else:
            name = run_name(self.command_line) or config.data.env.class_path.rpartition(".")[2].lower()
            self.folder = RunFolder.new(name, config.seed_everything)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """What every run has."""
        config = self._get(self.config_init, "trainer")
        callbacks: list[L.Callback] = [GracefulStop(), EvaluationReport()]
        if config["enable_progress_bar"] is not False:
            callbacks.append(IterationProgress())
        if config["max_time"] is not None:
            callbacks.append(Timer(config["max_time"], interval="epoch"))
        self.trainer_defaults["callbacks"] = callbacks
        fixed: dict[str, Any] = {
            "max_time": None,
            "logger": False,
            "plugins": [AtomicCheckpointIO()],
            "limit_val_batches": 0 if self.subcommand == "fit" else None,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "inference_mode": False,
        }
        if self.folder is not None:
            fixed["default_root_dir"] = str(self.folder.path)
            fixed["logger"] = [MetricsTable(self.folder.metrics), *self._loggers(config["logger"])]
        trainer = super().instantiate_trainer(**fixed)
        if isinstance(trainer.strategy, DDPStrategy):
            # Buffers are equal on all ranks by construction; sending them before every minibatch costs more than DDP
            trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
        return trainer

    def _loggers(self, given: Any) -> list[Any]:
        if given is True:
            raise ValueError("trainer.logger: name loggers by class_path; metrics.csv is always written")
        return given if isinstance(given, list) else [given] if given else []

    # Commands -------------------------------------------------------------------------------------------------------

    def fit(self, **kwargs: Any) -> None:
        """Train, and say where the results are, however the training ends."""
        stop = next(callback for callback in self.trainer.callbacks if isinstance(callback, GracefulStop))
        try:
            self.trainer.fit(**kwargs)
        except SystemExit:  # how Lightning answers to the second Ctrl-C
            self.exit_code = 130
        finally:
            self._say_how_to_continue()
        if stop.signal and self.trainer.is_global_zero:
            self.exit_code = 128 + stop.signal

    def _say_how_to_continue(self) -> None:
        trainer = self.trainer
        saved = next(call for call in trainer.callbacks if isinstance(call, RunCheckpoints)).saved_iteration
        if not trainer.is_global_zero:
            return
        assert self.folder is not None
        path = self.folder.path
        last = self.folder.last
        if saved is None:
            if trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs > 0:
                print(f"Nothing to do: the run has made its trainer.max_epochs {trainer.max_epochs} iterations")
            return
        more = f" --trainer.max_epochs {2 * saved}" if saved == trainer.max_epochs else ""
        best = f", {self.folder.best.name}" if self.folder.best.exists() else ""
        print(
            f"Results in {path}: config.yaml, metrics.csv, checkpoints {last.name} (iteration {saved}){best}\n"
            f"Continue:  python -m epo_lightning fit --ckpt_path {shlex.quote(str(last))}{more}\n"
            f"Evaluate:  python -m epo_lightning validate --ckpt_path {shlex.quote(str(last))}",
            flush=True,
        )

    def validate(self, **kwargs: Any) -> None:
        """Evaluate the master; `EvaluationReport` tells the result."""
        self.trainer.validate(verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """The same as `validate`."""
        self.trainer.test(verbose=False, **kwargs)


def with_checkpoint_config(args: list[str]) -> list[str]:
    """`args` with the configuration of the checkpoint that they name in front, so that they override it."""
    paths = option_values(args, "--ckpt_path")
    if not paths:
        return args
    config = read_checkpoint(Path(paths[-1][1]))[CONFIG_KEY]
    return [args[0], "--config", config, *args[1:]]

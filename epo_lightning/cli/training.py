"""`fit`, `validate` and `test` on LightningCLI.

The trainer's arguments are the ones that mean something here: one iteration is one epoch, evaluation is a command of
its own, the gradient is clipped by the module.
"""

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from epo_lightning import __version__
from epo_lightning.cli.arguments import RESUME, is_complete, option_values
from epo_lightning.cli.trainer import SHOWS, EPOTrainer
from epo_lightning.cli.trust.consent import TRUST, consented_config, signature_of
from epo_lightning.cli.trust.embedded_config import dump, parse
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import contents
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.checkpoint import AtomicCheckpointIO, RunCheckpoints, read_checkpoint
from epo_lightning.run.checkpoint_contents import require_sound
from epo_lightning.run.evaluation_report import EvaluationReport
from epo_lightning.run.folder import RUNS, RunFolder
from epo_lightning.run.interruption import GracefulStop, TimeLimit
from epo_lightning.run.metrics_table import MetricsTable
from epo_lightning.run.notices import silence
from epo_lightning.run.overrides import Change, find_changes, require_changeable
from epo_lightning.run.progress import IterationProgress
from epo_lightning.run.recorder import RunRecorder

_TRAINER_ARGUMENTS = {
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "max_epochs", "max_time",
    "enable_progress_bar", "deterministic", "benchmark", "profiler", "detect_anomaly",
}  # fmt: skip
_OF_ONE_INVOCATION = ("config", "base", "ckpt_path", "run_dir", "trust", "resume")


class Command(LightningCLI):
    """One invocation; constructing it runs it.

    Args:
        args: Command line after `arguments.resolve`.
        name: What a new run is called; None: after its task.

    Attributes:
        exit_code: 0, or 128 + n when signal n stopped the training.
    """

    def __init__(self, args: list[str], name: str | None = None) -> None:
        self.name = name
        self.trained = _read_trained(args)
        self.changes: list[Change] = []
        # the checkpoint's configuration comes first, so that what else is given overrides it
        self.command_line = [args[0], *(("--config", self.trained.used) if self.trained.used else ()), *args[1:]]
        self.folder: RunFolder | None = None
        self.exit_code = 0
        self.stop = GracefulStop()
        self._is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        silence()
        kwargs = {"exit_on_error": False, "dump_header": [f"epo-lightning {__version__}"]}
        try:
            super().__init__(
                EPOModule,
                RolloutDataModule,
                trainer_class=EPOTrainer,
                save_config_callback=None,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_kwargs={
                    **kwargs,
                    "prog": "epo-lightning",
                    "description": "Evolutionary Policy Optimization. `doctor` tells what of this machine can be used.",
                    **{name: dict(kwargs) for name in self.subcommands()},
                },
                args=self.command_line,
            )
        finally:
            if self.folder is not None:
                self.folder.release()

    # Arguments ------------------------------------------------------------------------------------------------------

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of the Trainer's methods that are not theirs."""
        skip = {"model", "datamodule", "weights_only", "verbose", "dataloaders", "train_dataloaders", "val_dataloaders"}
        return {name: skip for name in ("fit", "validate", "test", *SHOWS)}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Without `--config` of its own: it belongs to the commands."""
        return LightningArgumentParser(**kwargs)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where the settings come from, where the results go, and the seed."""
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
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of everything random.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The trainer's arguments that make sense, the module's, the datamodule's and the checkpoints'."""
        skip = set(L.Trainer.__init__.__annotations__) - _TRAINER_ARGUMENTS
        parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, fail_untyped=False, skip=skip)
        parser.set_defaults({"trainer.max_epochs": 1000})
        parser.add_lightning_class_args(EPOModule, "model")
        parser.add_lightning_class_args(RolloutDataModule, "data")
        parser.add_lightning_class_args(RunCheckpoints, "checkpoint")
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Without Lightning's warning about `sys.argv`."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        require_range("seed_everything", config.seed_everything, 0, 2**32 - 1)
        if config.trust and TRUST not in args:
            raise Mistake(f"trust is for the command line only: leave it out of configuration files, and add {TRUST}")
        if config.ckpt_path not in (None, self.trained.path):
            raise Mistake(
                f"ckpt_path is not for configuration files: give --ckpt_path {config.ckpt_path} on the command line"
            )
        config.ckpt_path = self.trained.path

    def _parse_ckpt_path(self) -> None:
        """`parse_arguments` has done it."""

    # Objects --------------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Keep the configuration as the user means it; then decide on the run folder."""
        config: Namespace = self.config[self.subcommand]
        kept = config.clone()
        for key in _OF_ONE_INVOCATION:
            kept.pop(key, None)
        self.resolved = self._parser(self.subcommand).dump(kept, skip_unset=False, skip_validation=True)
        self.signature = signature_of(self.resolved) if self.subcommand == "fit" and self._is_first_rank else None
        if config.resume and RESUME not in self.command_line:
            raise Mistake(f"resume: give it on the command line, as {RESUME}")
        if self.subcommand == "fit":
            if self.trained.config is not None:
                self.changes = find_changes(self.trained.config, yaml.safe_load(self.resolved))
                require_changeable(self.changes)
            self.folder = self._choose_folder(config)
            if self._is_first_rank:
                self.folder.claim()
            for logger in _as_list(config.trainer.logger):
                if "save_dir" in logger.get("init_args", {}):
                    logger.init_args.save_dir = str(self.folder.path / (logger.init_args.save_dir or ""))

    def _choose_folder(self, config: Namespace) -> RunFolder:
        """Of the checkpoint, of `--run_dir`, or a new one."""
        home = RunFolder.of_checkpoint(Path(config.ckpt_path)) if config.ckpt_path else None
        if config.run_dir:
            folder = RunFolder(Path(config.run_dir))
            if folder.holds_run() and not (folder.same_as(home) or config.resume) and self._is_first_rank:
                saved = folder.last.exists()
                remedy = (
                    f"continue that run with --ckpt_path {config.run_dir}" if saved else f"begin it anew by {RESUME}"
                )
                raise Mistake(
                    f"run_dir: {config.run_dir} already holds {'another run' if saved else 'a run that never saved'}:"
                    f" choose another folder, or {remedy}"
                )
            return folder
        if home is not None:
            return home
        if not self._is_first_rank:
            return RunFolder(RUNS)  # learns the name from rank 0 in RunRecorder
        name = self.name or config.data.env.class_path.rpartition(".")[2].lower()
        return RunFolder.new(name, config.seed_everything)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """What every run has, beside what its configuration says."""
        config = self._get(self.config_init, "trainer")
        env = self._get(self.config, "data.env").as_dict()
        recorder = RunRecorder(self.resolved, self.signature, self.changes)
        callbacks: list[L.Callback] = [self.stop, EvaluationReport(env), recorder]
        if config["enable_progress_bar"] is not False:
            callbacks.append(IterationProgress())
        if config["max_time"] is not None:
            callbacks.append(TimeLimit(config["max_time"], interval="epoch"))
        self.trainer_defaults["callbacks"] = callbacks
        fixed: dict[str, Any] = {
            "max_time": None,
            "logger": False,
            "plugins": [AtomicCheckpointIO()],
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "inference_mode": False,
        }
        if self.folder is not None:
            fixed["default_root_dir"] = str(self.folder.path)
            fixed["logger"] = [MetricsTable(self.folder.metrics), *_as_list(config["logger"])]
            fixed["limit_val_batches"] = 0  # evaluation is a command of its own
        if self.subcommand in SHOWS:
            fixed |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        try:
            trainer = super().instantiate_trainer(**fixed)
        except ValueError as error:  # e.g. an unknown strategy
            raise Mistake(f"trainer: {error}") from error
        except RuntimeError as error:
            if "more than one stateful callback" not in str(error):
                raise
            raise Mistake(
                "trainer.callbacks: two are of one class, and a checkpoint has room for the state of one; `callbacks+`"
                " in a file adds to those of the files and the checkpoint before it"
            ) from error
        if isinstance(trainer.strategy, DDPStrategy):
            # Buffers are equal on all ranks by construction: no need to send them before every minibatch
            trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
        return trainer

    # Commands -------------------------------------------------------------------------------------------------------

    def fit(self, **kwargs: Any) -> None:
        """Train, and say where the results are, however the training ends."""
        wanted, done = self.trainer.max_epochs, self.trained.iterations
        if wanted not in (None, -1) and wanted < done and RESUME not in self.command_line:
            raise Mistake(
                f"trainer.max_epochs: the run has made {done} iterations, and {wanted} were asked for; to go on give"
                f" more than {done}"
            )
        try:
            self._run(self.trainer.fit, **kwargs)
        except (ValueError, OSError):
            if self.trainer.strategy.launcher is not None:  # the other ranks would wait for this one
                self.trainer.strategy.launcher.kill(signal.SIGKILL)
            raise
        finally:
            if self.trainer.is_global_zero:
                self._say_how_to_continue()
        if self.stop.signal and self.trainer.is_global_zero:  # Lightning kills all ranks when another one fails
            self.exit_code = 128 + self.stop.signal

    def _say_how_to_continue(self) -> None:
        assert self.folder is not None
        done, wanted = self.trainer.current_epoch, self.trainer.max_epochs
        checkpoints = self.trainer.checkpoint_callbacks
        saved = next(each for each in checkpoints if isinstance(each, RunCheckpoints)).saved_iteration
        if saved is None or not self.folder.last.exists():
            if wanted not in (None, -1) and done >= wanted:
                print(f"Nothing to do: the run has made its {done} iterations; raise --trainer.max_epochs to go on")
            return
        last = shlex.quote(str(self.folder.last))
        more = f" --trainer.max_epochs {2 * saved}" if saved == wanted else ""
        print(
            f"Results in {self.folder.path}: {', '.join(self.folder.contents())} ({self.folder.last.name} is of"
            f" iteration {saved})\n"
            f"Continue:  python -m epo_lightning fit --ckpt_path {last}{more}\n"
            f"Evaluate:  python -m epo_lightning validate --ckpt_path {last}",
            flush=True,
        )

    def validate(self, **kwargs: Any) -> None:
        """Evaluate the master; `EvaluationReport` tells the result."""
        self._run(self.trainer.validate, verbose=False, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """The same by protocol: in the environments of `data.eval_seeds`, alike for every run."""
        self._run(self.trainer.test, verbose=False, **kwargs)

    def _run(self, command: Callable[..., Any], **kwargs: Any) -> None:
        try:
            command(**kwargs)
        except SystemExit:  # how Lightning answers to Ctrl-C; while training only the second one comes so far
            self.exit_code = 130


def _as_list(loggers: Any) -> list[Any]:
    """The loggers beside `metrics.csv`."""
    if loggers is True:
        raise Mistake("trainer.logger: name loggers by class_path; metrics.csv is always written")
    return loggers if isinstance(loggers, list) else [loggers] if loggers else []


class _Trained(NamedTuple):
    """The checkpoint that a command line names.

    Attributes:
        path: Its file; None without one.
        config: The configuration in it.
        used: What of that comes before the command line's own, as text for `--config`; None for nothing.
        iterations: How many have been made.
    """

    path: str | None = None
    config: dict[str, Any] | None = None
    used: str | None = None
    iterations: int = 0


def _read_trained(args: list[str]) -> _Trained:
    named = option_values(args, "--ckpt_path")
    if not named:
        return _Trained()
    path = named[-1][1]
    checkpoint = read_checkpoint(Path(path))
    used = None
    if is_complete(args):  # the same command that began the run: `callbacks+` would add once more
        require_sound(checkpoint, {})
    else:
        config = consented_config(checkpoint, Path(path), args)
        require_sound(checkpoint, config)
        used = dump(config)
    return _Trained(path, parse(checkpoint[contents.CONFIG], limited=False), used, checkpoint.get("epoch", -1) + 1)

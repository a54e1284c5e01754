"""Videos of the population while it learns."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng

from epo_lightning.callbacks.reach import tell_if_out_of_reach
from epo_lightning.callbacks.run_files import run_file
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.run.every import Every
from epo_lightning.run.metrics_table import MetricsTable
from epo_lightning.show.handing_over import hand_over
from epo_lightning.show.playback import Playback
from epo_lightning.show.video import compose, record, require_encoder

_KEY = "trainer.callbacks VideoRecorder"
_FEW = 3


class VideoRecorder(PopulationCallback):
    """Films mean actions of some agents every so many env steps, as `videos/<env steps>.mp4` in the run folder.

    The agents play in environments of their own, made anew for every video with the same seed, as difficult as the
    training's are by then: the training itself goes on as it would without. Loggers that take films get each (W&B,
    Comet, MLflow; TensorBoard as a moving picture); of the others one line says that they do not. Needs the extra
    `video`.

    Args:
        every_n_env_steps: Env steps between two videos.
        agents: Numbers of the agents, 0 for the master; null for the one that is evaluated and the first two others.
        seconds: Length of a video, in the task's own time.
        width: Pixels of one environment's picture.
        height: Pixels of one environment's picture, without its caption.
    """

    def __init__(
        self,
        every_n_env_steps: int = 20_000_000,
        agents: list[int] | None = None,
        seconds: float = 10.0,
        width: int = 320,
        height: int = 240,
    ) -> None:
        require_range(f"{_KEY}.every_n_env_steps", every_n_env_steps, 1)
        require_range(f"{_KEY}.seconds", seconds, 0, open_low=True)
        if agents is not None and not agents:
            raise Mistake(f"{_KEY}.agents must name an agent, or be null")
        self.clock, self.agents, self.seconds = Every(every_n_env_steps), agents, seconds
        self.width, self.height = width, height
        self._without: set[str] = set()

    def require_population(self, module: PopulationModule) -> None:
        """Refuse agents that do not exist."""
        last = module.num_agents - 1
        if self.agents is not None:
            require_range(f"{_KEY}.agents", min(self.agents), 0)
            require_range(f"{_KEY}.agents (of model.num_agents {last + 1})", max(self.agents), high=last)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a machine that cannot draw: now, and not after hours."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero:
            require_encoder()
            with isolate_rng():
                trial = self._playback(trainer, ["zero"], None)
                try:
                    compose(trial, self.width, self.height)
                finally:
                    trial.env.close()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell where the run is over before the first film."""
        tell_if_out_of_reach(trainer, self.module, f"{_KEY}.every_n_env_steps", self.clock.env_steps)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Film what the last iteration has led to, when it is time; here no clock of an iteration runs."""
        env_steps = self.module.env_steps
        if not self.clock.is_due(env_steps):
            return
        self.clock.restart(env_steps)
        if trainer.is_global_zero:
            path = run_file(trainer, "videos", f"{env_steps}.mp4")
            with isolate_rng():
                self._film(trainer, path)
            for logger in trainer.loggers:
                if not isinstance(logger, MetricsTable):
                    self._hand_over(logger, path, env_steps)

    on_train_end = on_train_epoch_start

    def _film(self, trainer: L.Trainer, path: Path) -> None:
        playback = self._playback(trainer, self._filmed(), self.module.policy)
        try:
            record(playback, path, self.seconds, self.width, self.height)
        finally:
            playback.env.close()

    def _hand_over(self, logger: Logger, film: Path, env_steps: int) -> None:
        """A logger that takes no films is named once, and so is one whose service fails: the training goes on."""
        name, why = type(logger).__name__, "it takes no films"
        try:
            if hand_over(logger, "videos/agents", film, env_steps):
                return
        except Exception as error:  # services raise whatever they like
            why = " ".join(str(error).split()) or type(error).__name__
        if name not in self._without:
            self._without.add(name)
            print(f"notice: trainer.logger {name} did not get the film: {why}; it is {film}", file=sys.stderr)

    def _filmed(self) -> list[int]:
        """Numbers of the agents, now: the champion may be another one each time."""
        if self.agents is not None:
            return self.agents
        champion = self.module.champion
        return [champion, *(agent for agent in range(self.module.num_agents) if agent != champion)][:_FEW]

    def _playback(self, trainer: L.Trainer, actors: Sequence[int | str], policy: Policy | None) -> Playback:
        """`actors` in environments of their own; there is no network yet when the training is set up."""
        data = self.module.data
        assert data.env is not None
        env = data.env_factory(len(actors), trainer.strategy.root_device, data.seed)
        env.set_curriculum(data.env.curriculum())
        return Playback(env, actors, policy, data.seed)

    def state_dict(self) -> dict[str, Any]:
        """The clock."""
        return self.clock.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.clock.load_state_dict(state_dict)

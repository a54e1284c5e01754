"""The LightningDataModule: builds and owns the environments, to train in and to evaluate in.

Shape legend: N environments of this rank.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import lightning as L
import torch
from torch.utils.data import IterableDataset

from epo_lightning.envs.base import EnvSpec, VectorEnv
from epo_lightning.envs.contract import check_spec
from epo_lightning.envs.halves import in_halves
from epo_lightning.experience.evaluation import fixed_difficulty
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.experience.world import World
from epo_lightning.limits import Mistake, require_range


class LoaderSource(Protocol):
    """Who makes the streams that this datamodule hands to Lightning: the module, from the environments."""

    def train_dataloader(self) -> IterableDataset[Any]:
        """One pass of it is one iteration."""

    def val_dataloader(self) -> IterableDataset[Any]:
        """Episodes in environments of the run's seed."""

    def test_dataloader(self) -> IterableDataset[Any]:
        """Episodes in environments of the evaluation's seeds."""


class RolloutDataModule(L.LightningDataModule):
    """Owns the environments; the module makes its experience of them.

    Args:
        env: The task, by `class_path` and `init_args`: a subclass of `epo_lightning.envs.base.VectorEnv`.
        num_envs: N, environments on every rank; a multiple of `model.num_agents`.
        eval_episodes: Complete episodes that `validate` plays, and `test` plays per seed, over all ranks.
        eval_envs: Environments of an evaluation, on every rank; each plays the same number of episodes.
        eval_seeds: Seeds 0, 1, ... of the environments in which `test` plays, whatever the seed of the training.
        eval_difficulty: What the task's curriculum is held at while it is evaluated, such as {tolerance: 0.01};
            by default where the training has brought it.
        double_buffer: Step one half of the environments of a training while the other half's actions are inferred, for
            a GPU that learns from physics on the CPU; each half has a curriculum and random numbers of its own.
        seed: Seed of environments, action noise and shuffles; every rank draws its own streams from it. The command
            line sets it to `seed_everything`.

    Attributes:
        before_setup: Called first in `setup`, when the ranks can talk to each other and nothing is built yet.
    """

    def __init__(
        self,
        env: Callable[[int, torch.device, int], VectorEnv],
        num_envs: int = 4096,
        eval_episodes: int = 128,
        eval_envs: int = 64,
        eval_seeds: int = 5,
        eval_difficulty: dict[str, float] | None = None,
        double_buffer: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_range("data.num_envs", num_envs, 1)
        require_range("data.eval_episodes", eval_episodes, 1)
        require_range("data.eval_envs", eval_envs, 1)
        require_range("data.eval_seeds", eval_seeds, 1)
        self.env_factory = env
        self.num_envs = num_envs
        self.eval_episodes = eval_episodes
        self.eval_envs = eval_envs
        self.eval_seeds = range(eval_seeds)
        self.eval_difficulty = eval_difficulty or {}
        self.double_buffer = double_buffer
        self.seed = seed
        self.env: VectorEnv | None = None
        self.eval_env: VectorEnv | None = None
        self.difficulty: dict[str, float] = {}
        self.source: LoaderSource | None = None
        self._unused: tuple[int, int] | None = None
        self.before_setup: Callable[[], None] = lambda: None

    @property
    def spec(self) -> EnvSpec:
        """Of whichever environment this stage has built."""
        env = self.env or self.eval_env
        assert env is not None, "setup() has not run"
        return env.spec

    def setup(self, stage: str) -> None:
        """Build the environments that `stage` needs, on this rank's device."""
        self.before_setup()
        if stage == "fit" and self.env is None:
            seed = self._stream_seed(Stream.ENVIRONMENTS)
            if self.double_buffer:
                seeds = derive_seed(seed, 0), derive_seed(seed, 1)
                self.env = in_halves(self._build, self.num_envs, seeds)
            else:
                self.env = self._build(self.num_envs, seed)
        elif stage != "fit":
            seed = self.seed if stage == "validate" else self.eval_seeds[0]
            self._build_eval_env(seed, self.eval_envs)  # tells the task's sizes

    def teardown(self, stage: str) -> None:
        """Free what `setup` built."""
        if stage == "fit":
            return  # the environments stay readable after training: notebooks read them
        if self.eval_env is not None:
            self.eval_env.close()
            self.eval_env = None

    def train_dataloader(self) -> IterableDataset[Any]:
        """The module's stream of experience."""
        return self._source().train_dataloader()

    def val_dataloader(self) -> IterableDataset[Any]:
        """The module's evaluation in environments of the run's seed."""
        return self._source().val_dataloader()

    def test_dataloader(self) -> IterableDataset[Any]:
        """The module's evaluation in environments of the evaluation's seeds."""
        return self._source().test_dataloader()

    def _source(self) -> LoaderSource:
        assert self.source is not None, "the module has not been set up"
        return self.source

    def world(self) -> World:
        """The environments of the training, for the algorithm that learns from them."""
        assert self.env is not None, "setup() has not run"
        assert self.trainer is not None
        return World(
            self.env,
            self._device(),
            self.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.trainer.precision_plugin.forward_context,
            self._build,
        )

    def evaluation_share(self, agents: int) -> tuple[int, int]:
        """What each of so many agents that are evaluated at the same time plays in, on every rank.

        It is `eval_envs` as long as all of them have no more environments than the training; else an equal share of so
        many, in which more episodes are played one after another.

        Returns:
            Environments of an agent, and complete episodes of each.
        """
        assert self.trainer is not None
        envs = self.eval_envs if agents == 1 else max(1, min(self.eval_envs, self.num_envs // agents))
        return envs, -(-self.eval_episodes // (envs * self.trainer.world_size))

    def evaluation_env(self, seed: int, reached: Mapping[str, float], num_envs: int) -> VectorEnv:
        """Environments of `seed` in which no step has been taken yet, at the difficulty of the evaluation.

        Args:
            seed: Of the environments.
            reached: The difficulty that the training has come to; nothing where there was none.
            num_envs: How many.
        """
        known = self.eval_env if (seed, num_envs) == self._unused else None
        env = known or self._build_eval_env(seed, num_envs)
        self._unused = None
        self.difficulty = fixed_difficulty(env, reached, self.eval_difficulty)
        return env

    def noise_seed(self, seed: int) -> int:
        """Of this rank's drawn actions in environments of `seed`."""
        return self._stream_seed(Stream.NOISE, seed)

    def _build_eval_env(self, seed: int, num_envs: int) -> VectorEnv:
        if self.eval_env is not None:
            self.eval_env.close()
        self.eval_env = self._build(num_envs, self._stream_seed(Stream.EVALUATION, seed))
        self._unused = seed, num_envs
        return self.eval_env

    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def _build(self, num_envs: int, seed: int) -> VectorEnv:
        env = self.env_factory(num_envs, self._device(), seed)
        if check_spec(env).num_envs != num_envs:
            raise Mistake(f"data.env: {env.spec.name}.spec.num_envs must be {num_envs}, got {env.spec.num_envs}")
        return env

    def _stream_seed(self, stream: Stream, seed: int | None = None) -> int:
        """The seed of this rank's `stream`; from `seed`, by default the run's."""
        assert self.trainer is not None
        return derive_seed(self.seed if seed is None else seed, self.trainer.global_rank, stream)

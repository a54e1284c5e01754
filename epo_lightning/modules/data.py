"""The LightningDataModule: builds and owns the environments, and everything of them that a resumed run needs.

Shape legend: N environments of this rank, T horizon.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import IterableDataset

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, VectorEnv
from epo_lightning.envs.contract import check_spec
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.estimate import estimate_iteration, is_large
from epo_lightning.experience.evaluation import Episodes, EvaluationDataset, fixed_difficulty
from epo_lightning.experience.rollout import RolloutDataset, rollout_shape
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.idle_settings import idle_settings
from epo_lightning.modules.streams import Stream, derive_seed


class RolloutDataModule(L.LightningDataModule):
    """Environments in, minibatches out.

    Args:
        env: The task, by `class_path` and `init_args`: a subclass of `epo_lightning.envs.base.VectorEnv`.
        num_envs: N, environments on every rank; a multiple of `model.num_agents`.
        rollout: How data is collected and used.
        eval_episodes: Complete episodes that `validate` plays, and `test` plays per seed, over all ranks.
        eval_envs: Environments of an evaluation, on every rank; each plays the same number of episodes.
        eval_seeds: Seeds 0, 1, ... of the environments in which `test` plays, whatever the seed of the training.
        eval_difficulty: What the task's curriculum is held at while it is evaluated, such as {tolerance: 0.01};
            by default where the training has brought it.
        seed: Seed of environments, action noise and shuffles; every rank draws its own streams from it. The command
            line sets it to `seed_everything`.
    """

    def __init__(
        self,
        env: Callable[[int, torch.device, int], VectorEnv],
        num_envs: int = 4096,
        rollout: RolloutSettings = RolloutSettings(),  # noqa: B008  (frozen)
        eval_episodes: int = 128,
        eval_envs: int = 64,
        eval_seeds: int = 5,
        eval_difficulty: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_range("data.num_envs", num_envs, 1)
        require_range("data.eval_episodes", eval_episodes, 1)
        require_range("data.eval_envs", eval_envs, 1)
        require_range("data.eval_seeds", eval_seeds, 1)
        self.env_factory = env
        self.num_envs = num_envs
        self.rollout = rollout
        self.eval_episodes = eval_episodes
        self.eval_envs = eval_envs
        self.eval_seeds = range(eval_seeds)
        self.eval_difficulty = eval_difficulty or {}
        self.seed = seed
        self.env: VectorEnv | None = None
        self.eval_env: VectorEnv | None = None
        self.difficulty: dict[str, float] = {}
        self._unused_seed: int | None = None
        self.dataset: RolloutDataset | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def spec(self) -> EnvSpec:
        """Of whichever environment this stage has built."""
        env = self.env or self.eval_env
        assert env is not None, "setup() has not run"
        return env.spec

    def setup(self, stage: str) -> None:
        """Build the environments that `stage` needs, on this rank's device."""
        if stage == "fit" and self.env is None:
            self.population = Population(self._trained_module().num_agents, self.num_envs)
            self.env = self._build(self.num_envs, self._stream_seed(Stream.ENVIRONMENTS))
        elif stage != "fit":
            self._build_eval_env(self.seed if stage == "validate" else self.eval_seeds[0])  # tells the task's sizes

    def teardown(self, stage: str) -> None:
        """Free what `setup` built."""
        if stage == "fit":
            return  # the dataset stays readable after training: notebooks look at it
        if self.eval_env is not None:
            self.eval_env.close()
            self.eval_env = None

    def train_dataloader(self) -> RolloutDataset:
        """The dataset itself: Lightning streams minibatches from it, one rollout per epoch."""
        assert self.env is not None
        assert self.trainer is not None
        module = self._trained_module()
        policy = module.policy
        shape = rollout_shape(self.env, policy.state_shape, self.population, self.rollout)
        rank_zero_info(
            f"Rollout memory: {RolloutBuffer.nbytes(shape) / 2**20:.0f} MiB per rank for {self.num_envs} envs x"
            f" {self.rollout.horizon} steps; {self.num_envs * self.trainer.world_size} envs on"
            f" {self.trainer.world_size} rank(s), {self.population.envs_per_agent} envs per agent and rank"
        )
        if idle := idle_settings(module.num_agents, self.rollout, module.loss_settings):
            rank_zero_info(idle)
        device = self._device()
        if device.type == "cpu" and is_large(policy, shape, self.rollout.num_epochs):
            self._warn_of_time(policy, shape)
        generator = torch.Generator(device).manual_seed(self._stream_seed(Stream.ROLLOUT))
        self.dataset = RolloutDataset(
            self.env,
            policy,
            self.population,
            self.rollout,
            generator,
            world_size=self.trainer.world_size,
            autocast=self.trainer.precision_plugin.forward_context,
        )
        if self._restored is not None:
            self.dataset.restore(self._restored)
            self._restored = None
        return self.dataset

    def _warn_of_time(self, policy: LatentActorCritic, shape: RolloutShape) -> None:
        estimate = estimate_iteration(
            lambda n: self._build(n, self._stream_seed(Stream.ESTIMATE)), policy, shape, self.rollout.num_epochs
        )
        rank_zero_warn(
            f"this run is made for a GPU: on this CPU an iteration will take about {estimate.total:.0f} s"
            f" ({estimate.env:.0f} s environments, {estimate.network:.0f} s network); for a run that a CPU can make add"
            " the overlay --config laptop"
        )

    def val_dataloader(self) -> IterableDataset[Episodes]:
        """One batch: complete episodes of the master in environments of the run's seed."""
        return self._episodes([self.seed])

    def test_dataloader(self) -> IterableDataset[Episodes]:
        """One batch per evaluation seed: the same episodes for every run."""
        return self._episodes(self.eval_seeds)

    def _episodes(self, seeds: Sequence[int]) -> EvaluationDataset:
        assert self.trainer is not None
        per_env = -(-self.eval_episodes // (self.eval_envs * self.trainer.world_size))
        module = self._trained_module()
        return EvaluationDataset(self._fresh_eval_env, seeds, module.policy, module.champion, per_env)

    def _fresh_eval_env(self, seed: int) -> VectorEnv:
        """Environments of `seed` in which nobody has acted yet, at the difficulty of the evaluation."""
        env = self.eval_env if seed == self._unused_seed and self.eval_env else self._build_eval_env(seed)
        self._unused_seed = None
        reached = self.env.curriculum() if self.env is not None else (self._restored or {}).get("curriculum", {})
        self.difficulty = fixed_difficulty(env, reached, self.eval_difficulty)
        return env

    def _build_eval_env(self, seed: int) -> VectorEnv:
        if self.eval_env is not None:
            self.eval_env.close()
        self.eval_env = self._build(self.eval_envs, self._stream_seed(Stream.EVALUATION, seed))
        self._unused_seed = seed
        return self.eval_env

    def state_dict(self) -> dict[str, Any]:
        """The rollouts' state of every rank; a collective call when there are several."""
        if self.dataset is None:
            return {}
        assert self.env is not None
        local = {**self.dataset.saved(), "curriculum": self.env.curriculum(), "torch_rng": torch.get_rng_state()}
        local = cast(dict[str, Any], _to_cpu(local))
        if not (dist.is_available() and dist.is_initialized()):
            return {"ranks": [local]}
        ranks: list[dict[str, Any] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, local)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep `state_dict` for the dataset that the training builds next.

        Raises:
            Mistake: When another number of ranks, of environments per rank, or another kind of device wrote it.
        """
        assert self.trainer is not None
        if not state_dict:
            return
        ranks = state_dict["ranks"]
        if self.trainer.training:
            if len(ranks) != self.trainer.world_size:
                raise Mistake(
                    f"--ckpt_path was written by {len(ranks)} rank(s): resume it with --trainer.devices {len(ranks)},"
                    f" not {self.trainer.world_size}"
                )
            envs = ranks[0]["obs"].shape[0]
            if envs != self.num_envs:
                raise Mistake(f"--ckpt_path was trained with data.num_envs {envs}: set it so, not to {self.num_envs}")
            if len(ranks[0]["generator"]) != len(torch.Generator(self._device()).get_state()):
                raise Mistake(
                    f"--ckpt_path was not trained on a {self._device().type}, and random numbers go on only on the same"
                    " kind of device: choose it by --trainer.accelerator"
                )
            torch.set_rng_state(ranks[self.trainer.global_rank]["torch_rng"])
        self._restored = ranks[self.trainer.global_rank % len(ranks)]

    def _trained_module(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module

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


def _to_cpu(value: Any) -> Any:
    """`value` with every tensor in it copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_cpu(item) for item in value)
    return value

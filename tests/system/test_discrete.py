"""Tasks whose actions are choices, and simulators that cannot restore their episodes, from the rollout to the CLI."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from epo_lightning.algorithm.losses import LossSettings, hybrid_loss
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.check import check_env
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.show.playback import Playback
from tests.support.command_line import Rows

CHOICES = 3


class Bandit(VectorEnv):
    """Shows one of three lamps (one-hot); the choice of the next lamp in the row pays 1. Episodes of four steps."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, restores: bool = True) -> None:
        self.spec = EnvSpec("Bandit", num_envs, CHOICES, CHOICES, 4, discrete=True, restores=restores)
        self.generator = torch.Generator().manual_seed(seed)
        self.resets = 0
        self.lamp = self.clock = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> Tensor:
        self.resets += 1
        self.clock = torch.zeros_like(self.clock)
        return self._light()

    def _light(self) -> Tensor:
        self.lamp = torch.randint(CHOICES, self.lamp.shape, generator=self.generator)
        return torch.nn.functional.one_hot(self.lamp, CHOICES).float()

    def step(self, actions: Tensor) -> StepResult:
        assert actions.dtype == torch.int64
        assert actions.shape == self.lamp.shape
        reward = (actions == (self.lamp + 1) % CHOICES).float()
        done = self.clock == 3
        self.clock = torch.where(done, 0, self.clock + 1)
        return StepResult(self._light(), reward, done, torch.zeros_like(done), reward)

    def state_dict(self) -> dict[str, Any]:
        if not self.spec.restores:
            return {"task": "bandit"}
        state = {"lamp": self.lamp, "clock": self.clock, "generator": self.generator.get_state()}
        return {name: value.clone() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            raise ValueError("not a state of Bandit")
        if self.spec.restores:
            self.lamp, self.clock = state["lamp"].clone(), state["clock"].clone()
            self.generator.set_state(state["generator"])


def make_dataset(restores: bool = True, **network: Any) -> RolloutDataset:
    torch.manual_seed(0)
    env = Bandit(6, torch.device("cpu"), 0, restores)
    settings = NetworkSettings(gene_dim=2, hidden=(8,), **network)
    policy = LatentActorCritic(CHOICES, CHOICES, 3, settings, discrete=True)
    rollout = RolloutSettings(horizon=5, num_epochs=1, num_minibatches=1, off_policy_ratio=2.0)
    return RolloutDataset(World(env), policy, Population(3, 6), rollout)


@pytest.mark.parametrize("restores", [True, False])
def test_the_checker_knows_choices(restores: bool) -> None:
    check_env(Bandit(5, torch.device("cpu"), 0, restores))


@pytest.mark.parametrize("network", [{}, {"lstm_units": 4}])
def test_what_a_rollout_stores_of_choices(network: dict[str, Any]) -> None:
    dataset = make_dataset(**network)
    dataset.collect()
    (batch,) = dataset.one_pass()
    output = dataset.policy(batch.obs, dataset.policy.express(batch.agent_ids), batch.states, batch.resets)
    expected = Categorical(logits=output.actions.logits).log_prob(batch.actions.squeeze(-1))
    # before the first update r = 1 on-policy and mu off-policy
    torch.testing.assert_close(expected, batch.log_probs + batch.log_mu, atol=1e-5, rtol=1e-5)
    assert (batch.log_mu[..., ~batch.off_policy] == 0).all()
    assert batch.log_mu[..., batch.off_policy].abs().max() > 0.01
    assert set(batch.actions.unique().tolist()) == {0.0, 1.0, 2.0}
    assert batch.off_policy.any()


def test_every_trained_parameter_gets_a_gradient() -> None:
    # what DistributedDataParallel waits for: there is no log-std to train
    dataset = make_dataset()
    dataset.collect()
    (batch,) = dataset.one_pass()
    output = dataset.policy(batch.obs, dataset.policy.express(batch.agent_ids), batch.states)
    coefficients = torch.zeros(len(batch.agent_ids))
    hybrid_loss(output.actions, output.value, batch, LossSettings(), coefficients).total.backward()
    trained = {name for name, parameter in dataset.policy.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in dataset.policy.named_parameters() if parameter.grad is not None}
    assert "log_std" not in trained


def test_random_zero_and_learnt_choices_side_by_side() -> None:
    env = Bandit(3, torch.device("cpu"), 0)
    policy = make_dataset().policy
    playback = Playback(env, [0, "random", "zero"], policy)
    given: list[Tensor] = []
    step = env.step

    def step_and_note(actions: Tensor) -> StepResult:
        given.append(actions.clone())
        return step(actions)

    env.step = step_and_note  # type: ignore[method-assign]
    for _ in range(60):
        playback.step()
    actions = torch.stack(given)
    assert actions.dtype == torch.int64
    assert set(actions[:, 1].tolist()) == {0, 1, 2}
    assert set(actions[:, 2].tolist()) == {0}


class TestResumeWithoutRestoring:
    def test_new_episodes_begin_and_the_old_ones_do_not_count(self) -> None:
        first = make_dataset(restores=False)
        first.collect()
        assert first.ledger.running[1].tolist() == [1.0] * 6  # five steps, episodes of four
        saved = first.saved()
        second = make_dataset(restores=False)
        second.restore(saved)
        assert second.env.resets == 0  # type: ignore[attr-defined]
        second.collect()
        assert second.env.resets == 1  # type: ignore[attr-defined]
        assert second.env_steps == 60
        assert second.episodes is not None
        lengths = second.episodes.totals[:, 1][second.episodes.ended]
        assert lengths.tolist() == [4.0] * 6

    def test_a_restored_environment_is_not_reset(self) -> None:
        first = make_dataset()
        first.collect()
        second = make_dataset()
        second.restore(first.saved())
        second.collect()
        assert second.env.resets == 0  # type: ignore[attr-defined]


CONFIG = f"""
model: {{num_agents: 4, network: {{gene_dim: 3, hidden: [16]}}, optimizer: {{learning_rate: 0.003}},
        rollout: {{horizon: 8, num_epochs: 2, num_minibatches: 2}}}}
data:
  env: {{class_path: {__name__}.Bandit}}
  num_envs: 64
  eval_episodes: 64
  eval_envs: 16
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 60
  callbacks:
    - class_path: epo_lightning.callbacks.ElitePreservation
      init_args: {{every_n_env_steps: 2000, archive_size: 2}}
    - class_path: epo_lightning.callbacks.GeneticEvolution
      init_args: {{every_n_env_steps: 4000, warmup_env_steps: 0, spread_threshold: 0.0, num_elites: 1}}
    - class_path: epo_lightning.callbacks.NaNGuard
"""


class TestTraining:
    def test_choices_are_learnt_with_evolution(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        (tmp_path / "bandit.yaml").write_text(CONFIG)
        assert cli("fit", "--config", "bandit.yaml", "--run_dir", "run").code == 0
        assert (tmp_path / "run" / "lineage.jsonl").read_text().count("\n") > 3  # generations happened
        outcome = cli("validate", "--ckpt_path", "run")
        assert outcome.code == 0
        # four steps of which a learner of nothing gets a third right
        policy_return = float(outcome.out.split("return")[1].split()[0])
        assert policy_return > 3.5, outcome.out

    @pytest.mark.parametrize("restores", [True, False])
    def test_resume(self, restores: bool, cli: Callable[..., Any], rows: Rows, tmp_path: Path) -> None:
        (tmp_path / "bandit.yaml").write_text(CONFIG)
        common = ("--config", "bandit.yaml", f"--data.env.init_args.restores={restores}")
        assert cli("fit", *common, "--run_dir", "whole", "--trainer.max_epochs", "6").code == 0
        assert cli("fit", *common, "--run_dir", "parts", "--trainer.max_epochs", "3").code == 0
        assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", "6").code == 0
        whole, parts = (read_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("whole", "parts"))
        same = all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
        assert same == restores
        assert rows(tmp_path / "whole")[-1]["charts/env_steps"] == rows(tmp_path / "parts")[-1]["charts/env_steps"]

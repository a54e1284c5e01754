"""K policies in one training are K trainings of one policy each.

Shape legend: K agents, n environments of each, N = K n, T steps.
"""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.optimizer import OptimizerSettings
from epo_lightning.modules.pbt import PBTModule
from tests.support.plain_ppo import PlainNetwork, PlainPPO, Recorded
from tests.support.training import fit, small_data, train

K, N, T, ITERATIONS = 4, 16, 6, 3
HYPER = {
    "learning_rate": [1e-3, 3e-3, 5e-4, 2e-3],
    "clip": [0.1, 0.2, 0.05, 0.3],
    "entropy": [0.0, 0.01, 0.02, 0.0],
    "gamma": [0.9, 0.99, 0.5, 0.95],
    "target_kl": [0.016, float("nan"), 1e-12, 1.0],  # adapts; constant; always falls; always rises
    "max_grad_norm": [1.0, 0.05, 10.0, 0.5],
    "num_epochs": [2.0, 4.0, 1.0, 3.0],
    "critic": [2.0, 4.0, 1.0, 0.5],
    "bounds": [1e-4, 0.0, 1e-2, 1e-3],
}


class Recording(Probe):
    """Episodes of four steps that a time limit ends; keeps everything that it returned."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed, max_steps=4, ending="truncated")
        self.obs, self.results = torch.empty(0), list[StepResult]()

    def reset(self) -> Tensor:
        self.obs = super().reset()
        return self.obs

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)

        self.results.append(result._replace(obs=result.obs.clone()))
        return result


class Choosing(Recording):
    """The same task with three choices: action -1, 0 or 1 in both entries."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed)
        self.spec = EnvSpec("Choosing", num_envs, obs_dim=2, act_dim=3, max_episode_steps=4, discrete=True)

    def step(self, actions: Tensor) -> StepResult:
        return super().step((actions.float() - 1)[:, None].expand(-1, 2))


class Watch(L.Callback):
    """Gives every agent its own hyper-parameters, and keeps what each of them meets."""

    def __init__(self, hyper: dict[str, list[float]]) -> None:
        self.hyper = hyper
        self.begin: dict[str, Tensor] = {}
        self.met: list[list[Recorded]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        everybody = torch.arange(pl_module.num_agents)
        values = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.hyper.items()}
        pl_module.hyper_parameters.write(everybody, values)
        self.begin = {name: value.clone() for name, value in pl_module.policy.state_dict().items()}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, PBTModule)
        env, dataset = pl_module.data.env, pl_module.dataset
        assert isinstance(env, Recording)
        results, env.results = env.results, []
        obs = torch.stack([env.obs, *(result.obs for result in results)])
        env.obs = obs[-1]
        fields = [
            torch.stack(list(each))
            for each in zip(*((r.reward, r.terminated, r.truncated) for r in results), strict=True)
        ]
        finals = torch.stack([r.obs if r.final_obs is None else r.final_obs for r in results])
        finals = torch.where(fields[2][..., None], finals, 0.0)
        met, block = [], N // K
        for k in range(K):
            own = slice(k * block, (k + 1) * block)
            passes = self.passes_of(pl_module, k)
            buffer = dataset.buffer
            met.append(
                Recorded(
                    obs[:, own], buffer.actions[:, own].clone(), buffer.log_probs[:, own].clone(),
                    *(field[:, own] for field in fields), finals[:, own], passes,
                )
            )  # fmt: skip
        self.met.append(met)

    def passes_of(self, module: PBTModule, k: int) -> list[list[tuple[Tensor, Tensor]]]:
        """(step, environment of the agent's own) of its samples, by pass and minibatch."""
        dataset, count, block = module.dataset, module.dataset.num_minibatches, N // K
        passes, place = [], 0
        for epoch in range(int(max(self.hyper["num_epochs"]))):
            learn = [agent for agent, number in enumerate(self.hyper["num_epochs"]) if number > epoch]
            minibatches = dataset._passes[place : place + count]
            place += count
            if k not in learn:
                continue
            units = [minibatch[learn.index(k)] for minibatch in minibatches]
            if dataset.buffer.recurrent:
                steps = torch.arange(T)[:, None]
                passes.append([(steps.expand(-1, len(u)), (u - k * block).expand(T, -1)) for u in units])
            else:
                passes.append([(u // N, u % N - k * block) for u in units])
            seen = torch.stack([torch.cat([each.flatten() for each in part]) for part in zip(*passes[-1], strict=True)])
            assert len(seen.unique(dim=1).T) == T * block, "every own sample once"
            assert seen[1].min() >= 0
            assert seen[1].max() < block, "nobody else's sample"
        return passes


def module(num_agents: int = K, rollout: dict[str, Any] | None = None, **network: Any) -> PBTModule:
    torch.manual_seed(0)
    settings = ActorCriticSettings(**{"hidden": (8, 6), **network})
    short = OnPolicySettings(**{"horizon": T, "num_epochs": 2, "num_minibatches": 2, **(rollout or {})})
    return PBTModule(num_agents, settings, optimizer=OptimizerSettings(learning_rate_max=5e-3), rollout=short)


@pytest.mark.parametrize(
    ("network", "env"),
    [
        ({}, Recording),
        ({"separate_critic": True}, Choosing),
        ({"lstm_units": 5, "separate_critic": True}, Recording),
    ],
)
def test_k_policies_at_once_are_k_trainings_of_one_written_out(
    network: dict[str, Any], env: type[Recording], tmp_path: Path
) -> None:
    population, watch = module(**network), Watch(HYPER)
    train(population, small_data(N, env), tmp_path, ITERATIONS, watch)
    after, rates = population.policy.state_dict(), population.hyper_parameters["learning_rate"]
    for k in range(K):
        hyper = {name: values[k] for name, values in HYPER.items()}
        plain = PlainPPO(PlainNetwork(watch.begin, k, env is Choosing), hyper, 0.95, 0.2, (1e-6, 5e-3))
        for met in watch.met:
            torch.testing.assert_close(plain.learn(met[k]), met[k].log_probs, rtol=0, atol=2e-5)
        wanted = PlainNetwork(after, k, env is Choosing).state_dict()
        moved = PlainNetwork(watch.begin, k, env is Choosing).state_dict()
        for name, value in plain.network.state_dict().items():
            torch.testing.assert_close(
                value, wanted[name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name, k=k: f"{k} {n}: {m}"
            )
            assert value.numel() == 0 or not torch.equal(value, moved[name]), "it has learnt"
        assert plain.adam.param_groups[0]["lr"] == pytest.approx(float(rates[k]), rel=1e-9)
    assert rates[1] == HYPER["learning_rate"][1]
    assert rates[2] < HYPER["learning_rate"][2]
    assert rates[3] == 5e-3, "it has risen to its bound"

"""K policies in one training are K trainings of one policy each.

Shape legend: K agents, n environments of each, N = K n, T steps.
"""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.callbacks import NaNGuard, NetworkScaleProfiler
from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.settings import OnPolicySettings, RolloutSettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.limits import Mistake
from epo_lightning.modules.epo import EPOModule
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
        rewards = torch.stack([r.reward for r in results])
        terminated, truncated = (
            torch.stack([getattr(r, name) for r in results]) for name in ("terminated", "truncated")
        )
        finals = torch.stack([r.obs if r.final_obs is None else r.final_obs for r in results])
        finals = torch.where(truncated[..., None], finals, 0.0)
        met, block = [], N // K
        for k in range(K):
            own = slice(k * block, (k + 1) * block)
            passes = self.passes_of(pl_module, k)
            buffer = dataset.buffer
            met.append(
                Recorded(
                    obs[:, own], buffer.actions[:, own].clone(), buffer.log_probs[:, own].clone(), rewards[:, own],
                    terminated[:, own], truncated[:, own], finals[:, own], passes,
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
    return PBTModule(num_agents, settings, optimizer=GeneOptimizerSettings(learning_rate_max=5e-3), rollout=short)


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
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=2e-5)
            assert value.numel() == 0 or not torch.equal(value, moved[name]), "it has learnt"
        assert plain.adam.param_groups[0]["lr"] == pytest.approx(float(rates[k]), rel=1e-9)
    assert rates[1] == HYPER["learning_rate"][1]
    assert rates[2] < HYPER["learning_rate"][2]
    assert rates[3] == 5e-3, "it has risen to its bound"


def alone(rollout: dict[str, Any]) -> tuple[PBTModule, EPOModule]:
    """One policy, and PPO of one agent, by settings that mean the same."""
    one = module(1, rollout)
    steps = GeneOptimizerSettings(learning_rate_max=5e-3)
    ppo = EPOModule(1, NetworkSettings((8, 6), gene_dim=0), LossSettings(), steps, RolloutSettings(T, **rollout))
    return one, ppo


def test_one_policy_is_ppo_of_one_agent(tmp_path: Path) -> None:
    """In every respect: also the random numbers are the same ones."""
    one, ppo = alone({"num_epochs": 3, "num_minibatches": 2})
    train(ppo, small_data(N), tmp_path, 0)
    fit(one, small_data(N), tmp_path, 0)
    names = ("actor.mlp.0", "actor.mlp.2", "action_head", "value_head")
    with torch.no_grad():
        for name in names:
            source, target = ppo.policy.get_submodule(name), one.policy.get_submodule(name)
            for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
                mine.copy_(theirs[None])
    for each in (one, ppo):
        torch.manual_seed(0)
        fit(each, small_data(N), tmp_path, 4)
    for name in names:
        source, target = ppo.policy.get_submodule(name), one.policy.get_submodule(name)
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            torch.testing.assert_close(mine[0], theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.policy.log_std, ppo.policy.log_std, rtol=1e-5, atol=1e-6)
    same = ("charts/episodic_return", "losses/policy_loss", "losses/total", "losses/grad_norm", "losses/approx_kl")
    for name in (*same, "losses/explained_variance", "charts/learning_rate", "charts/env_steps"):
        assert one.metrics[name] == pytest.approx(ppo.metrics[name], rel=1e-4, abs=1e-6), name


class Freeze(L.Callback):
    """Keeps what agents hold before and after the passes of an iteration in which some make none."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        pl_module.hyper_parameters.write(torch.tensor([1, 3]), {"num_epochs": torch.tensor([0.0, 0.0])})
        pl_module.hyper_parameters.write(torch.tensor([0, 2]), {"num_epochs": torch.tensor([1.0, 3.0])})

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        self.before = held(pl_module)


def held(population: PBTModule) -> dict[str, Tensor]:
    """(K, ...) of everything that learns: weights, moments of Adam, counts, learning rates."""
    weights = {name: value.detach().clone() for name, value in population.policy.named_parameters()}
    kept = {name: value.clone() for name, value in population._adam().moments.items()}
    return {**weights, **kept, "rate": population.hyper_parameters["learning_rate"].clone()}


def test_who_makes_no_more_passes_is_left_alone_to_the_bit(tmp_path: Path) -> None:
    population, watch = module(), Freeze()
    train(population, small_data(N), tmp_path, 1, watch)
    after = held(population)
    assert after["step"].tolist() == [2, 0, 6, 0], "two minibatches a pass"
    for name, value in after.items():
        if not name.startswith("value_head"):  # whose scale follows the targets
            assert torch.equal(value[[1, 3]], watch.before[name][[1, 3]]), name
        assert not torch.equal(value[0], watch.before[name][0]) or name == "rate"


class Adopt(L.Callback):
    """Agents 1 and 2 take each other's place with weights, agent 3 takes hyper-parameters alone; all in one call."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        population, dataset = pl_module, pl_module.dataset
        self.before, self.moments = held(population), dict(population.policy.named_buffers())
        self.moments = {name: value.clone() for name, value in self.moments.items()}
        self.table, self.state = population.hyper_parameters.read(), dataset.state.clone()
        population.adopt(
            torch.tensor([1, 2, 3]),
            torch.tensor([2, 1, 0]),
            torch.tensor([True, True, False]),
            {"gamma": torch.tensor([0.5, 0.6, 0.7]), "clip": torch.tensor([0.11, 0.12, 0.13])},
        )
        self.after = held(population)
        self.new_moments = {name: value.clone() for name, value in population.policy.named_buffers()}
        self.new_table, self.new_state = population.hyper_parameters.read(), dataset.state.clone()
        self.individuals = dataset.individuals.tolist()


def test_adopting_copies_everything_that_was_learnt_and_leaves_the_others_to_the_bit(tmp_path: Path) -> None:
    population, act = module(lstm_units=3), Adopt()
    watch = Watch({name: values for name, values in HYPER.items() if name != "num_epochs"} | {"num_epochs": [2.0] * K})
    train(population, small_data(N, Recording), tmp_path, 2, watch, act)
    swapped = [0, 2, 1, 3]
    for name, value in act.after.items():
        assert torch.equal(value, act.before[name][swapped]), name
        assert torch.equal(value, act.before[name]) == (name == "step"), f"{name}: otherwise this tells nothing"
    for name, value in act.new_moments.items():
        same = name.endswith("count") or name == "best"
        assert torch.equal(value, act.moments[name] if same else act.moments[name][swapped]), name
    for name, value in act.new_table.items():
        wanted = act.table[name].clone()
        if name == "learning_rate":
            wanted = wanted[swapped]
        changed = {"gamma": [0.5, 0.6, 0.7], "clip": [0.11, 0.12, 0.13]}
        if name in changed:
            wanted[1:] = torch.tensor(changed[name]).double()
        torch.testing.assert_close(value, wanted, rtol=0, atol=0, equal_nan=True)
    n = N // K
    assert not act.new_state[:, n:].any(), "their episodes go on without what they remembered"
    assert torch.equal(act.new_state[:, :n], act.state[:, :n])
    assert act.individuals[0] == 0
    assert len({*act.individuals}) == K


class Spoil(L.Callback):
    """One weight of agent 2 is not a number from the second iteration on."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        if trainer.current_epoch == 1:
            pl_module.policy.value_head.bias.data[2] = torch.nan


def test_the_guard_names_the_environments_of_the_agent_that_broke(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"iteration 1, minibatch 0: .*targets.*envs \[8, 9, 10, 11\]") as mistake:
        train(module(), small_data(N), tmp_path, 3, Spoil(), NaNGuard())
    assert "Lower model.optimizer.learning_rate" in str(mistake.value)


def test_mixed_precision(tmp_path: Path) -> None:
    population = module(lstm_units=4)
    fit(population, small_data(N), tmp_path, 2, precision="bf16-mixed")
    assert population._adam().moments["step"].tolist() == [8.0] * K
    assert all(bool(torch.isfinite(value).all()) for value in population.policy.parameters())


def test_a_profile_tells_the_network_of_all_and_the_work_of_one(tmp_path: Path) -> None:
    profiler = NetworkScaleProfiler(start_iteration=0, num_iterations=1)
    train(module(), small_data(N), tmp_path, 2, profiler)
    report = profiler.report
    one = 2 * 8 + 8 + 8 * 6 + 6 + 6 * 2 + 2 + 6 + 1 + 2  # layers, action head, value head, log-std
    assert report["parameters"] == K * one
    assert report["forward_flops_per_env_step"] == 2 * (2 * 8 + 8 * 6 + 6 * 3)
    assert report["flops_per_iteration"] == report["forward_flops_per_env_step"] * N * T * (1 + 3 * 2)
    assert set(report["seconds_per_iteration"]) >= {"env", "inference", "targets", "learning"}


class Crown(L.Callback):
    """Agent 3 is the champion, and knows what to do; nobody else does."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        pl_module.champion = 3
        for head in (pl_module.policy.action_head.weight, pl_module.policy.action_head.bias):
            head.data.fill_(5.0)
            head.data[3] = 0.0


def test_it_is_the_champion_that_is_evaluated(tmp_path: Path) -> None:
    population, data = module(), small_data(N)
    trainer = fit(population, data, tmp_path, 1, callbacks=[Crown()], limit_val_batches=1)
    trainer.validate(population, data, verbose=False)
    # three steps of a = 0 where -0.5 o is right: -3 x 2 x 0.25 / 3; the others do 1, and have -1 - 0.25 / 3 an entry
    assert population.evaluation["return"].mean == pytest.approx(-0.5, abs=0.15)
    assert population.champion == 3


def test_noise_that_goes_on_has_no_effect_on_choices_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, rollout = ActorCriticSettings(hidden=(4,)), OnPolicySettings(4, 1, 2, noise_correlation=0.8)
    for env, told in ((Choosing, True), (Recording, False)):
        caplog.clear()
        fit(PBTModule(2, network, rollout=rollout), small_data(4, env), tmp_path, 1)
        assert ("Without effect: model.rollout.noise_correlation 0.8" in caplog.text) is told

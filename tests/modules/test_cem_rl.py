"""CEM-RL in small trainings. Shape legend: K agents, G members that learn by gradient, B samples."""

import copy
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from epo_lightning.algorithm.cem import CEMSettings
from epo_lightning.algorithm.pql import PQLLossSettings, smooth
from epo_lightning.callbacks import NaNGuard
from epo_lightning.envs.classic import Pendulum, Probe
from epo_lightning.experience.generation import (
    Generation,
    GenerationDataset,
    GenerationReplaySettings,
    GenerationSettings,
)
from epo_lightning.experience.replay import NStepTransitions
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.learner.adam import CEMOptimizerSettings
from epo_lightning.learner.stacked_actor import CEMNetworkSettings
from epo_lightning.limits import Mistake
from epo_lightning.modules import cem_rl
from epo_lightning.modules.cem_rl import TD3, CEMRLModule
from epo_lightning.modules.data import RolloutDataModule
from tests.support import training

AGENTS, LEARNERS, PARENTS, OBS, ACT = 7, 3, 2, 3, 1


def module(kind: type[CEMRLModule] = CEMRLModule, loss: PQLLossSettings = TD3, **changes: Any) -> CEMRLModule:
    """Tiny networks; the pendulum's episodes are of five steps, and so are the generations."""
    return kind(
        changes.pop("num_agents", AGENTS),
        CEMNetworkSettings((8, 6), (8, 6)),
        CEMSettings(gradient_members=changes.pop("gradient_members", LEARNERS), parents=PARENTS),
        loss,
        CEMOptimizerSettings(
            changes.pop("actor_learning_rate", 1e-3), changes.pop("critic_learning_rate", 2e-3),
            critic_updates_per_env_step=0.2, actor_updates_per_env_step=0.1,
        ),
        GenerationReplaySettings(capacity_per_env=40, batch_size=16, **({"warmup": 4} | changes)),
        GenerationSettings(horizon=5),
    )  # fmt: skip


def data(num_envs: int = 14) -> RolloutDataModule:
    return RolloutDataModule(lambda n, device, seed: Pendulum(n, device, seed, max_steps=5), num_envs)


def fit(*arguments: Any, **changes: Any) -> L.Trainer:
    """As `training.fit`, from the same initial weights."""
    torch.manual_seed(0)
    return training.fit(*arguments, **changes)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small wait for a second thread, if the machine is busy for longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Seen(NamedTuple):
    """What a generation was given: everything that is random or comes from the environments.

    Attributes:
        fitness: (K,).
        env_steps: S.
        moments: The observations' mean and scale, (O,) each.
        batches: The critics' minibatches.
        noise: That of their targets.
        states: (G, B, O) of each update of the actors.
    """

    fitness: Tensor
    env_steps: int
    moments: tuple[Tensor, Tensor]
    batches: list[NStepTransitions]
    noise: list[Tensor]
    states: list[Tensor]


class Watched(CEMRLModule):
    """Remembers how it began and what every generation was given."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.began = copy.deepcopy((self.policy.flat(), self.critic))
        self.seen: list[Seen] = []

    def update(self, batch: Generation) -> None:
        normal = self.policy.obs_moments.normalizer()
        self.seen.append(Seen(batch.fitness, batch.env_steps, (normal.mean, normal.scale), [], [], []))
        super().update(batch)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Four generations, all but the first with members that learnt."""
    watched = module(Watched)
    assert isinstance(watched, Watched)
    draw, draw_for = GenerationDataset.draw, GenerationDataset.draw_for

    def drawing(self: GenerationDataset) -> NStepTransitions:
        watched.seen[-1].batches.append(draw(self))
        return watched.seen[-1].batches[-1]

    def drawing_for(self: GenerationDataset, actors: int) -> Tensor:
        watched.seen[-1].states.append(draw_for(self, actors))
        return watched.seen[-1].states[-1].clone()

    def smoothing(actions: Tensor, noise: Tensor, settings: PQLLossSettings) -> Tensor:
        watched.seen[-1].noise.append(noise.clone())
        return smooth(actions, noise, settings)

    monkeypatch.setattr(GenerationDataset, "draw", drawing)
    monkeypatch.setattr(GenerationDataset, "draw_for", drawing_for)
    monkeypatch.setattr(cem_rl, "smooth", smoothing)
    fit(watched, data(), tmp_path, 4)
    return watched


def network(sizes: tuple[int, ...], between: type[nn.Module]) -> nn.Sequential:
    """A plain one."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), between())]
    return nn.Sequential(*layers[:-1])


class Plain:
    """CEM-RL as the paper's authors run it: one member after the other, each a network and an optimizer of its own.

    Nothing but torch; numbers of the distribution are Python's own.
    """

    def __init__(self, flat: Tensor, critic: nn.ModuleList) -> None:
        self.mean = flat[0].tolist()
        self.variance, self.damping = [1e-3] * len(self.mean), 1e-3
        self.members = [network((OBS, 8, 6, ACT), nn.Tanh) for _ in range(AGENTS - 1)]
        for member, row in zip(self.members, flat[1:], strict=True):
            nn.utils.vector_to_parameters(row, member.parameters())
        self.critics, self.targets = ([network((OBS + ACT, 8, 6, 1), nn.LeakyReLU) for _ in range(2)] for _ in range(2))
        for ours, theirs, target in zip(self.critics, critic, self.targets, strict=True):
            for network_of_mine in (ours, target):
                nn.utils.vector_to_parameters(
                    nn.utils.parameters_to_vector(theirs.parameters()).detach(), network_of_mine.parameters()
                )
        self.adam = torch.optim.Adam([p for critic in self.critics for p in critic.parameters()], lr=2e-3)

    def select(self, fitness: list[float]) -> None:
        """mu, Sigma and eps."""
        best = sorted(range(AGENTS - 1), key=lambda member: -fitness[member + 1])[:PARENTS]
        weights = [math.log((PARENTS + 1) / i) for i in range(1, PARENTS + 1)]
        weights = [weight / sum(weights) for weight in weights]
        rows = [nn.utils.parameters_to_vector(self.members[member].parameters()).tolist() for member in best]
        self.damping = 0.95 * self.damping + 0.05 * 1e-5
        for d, old in enumerate(self.mean):
            self.mean[d] = sum(w * row[d] for w, row in zip(weights, rows, strict=True))
            squares = sum(w * (row[d] - old) ** 2 for w, row in zip(weights, rows, strict=True))
            self.variance[d] = squares / PARENTS + self.damping

    def sample(self, number: int) -> None:
        """The first half, and its mirror image."""
        generator = torch.Generator().manual_seed(derive_seed(0, Stream.EVOLUTION, number))
        half = (AGENTS - 1) // 2
        noise = torch.randn(half, len(self.mean), generator=generator)
        for place, member in enumerate(self.members):
            z = noise[place % half] * (1 if place < half else -1)
            row = torch.tensor(self.mean) + torch.tensor(self.variance).sqrt() * z
            nn.utils.vector_to_parameters(row, member.parameters())

    def learn(self, seen: Seen) -> None:
        """S / G steps of the critics against a member, then S steps of the member; then the next one."""
        mean, scale = seen.moments

        def normal(obs: Tensor) -> Tensor:
            return ((obs - mean) * scale).clamp(-5, 5)

        critic_steps, actor_steps = len(seen.batches) // LEARNERS, len(seen.states)
        for number in range(LEARNERS):
            actor = self.members[number]
            target_actor, adam = copy.deepcopy(actor), torch.optim.Adam(actor.parameters(), lr=1e-3)
            for step in range(number * critic_steps, (number + 1) * critic_steps):
                batch, noise = seen.batches[step], seen.noise[step]
                with torch.no_grad():
                    following = normal(batch.next_obs)
                    actions = (target_actor(following).tanh() + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1, 1)
                    values = [target(torch.cat([following, actions], 1))[:, 0] for target in self.targets]
                    wanted = batch.rewards + batch.discount * torch.minimum(*values)
                pairs = torch.cat([normal(batch.obs), batch.actions], 1)
                loss = sum(nn.functional.mse_loss(critic(pairs)[:, 0], wanted) for critic in self.critics)
                self.adam.zero_grad()
                assert isinstance(loss, Tensor)
                loss.backward()
                self.adam.step()
                for critic, target in zip(self.critics, self.targets, strict=True):
                    for mine, theirs in zip(target.parameters(), critic.parameters(), strict=True):
                        mine.data.copy_(0.005 * theirs.data + 0.995 * mine.data)
            for step in range(actor_steps):
                obs = normal(seen.states[step][number])
                loss = -self.critics[0](torch.cat([obs, actor(obs).tanh()], 1)).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()


def test_it_is_the_published_loop_over_members_written_out(watched: Watched) -> None:
    flat, critic = watched.began
    plain = Plain(flat, critic.critics)
    assert [len(seen.batches) for seen in watched.seen] == [12] * 4  # 0.2 of the members' 12 envs x 5 steps
    assert [len(seen.states) for seen in watched.seen] == [6] * 4
    assert watched.seen[0].states[0].shape == (LEARNERS, 16, OBS)
    for number, seen in enumerate(watched.seen):
        assert seen.env_steps == 60
        plain.select(seen.fitness.tolist())
        plain.sample(number + 1)
        plain.learn(seen)
    mine = watched.policy.flat()
    torch.testing.assert_close(mine[0], torch.tensor(plain.mean), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(watched.variance, torch.tensor(plain.variance), atol=1e-6, rtol=1e-4)
    assert float(watched.damping) == pytest.approx(plain.damping)
    for member, row in zip(plain.members, mine[1:], strict=True):
        torch.testing.assert_close(row, nn.utils.parameters_to_vector(member.parameters()), atol=2e-5, rtol=1e-4)
    for theirs, ours in ((plain.critics, watched.critic), (plain.targets, watched.target_critic)):
        for a, b in zip(theirs, ours.critics, strict=True):
            for one, other in zip(a.parameters(), b.parameters(), strict=True):
                torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_the_first_members_are_drawn_around_the_network_that_was_initialised(watched: Watched) -> None:
    flat, _ = watched.began
    torch.testing.assert_close(flat[1:4] + flat[4:], (2 * flat[0]).expand(3, -1))
    assert float((flat[1:] - flat[0]).std()) == pytest.approx(1e-3**0.5, rel=0.1)


class TestGenerations:
    def test_nobody_learns_by_gradient_while_it_warms_up(self, tmp_path: Path) -> None:
        warming = module(warmup=10)  # two generations of five env steps are not enough
        fit(warming, data(), tmp_path, 2)
        assert warming.learners == 0
        assert warming.minibatches.totals == []
        members = warming.policy.flat()[1:]
        torch.testing.assert_close(members[:3] + members[3:], (2 * warming.policy.flat()[0]).expand(3, -1))

    def test_without_gradient_members_it_is_the_cross_entropy_method(self, tmp_path: Path) -> None:
        plain = module(gradient_members=0, warmup=0)
        fit(plain, data(), tmp_path, 2)
        assert plain.minibatches.totals == []
        assert plain.metrics["population/gradient_parents"] == 0
        assert "population/fitness_gradient" not in plain.trainer.callback_metrics

    def test_everybody_is_another_individual_and_measured_anew(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 2)
        assert trained.dataset.individuals.tolist() == list(range(14, 21))
        assert trained.dataset.fitness.opened_at == trained.env_steps == 2 * 14 * 5
        assert trained.generation is not None
        assert trained.generation["generation"] == 2

    def test_a_single_agent_or_another_number_of_them_is_refused(self) -> None:
        with pytest.raises(Mistake, match=r"model\.num_agents 6: .* use 5 or 7, or antithetic false"):
            module(num_agents=6)

    def test_bfloat16(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 2, precision="bf16-mixed")
        assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path: Path, iterations: int) -> None:
    whole, first, second = module(), module(), module()
    fit(whole, data(), tmp_path, 4)
    path = tmp_path / "a.ckpt"
    fit(first, data(), tmp_path, iterations).save_checkpoint(path, weights_only=False)
    torch.manual_seed(9)
    fit(second, data(), tmp_path, 4, ckpt_path=path)
    mine, theirs = whole.state_dict(), second.state_dict()
    assert {"variance", "damping", "drawn", "learners"} <= set(mine)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    moments = [trained.trainer.optimizers[0].state_dict()["state"] for trained in (whole, second)]
    for number, state in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in state.items())
    everything = torch.arange(len(whole.dataset.buffer))
    for a, b in zip(*(trained.dataset.buffer.gather(everything) for trained in (whole, second)), strict=True):
        assert torch.equal(a, b)


def test_what_diverges_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"not finite at iteration \d+, minibatch \d+.*model\.optimizer\.critic_learning"):
        fit(module(critic_learning_rate=1e30), data(), tmp_path, 3, callbacks=[NaNGuard()])


def test_it_learns_the_probe(tmp_path: Path) -> None:
    # the action is to be -1/2 of the observation: 0 is wrong by 0.25 in the mean
    trained = CEMRLModule(
        11,
        CEMNetworkSettings((32,), (32, 32)),
        loss=PQLLossSettings(n_step=1, tau=0.05, smoothing_sigma=0.2, smoothing_clip=0.5),
        optimizer=CEMOptimizerSettings(3e-3, 3e-3, 0.1, 0.05),
        replay=GenerationReplaySettings(capacity_per_env=200, batch_size=64, warmup=0),
        generation=GenerationSettings(horizon=10),
    )
    probe = RolloutDataModule(lambda n, device, seed: Probe(n, device, seed, max_steps=10), 44)
    fit(trained, probe, tmp_path, 20)
    obs = 2 * torch.rand(256, 2, generator=torch.Generator().manual_seed(0)) - 1
    policy = trained.policy
    actions, _ = policy.act(obs, torch.zeros(256, dtype=torch.long), policy.initial_state(256))
    assert (actions + 0.5 * obs).abs().mean() < 0.08

"""Playbacks with an environment whose every number is known by hand.

In `Tally` environment i pays i + 1 per step, reaches a goal in every second step of an episode, and ends an episode
after `lengths[i]` steps; it observes a constant.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.modules.contents import curriculum_of
from epo_lightning.modules.identity import Identity
from epo_lightning.run.checkpoint_contents import load_network
from epo_lightning.show.playback import Playback


class Tally(VectorEnv):
    curriculum_units: Mapping[str, str] = {"tolerance": "m", "angle": "rad"}

    def __init__(
        self, *lengths: int, step_seconds: float | None = 0.5, difficulty: dict[str, float] | None = None
    ) -> None:
        self.spec = EnvSpec("Tally", len(lengths), 2, 3, max(lengths), step_seconds)
        self.lengths, self.difficulty = torch.tensor(lengths), difficulty or {}
        self.actions: list[Tensor] = []

    def reset(self) -> Tensor:
        self.clock = torch.zeros(len(self.lengths), dtype=torch.long)
        return torch.full((len(self.lengths), 2), 0.5)

    def step(self, actions: Tensor) -> StepResult:
        self.actions.append(actions.clone())
        self.clock += 1
        goals = (self.clock % 2 == 0).float()
        ended = self.clock == self.lengths
        self.clock[ended] = 0
        pay = torch.arange(1.0, len(self.lengths) + 1)
        return StepResult(torch.full((len(pay), 2), 0.5), pay, ended, torch.zeros_like(ended), goals)

    def curriculum(self) -> dict[str, float]:
        return self.difficulty

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Scripted(Tally):
    def script(self) -> Callable[[], Tensor]:
        return lambda: torch.arange(3.0 * len(self.lengths)).view(-1, 3) + 10 * self.clock[:, None]


def network(discrete: bool = False, **settings: Any) -> LatentActorCritic:
    torch.manual_seed(0)
    policy = LatentActorCritic(2, 3, 4, NetworkSettings(**{"gene_dim": 3, "hidden": (8,), **settings}), discrete)
    torch.nn.init.normal_(policy.action_head.weight)
    return policy


class TestBook:
    def test_running_episodes_and_totals(self) -> None:
        playback = Playback(Tally(3, 100), ["zero", "zero"])
        for _ in range(4):
            playback.step()
        # environment 0: steps 1 to 3 were an episode with one goal; the fourth is the first of the next
        assert playback.clock.tolist() == [1, 4]
        assert playback.returns.tolist() == [1.0, 8.0]
        assert playback.successes.tolist() == [0.0, 2.0]
        assert playback.episodes.tolist() == [1, 0]
        assert playback.total_successes.tolist() == [1.0, 2.0]

    def test_reset_begins_anew(self) -> None:
        playback = Playback(Tally(3, 100), ["zero", "zero"])
        for _ in range(5):
            playback.step()
        playback.reset()
        book = (playback.clock, playback.returns, playback.successes, playback.episodes, playback.total_successes)
        assert all(not values.any() for values in book)

    def test_captions(self) -> None:
        env = Tally(100, 100, difficulty={"tolerance": 0.0512, "height": 3.0, "angle": 0.25})
        playback = Playback(env, [0, 3], network())
        for _ in range(2):
            playback.step()
        assert playback.captions() == [
            "master · 1 success · return 2 · tolerance 5.1 cm · height 3 · angle 0.25 rad · 1.0 s",
            "follower 3 · 1 success · return 4 · tolerance 5.1 cm · height 3 · angle 0.25 rad · 1.0 s",
        ]

    def test_captions_of_a_task_without_a_clock(self) -> None:
        playback = Playback(Tally(100, step_seconds=None), ["random"])
        for _ in range(150):
            playback.step()
        playback.clock += 7
        playback.returns += 1234.5
        assert playback.captions() == ["random · 25 successes (75 in all) · return 1284 · step 57"]


class TestActors:
    def test_every_agent_acts_with_its_own_gene(self) -> None:
        env, policy = Tally(9, 9, 9), network()
        Playback(env, [2, 0, 3], policy).step()
        for row, agent in enumerate([2, 0, 3]):
            alone, _ = policy.act(torch.full((1, 2), 0.5), torch.tensor([agent]), policy.initial_state(1))
            torch.testing.assert_close(env.actions[0][row], alone[0])
        assert not torch.allclose(env.actions[0][0], env.actions[0][1], atol=0.01)

    def test_the_recurrent_state_begins_anew_with_an_episode(self) -> None:
        env = Tally(3, 100)
        playback = Playback(env, [1, 1], network(lstm_units=5))
        for _ in range(5):
            playback.step()
        first, second, third, fourth, fifth = env.actions
        assert torch.equal(torch.stack([fourth[0], fifth[0]]), torch.stack([first[0], second[0]]))
        assert not torch.allclose(second[0], first[0], atol=0.01)  # memory matters to this network
        assert not torch.allclose(fourth[1], first[1], atol=0.01)
        torch.testing.assert_close(third[0], third[1])  # two rows of one batch: equal but for the last bits

    def test_reset_forgets(self) -> None:
        env = Tally(100)
        playback = Playback(env, [1], network(lstm_units=5))
        playback.step()
        playback.step()
        playback.reset()
        playback.step()
        assert torch.equal(env.actions[2], env.actions[0])

    def test_random_is_uniform_and_leaves_the_global_stream_alone(self) -> None:
        before = torch.get_rng_state()
        env, again, other = Tally(9, 9), Tally(9, 9), Tally(9, 9)
        for each, seed in ((env, 1), (again, 1), (other, 2)):
            playback = Playback(each, ["zero", "random"], seed=seed)
            for _ in range(400):
                playback.step()
        actions = torch.stack(env.actions)
        assert not actions[:, 0].any()
        # 1,200 draws: the mean's standard error is 0.017, a quarter lies above 0.5
        assert abs(float(actions[:, 1].mean())) < 0.06
        assert 0.2 < float((actions[:, 1] > 0.5).float().mean()) < 0.3
        assert 0.99 < float(actions[:, 1].abs().max()) <= 1.0
        assert torch.equal(actions, torch.stack(again.actions))
        assert not torch.equal(actions, torch.stack(other.actions))
        assert torch.equal(before, torch.get_rng_state())

    def test_a_script_acts_in_its_rows(self) -> None:
        env = Scripted(9, 9, 9)
        playback = Playback(env, ["zero", "scripted", 0], network())
        assert playback.labels == ["zero", "scripted", "master"]
        playback.step()
        playback.step()
        assert env.actions[0][1].tolist() == [3.0, 4.0, 5.0]
        assert env.actions[1][1].tolist() == [13.0, 14.0, 15.0]
        assert not env.actions[1][0].any()

    def test_who_cannot_act(self) -> None:
        with pytest.raises(ValueError, match=r"there is no agent 4; they are 0 \(the master\) to 3"):
            Playback(Tally(9), [4], network())
        with pytest.raises(ValueError, match="--policy must be one of random, zero, scripted; got 'clever'"):
            Playback(Tally(9), ["clever"])
        with pytest.raises(ValueError, match="Tally has no scripted policy"):
            Playback(Tally(9), ["scripted"])


class TestCheckpoint:
    @pytest.mark.parametrize(
        "settings", [{}, {"discrete": True}, {"lstm_units": 5, "separate_critic": True, "hidden": (4, 4)}]
    )
    def test_the_network_comes_back(self, settings: dict[str, Any]) -> None:
        policy = network(**settings)
        policy.obs_moments.update(torch.randn(100, 2))
        names = {f"network.{key}": value for key, value in vars(policy.settings).items()}
        identity = Identity("epo", "Tally", 2, 3, policy.discrete, {"num_agents": 4, **names})
        weights = {f"policy.{key}": value for key, value in policy.state_dict().items()}
        loaded = load_network({"identity": identity.as_dict(), "state_dict": weights}, torch.device("cpu"))
        assert isinstance(loaded, LatentActorCritic)
        assert loaded.settings == policy.settings
        obs, agents = torch.randn(6, 2), torch.arange(6) % 4
        for mine, theirs in zip(
            policy.act(obs, agents, policy.initial_state(6)), loaded.act(obs, agents, loaded.initial_state(6)),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(mine, theirs)

    def test_the_curriculum_of_the_training(self) -> None:
        ranks = [{"curriculum": {"tolerance": 0.03}}, {"curriculum": {"tolerance": 0.07}}]
        assert curriculum_of({"ranks": ranks}) == curriculum_of({"RolloutDataModule": {"ranks": ranks}})
        assert curriculum_of({"ranks": ranks}) == {"tolerance": 0.03}
        assert curriculum_of({}) is None

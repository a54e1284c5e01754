"""`GymnasiumEnv` under every moment of reset, on tasks that count their own steps."""

from typing import Any

import pytest
import torch

from epo_lightning.envs.check import check_env

pytest.importorskip("gymnasium")
from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.vectors import Vectorization
from tests.support.counters import CPU, Make, Vectorised, closed_counters, run

make = pytest.fixture(closed_counters)


class TestEveryModeWithoutAPause:
    WAYS: tuple[tuple[Vectorization, str, dict[str, Any]], ...] = (
        ("sync", "Counter", {}),
        ("async", "Counter", {}),
        ("own", "make_library_vector", {"mode": "SameStep"}),
        ("own", "make_library_vector", {"mode": "SameStep", "processes": True}),
        ("own", "make_library_vector", {"mode": "Disabled"}),
        ("own", "make_library_vector", {"mode": "Disabled", "processes": True}),
        ("own", "make_vectorised", {"mode": "SameStep"}),
        ("own", "make_vectorised", {"mode": "Disabled"}),
    )

    @pytest.mark.parametrize(("way", "id", "args"), WAYS, ids=lambda value: str(value).replace(" ", ""))
    def test_every_transition_is_the_task_s(
        self, make: Make, way: Vectorization, id: str, args: dict[str, Any]
    ) -> None:
        env = make(2, way, id, **args)
        assert torch.equal(env.reset()[0], torch.tensor([1.0, 0.0]))
        results = run(env, [0.5, -0.5, 0.25, 0.0, -1.0, 1.0])
        # copy 0 by hand: episode 1 terminates after two steps, episode 2 is truncated after three, then episode 3
        obs = [[1, 1], [2, 0], [2, 1], [2, 2], [3, 0], [3, 1]]
        rewards = [11.5, 11.5, 21.25, 22.0, 22.0, 32.0]
        assert [result.obs[0].tolist() for result in results] == obs
        assert [float(result.reward[0]) for result in results] == rewards
        assert [bool(result.terminated[0]) for result in results] == [False, True, False, False, False, False]
        assert [bool(result.truncated[0]) for result in results] == [False, False, False, False, True, False]
        assert results[1].final_obs is not None
        assert results[4].final_obs is not None
        assert results[1].final_obs[0].tolist() == [1, 2]
        assert results[4].final_obs[0].tolist() == [2, 3]

    def test_copies_end_one_by_one(self, make: Make) -> None:
        """Copy 1 is an episode ahead: its truncation in step 3 must leave copy 0 alone."""
        for mode in ("SameStep", "Disabled"):
            env = make(2, "own", "make_vectorised", mode=mode)
            assert env.reset().tolist() == [[1, 0], [2, 0]]
            results = run(env, [0.0] * 4)
            assert [result.obs.tolist() for result in results] == [
                [[1, 1], [2, 1]],
                [[2, 0], [2, 2]],
                [[2, 1], [3, 0]],
                [[2, 2], [3, 1]],
            ]
            assert results[2].truncated.tolist() == [False, True]
            assert results[2].final_obs is not None
            assert results[2].final_obs[1].tolist() == [2, 3]

    def test_an_end_that_nobody_tells_is_not_made_up(self, make: Make) -> None:
        env = make(1, "own", "make_vectorised", mode="SameStep", tells_final=False)
        env.reset()
        results = run(env, [0.0] * 5)
        assert [result.final_obs is None for result in results] == [False, True, False, False, True]


class TestThePauseOfNextStep:
    WAYS = (
        ("make_library_vector", {"mode": "NextStep"}),
        ("make_library_vector", {"mode": "NextStep", "processes": True}),
        ("make_vectorised", {"mode": "NextStep"}),
    )

    @pytest.mark.parametrize(("id", "args"), WAYS, ids=lambda value: str(value).replace(" ", ""))
    def test_the_end_comes_with_its_own_step_and_the_pause_is_told(
        self, make: Make, id: str, args: dict[str, Any]
    ) -> None:
        env = make(1, "own", id, **args)
        assert env.spec.obs_dim == 3
        assert env.reset().tolist() == [[1, 0, 0]]
        results = run(env, [0.5, -0.5, 0.25, 0.0, -1.0, 1.0, 0.5, 0.0])
        # the third and the seventh action lead nowhere
        obs = [[1, 1, 0], [1, 2, 1], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 3, 1], [3, 0, 0], [3, 1, 0]]
        assert [result.obs[0].tolist() for result in results] == obs
        assert [float(result.reward[0]) for result in results] == [11.5, 11.5, 0.0, 21.0, 21.0, 24.0, 0.0, 31.0]
        assert [bool(result.terminated[0]) for result in results] == [step == 1 for step in range(8)]
        assert [bool(result.truncated[0]) for result in results] == [step == 5 for step in range(8)]
        assert results[1].final_obs is not None
        assert results[5].final_obs is not None
        assert results[1].final_obs[0].tolist() == [1, 2, 0]
        assert results[5].final_obs[0].tolist() == [2, 3, 0]  # what is bootstrapped is no pause

    def test_only_the_copy_that_ended_pauses(self, make: Make) -> None:
        env = make(2, "own", "make_vectorised", mode="NextStep")
        env.reset()
        results = run(env, [0.1, 0.2, 0.3, 0.4])
        assert [result.obs[:, -1].tolist() for result in results] == [[0, 0], [1, 0], [0, 1], [0, 0]]
        assert results[2].reward.tolist() == pytest.approx([0.0, 23.3])
        assert isinstance(env.vector, Vectorised)
        copies, actions = zip(*env.vector.ignored, strict=True)
        assert copies == (0, 1)
        assert actions == pytest.approx((0.3, 0.4))

    def test_a_reset_ends_the_pause(self, make: Make) -> None:
        env = make(1, "own", "make_vectorised", mode="NextStep")
        env.reset()
        run(env, [0.0, 0.0])
        assert env.reset().tolist() == [[2, 0, 0]]
        assert run(env, [0.0])[0].reward.tolist() == [21.0]

    def test_the_longest_episode_counts_it(self) -> None:
        env = GymnasiumEnv(2, CPU, 0, "CartPole-v1", "own", {"max_episode_steps": 30})
        assert env.spec.max_episode_steps == 31
        check_env(env, 100)
        env.close()


class TestSuccesses:
    @pytest.mark.parametrize(
        ("way", "id", "args", "counted"),
        [
            ("sync", "Counter", {}, [0, 1, 0, 1, 0, 0]),
            ("async", "Counter", {}, [0, 1, 0, 1, 0, 0]),
            ("own", "make_library_vector", {"mode": "Disabled"}, [0, 1, 0, 1, 0, 0]),
            ("own", "make_library_vector", {"mode": "NextStep"}, [0, 1, 0, 0, 1, 0]),
            ("own", "make_vectorised", {"mode": "SameStep"}, [0, 0, 0, 0, 0, 0]),
        ],
    )
    def test_reaching_counts_once(
        self, make: Make, way: Vectorization, id: str, args: dict[str, Any], counted: list[int]
    ) -> None:
        """An episode is successful from its second step on: staying so is no further goal."""
        env = make(1, way, id, **args)
        env.reset()
        assert [int(result.successes[0]) for result in run(env, [0.0] * 6)] == counted

    def test_an_episode_does_not_take_over_the_success_of_the_one_before(self, make: Make) -> None:
        env = make(1, "sync", success=1)
        env.reset()
        assert [int(result.successes[0]) for result in run(env, [0.0] * 6)] == [1, 0, 1, 0, 0, 1]

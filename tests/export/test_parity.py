"""A file that acts unlike the policy is refused, and how far apart they are is measured as it should be."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.classic import WallMaze
from epo_lightning.export.parity import compare, difference
from epo_lightning.export.recording import Recording, record
from epo_lightning.limits import Mistake
from tests.support.exported import make


@pytest.mark.parametrize(
    ("said", "done", "expected"),
    [
        ([[0.5, -1.0]], [[0.5, -0.75]], 0.25),
        ([[0.5], [0.25]], [[0.5], [0.5]], 0.25),
        ([[math.nan]], [[0.5]], math.inf),
        ([[0.5, 0.5]], [[0.5]], math.inf),
    ],
)
def test_numbers_differ_by_their_largest_difference(said: Any, done: Any, expected: float) -> None:  # noqa: ANN401
    assert difference({"action": np.array(said, np.float32)}, np.array(done, np.float32)) == expected


def test_choices_differ_by_what_the_file_thinks_its_own_is_better() -> None:
    logits = np.array([[1.0, 3.0], [2.0, 1.5], [0.0, 5.0]], np.float32)
    said = {"action": np.array([1, 0, 1]), "logits": logits}
    assert difference(said, np.array([1, 0, 1])) == 0
    assert difference(said, np.array([1, 1, 1])) == 0.5
    assert difference(said, np.array([0, 1, 1])) == 2.0
    assert difference({"action": said["action"]}, np.array([1, 1, 1])) == 1.0  # it does not tell why


class Sums:
    """A file whose action is the sum of all that it has seen in the episode, and an error."""

    def __init__(self, error: float = 0.0) -> None:
        self.sum, self.error = 0.0, error

    def outputs(self, obs: np.ndarray) -> dict[str, Any]:
        self.sum = self.sum + obs.sum(1, keepdims=True)
        return {"action": np.asarray(self.sum + self.error, np.float32)}

    def reset(self) -> None:
        self.sum = 0.0


def summed(agents: int = 2) -> Recording:
    """Four steps in which the second agent's episode ends once."""
    obs = torch.arange(8.0).reshape(4, 2, 1)[:, :agents]
    actions = torch.tensor([[0.0, 1.0], [2.0, 4.0], [6.0, 5.0], [12.0, 12.0]])[:, :agents, None]
    done = torch.tensor([[False, False], [False, True], [False, False], [False, False]])[:, :agents]
    return Recording(tuple(range(agents)), obs, actions, done)


def test_a_file_goes_through_the_episodes_with_its_own_memory() -> None:
    parity = compare(summed(), [Sums(), Sums()], lambda obs: obs)
    assert (parity.steps, parity.single, parity.batch) == (8, 0.0, 0.0)


@pytest.mark.parametrize(("first", "second"), [(1e-3, 0.0), (0.0, 1e-3), (math.nan, 0.0), (0.0, math.nan)])
def test_a_file_that_acts_otherwise_is_refused(first: float, second: float) -> None:
    with pytest.raises(Mistake, match=r"acts unlike the run: actions differ by .* in 8 steps of play") as fault:
        compare(summed(), [Sums(first), Sums(second)], lambda obs: obs)
    assert "\n" not in str(fault.value)


def test_a_batch_counts_by_itself() -> None:
    with pytest.raises(Mistake, match=r"differ by 1 "):
        compare(summed(1), [Sums()], lambda obs: obs + 1)


class Steep:
    """A file whose action moves by 6e-5 when the last digit of its input does, and an error."""

    def __init__(self, error: float) -> None:
        self.error = error

    def outputs(self, obs: np.ndarray) -> dict[str, Any]:
        return {"action": np.sin(100 * obs) + np.float32(self.error)}

    def reset(self) -> None:
        pass


@pytest.mark.parametrize(("error", "passes"), [(5e-5, True), (2e-4, False)])
def test_a_steep_policy_may_differ_more_but_ten_times_at_most(error: float, passes: bool) -> None:
    obs = torch.arange(8.0).reshape(8, 1, 1)
    actions = torch.from_numpy(np.sin(100 * obs.numpy()))
    recording = Recording((0,), obs, actions, torch.zeros(8, 1, dtype=torch.bool))
    if passes:
        assert compare(recording, [Steep(error)], lambda seen: np.sin(100 * seen)).largest > 1e-5
        return
    with pytest.raises(Mistake, match=r"more than 0\.0001"):
        compare(recording, [Steep(error)], lambda seen: np.sin(100 * seen))


def test_a_recording_is_what_the_agents_see_and_do() -> None:
    policy = make("epo lstm").policy
    net = type(policy)(2, 2, 4, policy.settings)
    env = WallMaze(3, torch.device("cpu"), 0, max_steps=5)
    made = record(env, net, [2, 0, 1], 12)
    assert (made.obs.shape, made.actions.shape, made.agents) == ((12, 3, 2), (12, 3, 2), (2, 0, 1))
    assert made.done.sum(0).tolist() == [2, 2, 2]  # after 5 and 10 steps
    assert made.episodes == 6
    again = WallMaze(3, torch.device("cpu"), 0, max_steps=5)
    obs, state = again.reset(), net.initial_state(3)
    for t in range(12):
        assert torch.equal(obs, made.obs[t])
        actions, state = net.act(obs, torch.tensor([2, 0, 1]), state)
        assert torch.equal(actions, made.actions[t])
        result = again.step(actions)
        state = state.masked_fill(made.done[t][:, None], 0.0)
        obs = result.obs

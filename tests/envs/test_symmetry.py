"""Tasks that say that they are symmetric: a mirrored step is the mirror image of the step."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from epo_lightning.algorithm.symmetry import SignedPermutation, Symmetry, signs
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.check import check_env
from epo_lightning.envs.classic import CartpoleSwingup, Pendulum, PendulumSwingup, Probe, WallMaze
from epo_lightning.envs.classic.base import ClassicEnv
from epo_lightning.envs.contract import check_symmetry
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
SIGNS = {
    CartpoleSwingup: [-1.0, -1.0, -1.0, -1.0],
    Pendulum: [-1.0, -1.0],
    partial(Pendulum, wind=1.0, privileged=True): [-1.0, -1.0, -1.0],
    PendulumSwingup: [-1.0, -1.0],
    WallMaze: [1.0, -1.0],
}


@pytest.mark.parametrize(("task", "state_signs"), SIGNS.items())
def test_a_mirrored_step_is_the_mirror_image(task: Callable[..., ClassicEnv], state_signs: list[float]) -> None:
    env, image = task(64, CPU, 0), task(64, CPU, 0)
    symmetry = env.symmetry()
    obs, generator = env.reset(), torch.Generator().manual_seed(0)
    state = env.state_dict()
    image.load_state_dict(state | {"state": state["state"] * torch.tensor(state_signs)})
    for _ in range(60):
        move = torch.rand(64, env.spec.act_dim, generator=generator) * 2 - 1
        ours, theirs = env.step(move), image.step(symmetry.actions(move))
        alive = ~(ours.terminated | ours.truncated)  # new episodes are drawn by themselves
        torch.testing.assert_close(symmetry.obs(ours.obs)[alive], theirs.obs[alive], rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.reward, theirs.reward, rtol=0, atol=1e-4)
        assert torch.equal(ours.terminated, theirs.terminated)
        image.load_state_dict(env.state_dict() | {"state": env.state_dict()["state"] * torch.tensor(state_signs)})
    assert (obs - ours.obs).abs().max() > 0.1


def test_a_task_that_does_not_tell_is_refused_by_name() -> None:
    with pytest.raises(Mistake, match=r"rollout\.symmetry: Probe has no mirror image: .* not implement symmetry\(\)"):
        Probe(2, CPU, 0).symmetry()


class Tells(Probe):
    """Tells what it was given."""

    def __init__(self, told: object, *, discrete: bool = False) -> None:
        super().__init__(4, CPU, 0, dim=2)
        self.told = told
        self.spec = EnvSpec("Tells", 4, 2, 2, self.spec.max_episode_steps, discrete=discrete)

    def symmetry(self) -> Symmetry:
        return self.told  # type: ignore[return-value]


def order(places: list[int], values: list[float]) -> SignedPermutation:
    return SignedPermutation(torch.tensor(places), torch.tensor(values))


SAME = signs([1.0, 1.0])


@pytest.mark.parametrize(
    ("obs", "actions", "line"),
    [
        (order([0, 0], [1, 1]), SAME, r"symmetry\(\)\.obs of Tells: the order must name each of 0 \.\. 1 once"),
        (
            SAME,
            signs([1.0]),
            r"symmetry\(\)\.actions of Tells: the order must name each of 0 \.\. 1 once, .*; got \[0\]",
        ),
        (order([0, 1], [1]), SAME, r"obs of Tells: the signs must be 2 times 1 or -1, got \[1\]"),
        (SAME, signs([1.0, 0.5]), r"actions of Tells: the signs must be 2 times 1 or -1"),
        (order([1, 0], [1, -1]), SAME, r"obs of Tells: mirrored twice, entry 0 is not what it was"),
    ],
)
def test_a_map_that_is_none_is_a_broken_contract(obs: SignedPermutation, actions: SignedPermutation, line: str) -> None:
    with pytest.raises(Mistake, match=line):
        check_env(Tells(Symmetry(obs, actions)), 10)


def test_choices_have_no_sign_and_anything_else_is_no_symmetry() -> None:
    with pytest.raises(Mistake, match=r"actions of Tells: choices have no sign"):
        check_symmetry(Tells(Symmetry(SAME, signs([-1.0, -1.0])), discrete=True))
    with pytest.raises(Mistake, match=r"symmetry\(\) of Tells must return a Symmetry, got list"):
        check_symmetry(Tells([1.0, -1.0]))
    assert check_symmetry(Tells(Symmetry(SAME, order([1, 0], [1, 1])), discrete=True)).actions.order.tolist() == [1, 0]

"""What every environment draws at the beginning of an episode: values, their effect, noise, lateness, resuming."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, variant
from epo_lightning.envs.allegro_kuka.layout import SENSED, block_sizes, entries_of
from epo_lightning.envs.allegro_kuka.objects import masses
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.allegro_kuka.randomization import UNITS, Randomization
from epo_lightning.limits import Mistake
from tests.support.command_line import Cli, refused
from tests.support.physics import mujoco_of

CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {
    "friction": (0.7, 1.3),
    "mass": (0.5, 2.0),
    "gains": (0.8, 1.25),
    "latency": (0, 2),
    "observation_noise": (0.0, 0.02),
    "action_noise": 0.05,
}


def make(num_envs: int = 4, seed: int = 0, task: str = "two_arm", **ranges: Any) -> AllegroKuka:
    randomization = Randomization(**ranges) if ranges else None
    return AllegroKuka(num_envs, CPU, seed, task=task, threads=1, randomization=randomization)


def actions(env: AllegroKuka, steps: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, env.spec.num_envs, env.spec.act_dim, generator=generator) - 1


def observed(env: AllegroKuka, moves: torch.Tensor) -> torch.Tensor:
    return torch.stack([env.step(move).obs.clone() for move in moves])


def test_values_are_drawn_from_their_ranges_with_names_and_units() -> None:
    env = make(64, **EVERYTHING)
    env.reset()
    names, units, values = env.drawn()
    assert names == tuple(UNITS)
    assert units[4] == "steps of 0.01667 s"
    low = torch.tensor([0.7, 0.5, 0.8, 0.8, 0.0, 0.0, 0.05])
    high = torch.tensor([1.3, 2.0, 1.25, 1.25, 2.0, 0.02, 0.05])
    assert ((low <= values) & (values <= high)).all()
    width = values.amax(0) - values.amin(0)
    assert (width[:4] > 0.8 * (high - low)[:4]).all()
    assert set(values[:, 4].tolist()) == {0.0, 1.0, 2.0}  # both ends can be drawn
    assert (values[:, 2] != values[:, 3]).all()  # stiffness and damping by themselves
    env.close()


def test_nothing_is_drawn_by_default() -> None:
    env = make()
    assert (env.drawn().names, env.drawn().values.shape) == ((), (4, 0))
    assert "randomization" not in env.state_dict()
    env.close()


def test_an_environment_draws_anew_when_its_own_episode_begins() -> None:
    env = make(**EVERYTHING)
    env.reset()
    before = env.drawn().values.clone()
    env.rules.memory.progress[2] = 598.0  # its time is over with the next step
    assert env.step(actions(env, 1)[0]).truncated.tolist() == [False, False, True, False]
    same = env.drawn().values == before
    assert same[[0, 1, 3]].all()
    assert not same[2, :4].any()
    env.close()


def test_factors_of_one_change_nothing_to_the_bit() -> None:
    one = (1.0, 1.0)
    plain, drawn = make(), make(friction=one, mass=one, gains=one, latency=(0, 0), observation_noise=0.0)
    moves = actions(plain, 30)
    assert torch.equal(plain.reset(), drawn.reset())
    assert torch.equal(observed(plain, moves), observed(drawn, moves))
    plain.close()
    drawn.close()


def test_starts_and_goals_are_those_of_an_environment_that_draws_nothing() -> None:
    plain, drawn = make(seed=3), make(seed=3, friction=(0.5, 2.0))
    assert torch.equal(plain.reset(), drawn.reset())
    assert torch.equal(plain.rules.memory.goal_pos, drawn.rules.memory.goal_pos)
    plain.close()
    drawn.close()


def test_other_seeds_draw_other_values() -> None:
    envs = [make(seed=seed, mass=(0.5, 2.0)) for seed in (1, 1, 2)]
    for env in envs:
        env.reset()
    a, b, c = (env.drawn().values for env in envs)
    assert torch.equal(a, b)
    assert not (a == c).any()


def test_the_engine_simulates_what_was_drawn() -> None:
    env = make(8, friction=(0.5, 1.5), mass=(0.5, 2.0), stiffness=(0.8, 1.2), damping=(0.5, 1.5))
    env.reset()
    friction, mass, stiffness, damping = env.drawn().values.double()[5].tolist()
    model = mujoco_of(env).snapshot(5)[0]
    thing = model.body("object").id
    own = masses(env.rules.scales.double())[5].item() * mass
    assert model.body_mass[thing] == pytest.approx(own, rel=1e-6)
    assert model.geom_friction[:, 0].tolist() == pytest.approx([friction] * model.ngeom)
    assert model.actuator_gainprm[0, 0] == pytest.approx(600 * stiffness)
    assert model.actuator_biasprm[0, :3].tolist() == pytest.approx([0, -600 * stiffness, -60 * damping])
    assert model.actuator_biasprm[45, :3].tolist() == pytest.approx([0, -3 * stiffness, -0.1 * damping])
    env.close()


def test_what_follows_from_the_mass_is_what_mujoco_derives_of_it() -> None:
    env = make(6, mass=(0.5, 2.0))
    env.reset()
    batch = mujoco_of(env).batch
    names = ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_M0", "dof_invweight0")
    ours = {name: torch.tensor(batch.expanded(name)) for name in names}
    batch.set_const()
    for name in names:
        torch.testing.assert_close(ours[name], torch.tensor(batch.expanded(name)), rtol=1e-9, atol=1e-12)
    env.close()


def test_an_action_takes_effect_so_many_control_steps_late() -> None:
    plain, late = make(3), make(3, latency=(2, 2))
    start, hold = plain.reset(), late.reset()
    assert torch.equal(start, hold)
    moves = actions(plain, 12)
    # what holds the pose of the start: of an absolute drive, the action that names the joints' angles
    at_rest = start[:, :46].clamp(-1, 1).expand(2, -1, -1)
    wanted = observed(plain, torch.cat([at_rest, moves[:10]]))[..., :92]
    torch.testing.assert_close(observed(late, moves)[..., :92], wanted, rtol=0, atol=1e-3)
    plain.close()
    late.close()


def test_every_environment_waits_for_its_own_latency() -> None:
    env = make(16, latency=(0, 3))
    env.reset()
    late, control = env.drawn().values[:, 0].long(), mujoco_of(env).batch.bind("ctrl")
    sent = [env.rules.memory.targets.clone()] * 3
    for move in actions(env, 6):
        env.step(move)
        sent.append(env.rules.memory.targets.clone())
        arrived = torch.stack(sent)[len(sent) - 1 - late, torch.arange(16)]
        assert torch.equal(torch.tensor(control).float(), arrived)
    env.close()


def test_observation_noise_reaches_what_a_robot_measures_alone() -> None:
    plain, noisy = make(256), make(256, observation_noise=0.05)
    difference = noisy.reset() - plain.reset()
    card = variant("two_arm", None, observe_obstacles=False)
    sensed = entries_of(card, SENSED)
    assert (difference[:, ~sensed] == 0).all()
    assert difference[:, sensed].std().item() == pytest.approx(0.05, rel=0.02)
    assert sensed.sum() == 196 - 3 - 5  # all but the object's scales and five numbers of the task
    again = noisy.step(torch.zeros(256, 46)).obs - plain.step(torch.zeros(256, 46)).obs
    assert again[:, sensed].std().item() == pytest.approx(0.05, rel=0.02)
    assert (again[:, 188:191] == 0).all()
    plain.close()
    noisy.close()


def test_action_noise_reaches_the_targets() -> None:
    plain, noisy = make(256), make(256, action_noise=0.1)
    plain.reset()
    noisy.reset()
    for env in (plain, noisy):
        env.step(torch.zeros(256, 46))
    shares = (noisy.rules.memory.targets - plain.rules.memory.targets) / plain.rules.half_range
    assert shares.std().item() == pytest.approx(0.1, rel=0.02)
    plain.close()
    noisy.close()


def test_blocks_of_the_layout_are_those_of_the_observation() -> None:
    for name in CARDS:
        card = variant(name, None, observe_obstacles=False)
        assert sum(block_sizes(card).values()) == card.obs_dim
    card = variant("two_arm", [Block((0.1, 0.1, 0.1), (0.0, 0.0, 0.6), 0.1)], observe_obstacles=True)
    assert sum(block_sizes(card).values()) == card.obs_dim


@pytest.mark.parametrize("task", ["two_arm", "single_arm_throw"])
def test_a_run_goes_on_to_the_bit(task: str) -> None:
    env, other = make(task=task, **EVERYTHING), make(task=task, **EVERYTHING)
    moves = actions(env, 30)
    env.reset()
    observed(env, moves[:9])
    env.rules.memory.progress[1] = 590.0 if task == "two_arm" else 290.0  # ends on the way
    file = io.BytesIO()
    torch.save(env.state_dict(), file)
    file.seek(0)
    wanted, drawn = observed(env, moves[9:]), env.drawn().values
    other.reset()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(observed(other, moves[9:]), wanted)
    assert torch.equal(other.drawn().values, drawn)
    env.close()
    other.close()


def test_other_ranges_hold_from_where_a_run_goes_on() -> None:
    plain, drawn, late = make(), make(mass=(0.5, 2.0)), make(mass=(3.0, 4.0), latency=(2, 2))
    for env in (plain, drawn):
        env.reset()
        observed(env, actions(env, 5))
    late.load_state_dict(plain.state_dict())
    assert ((late.drawn().values >= torch.tensor([3.0, 2.0])) & (late.drawn().values <= torch.tensor([4.0, 2.0]))).all()
    assert mujoco_of(late).snapshot(1)[0].body_mass.sum() > mujoco_of(plain).snapshot(1)[0].body_mass.sum()
    sent, control = plain.rules.memory.targets.clone(), mujoco_of(late).batch.bind("ctrl")
    for _ in range(2):  # until an action arrives
        late.step(torch.ones(4, 46))
        torch.testing.assert_close(torch.tensor(control).float(), sent)
    late.step(torch.ones(4, 46))
    assert (torch.tensor(control).float() != sent).any()
    plain.load_state_dict(drawn.state_dict())
    thing = mujoco_of(plain).model.body("object").id
    assert mujoco_of(plain).snapshot(1)[0].body_mass[thing] == pytest.approx(masses(plain.rules.scales)[1].item())
    observed(plain, actions(plain, 2))


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    state = make(mass=(0.5, 2.0)).state_dict()
    with pytest.raises(Mistake, match=r"num_envs must be 4 on this rank"):
        make(5, mass=(0.5, 2.0)).load_state_dict(state)


@pytest.mark.parametrize(
    ("ranges", "line"),
    [
        ({"friction": (1.3, 0.7)}, r"randomization\.friction must go from low to high: \[0\.7, 1\.3\]"),
        ({"mass": (-1.0, 2.0)}, r"randomization\.mass must be greater than 0 and at most 100, got -1\.0"),
        ({"mass": (1.0, float("inf"))}, r"randomization\.mass must be greater than 0 and at most 100, got inf"),
        ({"gains": (0.0, 1.0)}, r"randomization\.gains must be greater than 0"),
        ({"gains": (1.0, 2.0), "damping": (1.0, 2.0)}, r"gains and .*damping say the same thing twice"),
        ({"latency": (0, 31)}, r"randomization\.latency must be at least 0 and at most 30, got 31"),
        ({"observation_noise": -0.1}, r"randomization\.observation_noise must be at least 0"),
        ({"action_noise": (0.2, 0.1)}, r"randomization\.action_noise must go from low to high: \[0\.1, 0\.2\]"),
    ],
)
def test_ranges_of_which_nothing_can_be_drawn_are_refused(ranges: dict[str, Any], line: str) -> None:
    with pytest.raises(Mistake, match=line):
        make(2, **ranges)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{frction: [0.5, 1]}", "Randomization has no argument frction (did you mean friction?)"),
        ("{friction: [1, 0.5]}", "data.env.init_args.randomization.friction must go from low to high: [0.5, 1]"),
        ("{mass: 2}", "mass must be a list of 2 numbers or null; got 2"),
        ("{latency: [0, 1.5]}", "latency must be a list of 2 integers or null; got 1.5"),
        ("[1, 2]", "randomization must be keys and values (friction, mass, gains, "),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(cli: Cli, given: str, line: str) -> None:
    env = "--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka"
    refused(cli("fit", "--config", "tiny.yaml", env, f"--data.env.init_args.randomization={given}"), line)


def test_a_run_is_continued_with_it_and_evaluated_with_it_without_it_or_with_more_of_it(cli: Cli) -> None:
    ranges = "{mass: [0.5, 2], latency: [0, 2], observation_noise: 0.01}"
    env = ("--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka", "--data.env.init_args.task=single_arm_throw")
    key = "--data.env.init_args.randomization"
    assert cli("fit", "--config", "tiny.yaml", *env, f"{key}={ranges}", "--run_dir=a").code == 0
    returns = []
    for other in ([], [f"{key}.mass=[2, 3]"], [f"{key}=null"]):
        few = ("--data.eval_episodes=1", "--data.eval_envs=1")
        assert cli("validate", "--ckpt_path=a", *few, *other).code == 0
        returns.append(json.loads(Path("a/checkpoints/last.evaluation.json").read_text())["return"]["mean"])
    assert len(set(returns)) == 3
    assert cli("fit", "--ckpt_path=a", "--trainer.max_epochs=4").code == 0
    outcome = cli("fit", "--ckpt_path=a", "--trainer.max_epochs=5", f"{key}.mass=[1, 3]")
    assert outcome.code == 0
    assert "Changed on resume: data.env.init_args.randomization.mass [0.5, 2" in outcome.err + outcome.out

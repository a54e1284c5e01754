"""`validate --agents`: agents of a population side by side, whose returns are known; and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from epo_lightning import Mistake, Run
from tests.support.command_line import TINY, TINY_CEM_RL, TINY_SAC, Cli, refused
from tests.support.wages import STEPS

WORK = [0.0, 0.25, 0.5, -0.25]
"""What each of four agents does in every step; the champion is the second."""
CONFIG = """
algorithm: pbt
model:
  num_agents: 4
  network: {hidden: [4], log_std_min: -5, log_std_max: 2}
  rollout: {horizon: 4, num_epochs: 1, num_minibatches: 1}
data:
  env: {class_path: tests.support.wages.Wages}
  num_envs: 16
  eval_episodes: 20
  eval_envs: 5
  eval_seeds: 2
trainer: {accelerator: cpu, devices: 1, max_epochs: 1}
"""


def hire(cli: Cli, work: Sequence[float]) -> Path:
    """A run whose agents do that, whatever they see, and hardly anything else where they draw."""
    Path("pbt.yaml").write_text(CONFIG)
    assert cli("fit", "--config", "pbt.yaml", "--run_dir", "run").code == 0
    file = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(file)
    weights = checkpoint["state_dict"]
    weights["policy.action_head.weight"].zero_()
    weights["policy.action_head.bias"][:, 0] = torch.tensor(work)
    weights["policy.log_std"].fill_(-5.0)
    weights["policy.best"].fill_(1)
    torch.save(checkpoint, file)
    return file


def test_every_agent_is_told_beside_the_champion(cli: Cli) -> None:
    file = hire(cli, WORK)
    plain = cli("validate", "--ckpt_path", "run")
    before = json.loads(file.with_suffix(".evaluation.json").read_text())
    outcome = cli("validate", "--ckpt_path", "run", "--agents", "all", "--noise")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(plain.out.partition("Written")[0])
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    # 5 environments of each would be more than the training has: 4, each of which plays 5 episodes
    start = lines.index("4 agents by mean actions, 20 episodes of each in 4 environments")
    assert lines[start + 2 : start + 7] == [
        "champion 1 0 0",
        "agent 2, the best* 2 0 1",
        "agent 2 2 0 1",
        "agent 0 0 0 0",
        "agent 3 -1 0 0",
    ]
    assert "* chosen of 3 by half of its episodes, told by the other 10;" in outcome.out

    content = json.loads(file.with_suffix(".evaluation.json").read_text())
    told = content.pop("agents")
    assert content == before
    assert {name: told[name] for name in ("env_steps", "champion", "episodes", "envs")} == {
        "env_steps": 64, "champion": 1, "episodes": 20, "envs": 4,
    }  # fmt: skip
    assert [each["agent"] for each in told["mean"]["agents"]] == [0, 1, 2, 3]
    assert [each["return"]["mean"] for each in told["mean"]["agents"]] == [STEPS * each for each in WORK]
    assert [each["successes"]["mean"] for each in told["mean"]["agents"]] == [0, 0, 1, 0]
    best = told["mean"]["best"]
    assert (best["agent"], best["name"], best["episodes"], best["return"]["mean"]) == (2, "agent 2", 10, 2.0)
    drawn = [each["return"]["mean"] for each in told["drawn"]["agents"]]
    assert drawn == pytest.approx([STEPS * each for each in WORK], abs=0.05)
    assert drawn != [STEPS * each for each in WORK]

    standings = Run("run").evaluate_agents([2, 1], protocol=True)["mean"]
    assert list(standings.agents) == [2, 1]
    assert standings.agents[2]["return"][:3] == (2.0, 0.0, [2.0, 2.0])
    assert (standings.champion, standings.best, standings.episodes) == (1, None, 40)
    tested = json.loads(file.with_suffix(".test.json").read_text())["agents"]["mean"]
    assert [each["agent"] for each in tested["agents"]] == [2, 1]
    with pytest.raises(Mistake, match=r"--agents must be all, or numbers.*1\.5"):
        Run("run").evaluate_agents([0, 1.5])  # type: ignore[list-item]

    outcome = cli("validate", "--ckpt_path", "run", "--noise")
    assert "1 agent by drawn actions, 20 episodes of each in 5 environments" in outcome.out
    outcome = cli("report", "run", "--out", "page")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        (TINY, ["--agents=0,4"], ["there is no agent 4", "0 to 3"]),
        (TINY, ["--agents", "-1"], ["there is no agent -1", "0 to 3"]),
        (TINY, ["--agents=2,0,2"], ["--agents: 2 is named twice"]),
        (TINY, ["--agents=master"], ["--agents must be all, or numbers", "such as 0,1,5", "master"]),
        (TINY, ["--agents="], ["--agents must be all, or numbers"]),
        (TINY, ["--agents"], ["--agents needs a value"]),
        (TINY, ["--agent=0"], ["--agent is not a flag", "--agents"]),
        (TINY, ["--agents=all", "--noise=loud"], ["noise", "loud"]),
        (TINY, ["--agents=all", "--model.num_agents=1"], ["--agents", "one policy", "leave --agents out"]),
        (TINY_SAC, ["--agents=0"], ["--agents", "one policy"]),
    ],
)
def test_mistakes_are_one_line(cli: Cli, config: str, flags: list[str], words: list[str]) -> None:
    Path("mine.yaml").write_text(config)
    refused(cli("validate", "--config=mine.yaml", *flags), *words)


def test_a_command_that_does_not_take_it_names_those_that_do(cli: Cli) -> None:
    refused(cli("fit", "--config=tiny.yaml", "--agents=all"), "it belongs to validate, test, play and view")
    refused(cli("play", "--config=tiny.yaml", "--noise"), "it belongs to validate and test")


def test_an_actor_without_noise_says_so_and_plays_by_its_mean_actions(cli: Cli) -> None:
    Path("mine.yaml").write_text(TINY_CEM_RL)
    outcome = cli("test", "--config=mine.yaml", "--agents=3,0,4", "--noise", "--data.eval_seeds=1")
    assert outcome.code == 0, outcome.err
    assert "notice: --noise: policies of cem_rl have no noise of their own" in outcome.err
    assert "3 agents by mean actions" in outcome.out
    assert "drawn actions" not in outcome.out

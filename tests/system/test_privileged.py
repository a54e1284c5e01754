"""A training whose critic knows more than its actors."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.base import EnvFactory
from epo_lightning.envs.check import check_env
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.observations import Group
from epo_lightning.library.policy import load_policy
from epo_lightning.limits import Mistake
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.identity import Identity
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli
from tests.support.partly_seen import PartlySeen
from tests.support.sameness import assert_same, final_state
from tests.support.training import fit, small_data, small_module

CPU = torch.device("cpu")
ENV = "tests.support.partly_seen.PartlySeen"
METHODS = {
    "epo": "model: {num_agents: 2, network: {gene_dim: 2, hidden: [8], separate_critic: true, lstm_units: 4}}",
    "pbt": "algorithm: pbt\nmodel: {num_agents: 2, network: {hidden: [8], separate_critic: true}}",
    "sac": "algorithm: sac\nmodel: {network: {actor: [8], critic: [8]}, replay: {capacity_per_env: 20, batch_size: 16,"
    " warmup: 5, horizon: 4}}",
    "pql": "algorithm: pql\nmodel: {network: {actor: [8], critic: [8]}, replay: {capacity_per_env: 20, batch_size: 16,"
    " warmup: 5, horizon: 4}}",
    "cem_rl": "algorithm: cem_rl\nmodel: {num_agents: 5, network: {actor: [8], critic: [8]}, evolution: {parents: 1,"
    " gradient_members: 1}, replay: {capacity_per_env: 20, batch_size: 16, warmup: 3}, generation: {horizon: 4}}",
}


def build(**arguments: Any) -> PartlySeen:
    return PartlySeen(4, CPU, 0, **arguments)


def test_the_task_keeps_the_contract() -> None:
    check_env(build())
    assert build().reset().shape == (4, 4)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ((Group("all", 5),), "spec.groups: all 5 make 5 entries, and spec.obs_dim is 4"),
        ((Group("fate", 1, True), Group("clock", 3)), "spec.groups: privileged groups come last"),
    ],
)
def test_wrong_groups_break_the_contract(groups: tuple[Group, ...], words: str) -> None:
    with pytest.raises(Mistake, match=f"^{re.escape(words)}"):
        check_env(build(groups=groups))


class Unjoined(PartlySeen):
    """Returns its groups as they are."""

    def reset(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
        obs = super().reset()
        return {"clock": obs[:, :1], "noise": obs[:, 1:3], "fate": obs[:, 3:]}


def test_groups_that_are_not_joined_break_the_contract() -> None:
    with pytest.raises(
        Mistake, match=r"^reset\(\) must return a tensor, got dict: spec\.join\(\) makes one of named groups$"
    ):
        check_env(Unjoined(4, CPU, 0))


@pytest.mark.parametrize("discrete", [False, True])
def test_a_critic_that_is_told_explains_what_nobody_else_can(tmp_path: Path, discrete: bool) -> None:
    explained = {}
    for tells in (True, False):
        env: EnvFactory = partial(PartlySeen, tells=tells, discrete=discrete)
        rollout = {"horizon": 8, "num_epochs": 6, "n_step": 1}
        module = small_module(1, rollout=rollout, separate_critic=True, gene_dim=0)
        fit(module, small_data(64, env), tmp_path, 25)
        explained[tells] = float(module.dataset.diagnostics["losses/explained_variance"])
    assert explained[True] > 0.9
    assert explained[False] < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_every_algorithm_trains_resumes_to_the_bit_and_acts_on_what_actors_see(cli: Cli, method: str) -> None:
    data = f"data: {{env: {ENV}, num_envs: 20, eval_episodes: 8, eval_envs: 4}}"
    Path("case.yaml").write_text(f"{METHODS[method]}\n{data}\ntrainer: {{accelerator: cpu, devices: 1}}\n")
    fit = ("fit", "--config", "case.yaml", "--run_dir")
    whole = cli(*fit, "whole", "--trainer.max_epochs", 4)
    assert whole.code == 0
    assert "; observes clock 1, noise 2, fate 1 (privileged)\n" in whole.out
    assert cli(*fit, "parts", "--trainer.max_epochs", 2).code == 0
    assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 4).code == 0
    assert_same(final_state("whole"), final_state("parts"))
    assert cli("validate", "--ckpt_path", "parts").code == 0
    fate = {"name": "fate", "shape": 1, "privileged": True}
    assert read_checkpoint(Path("parts/checkpoints/last.ckpt"))["identity"]["groups"][2] == fate
    obs, said = build().reset(), []
    parts = {"noise": obs[:, 1:3], "clock": obs[:, :1]}
    for given in (obs, torch.cat([obs[:, :3], -obs[:, 3:]], dim=1), obs[:, :3], parts, {**parts, "fate": obs[:, 3:]}):
        said.append(load_policy("parts")(given))
        assert torch.equal(said[-1], said[0])
    with pytest.raises(Mistake, match=r"the group 'noise' is missing; the groups are clock 1, noise 2$"):
        load_policy("parts")({"clock": obs[:, :1]})
    with pytest.raises(Mistake, match=r"has shape \(3,\), several have \(N, 3\) \(or all 4 entries\); got \(4, 2\)$"):
        load_policy("parts")(obs[:, :2])
    outcome = cli("validate", "--ckpt_path", "parts", "--data.env.init_args.tells", "false")
    assert outcome.code == 2
    assert (
        "its observation is clock 1, noise 2, fate 1 (privileged), not clock 1, noise 2; leave data.env to the"
        " checkpoint" in outcome.err
    )


class Careless(EPOModule):
    """An algorithm of a user's own, of before there were groups."""

    @classmethod
    def build_policy(cls, identity: Identity) -> LatentActorCritic:
        settings = identity.settings("network", NetworkSettings)
        return LatentActorCritic(identity.obs_dim, identity.act_dim, 1, settings, identity.discrete)


def test_an_algorithm_that_knows_no_groups_does_not_give_secrets_away(cli: Cli) -> None:
    outcome = cli("fit", "--algorithm", f"{__name__}.Careless", "--data.env", ENV, "--data.num_envs", 8)
    assert outcome.code == 2
    assert "Careless would show its actors fate 1 (privileged): its build_policy() must give" in outcome.err


def test_a_critic_that_shares_the_actors_network_is_one_line(cli: Cli) -> None:
    outcome = cli("fit", "--config", "tiny.yaml", "--data.env", ENV)
    assert outcome.code == 2
    assert (
        outcome.err.strip()
        .splitlines()[-1]
        .endswith("shares the actor's network must not see; or let the task leave that out")
    )

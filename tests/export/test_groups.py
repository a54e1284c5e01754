"""A file takes what actors see: no privileged group, and images as rows of pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from epo_lightning import Policy as InTorch
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.observations import Group
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_runtime import Policy
from epo_runtime.folder import PolicyError
from tests.support.bright_side import SIDE
from tests.support.command_line import Cli

GROUPS = (Group("seen", 2), Group("secret", 1, privileged=True))
RECURRENT: dict[str, Any] = {"hidden": (8,), "lstm_units": 4, "separate_critic": True}
NETWORKS: dict[str, Callable[[], NormalizingPolicy]] = {
    "epo": lambda: LatentActorCritic(3, 2, 4, NetworkSettings(gene_dim=2, **RECURRENT), False, GROUPS),
    "pbt": lambda: StackedActorCritic(3, 2, 4, ActorCriticSettings(**RECURRENT), False, GROUPS),
    "cem_rl": lambda: StackedActor(4, 3, 2, CEMNetworkSettings(actor=(8,)), GROUPS),
    "sac": lambda: SquashedActor(3, 2, SACNetworkSettings(actor=(8,)), GROUPS),
    "pql": lambda: DeterministicActor(3, 2, PQLNetworkSettings(actor=(8,)), GROUPS),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("everybody", [True, False])
def test_what_a_file_keeps_takes_what_actors_see(name: str, everybody: bool) -> None:
    torch.manual_seed(0)
    policy = NETWORKS[name]().eval()
    for parameter in policy.parameters():  # a new actor of SAC does nothing
        torch.nn.init.normal_(parameter, std=0.2)
    policy.obs_moments.update(torch.randn(80, 3) * torch.tensor([1.0, 5.0, 100.0]) + 2)
    module = policy.standalone(0, discrete=False, everybody=everybody)
    who = [] if module.who is None else [module.who.of(0)]
    state, memory = policy.initial_state(5), [torch.zeros(5, *port.shape) for port in module.memory]
    for _ in range(3):
        obs = torch.randn(5, 3) * 3
        actions, state = policy.act(obs, torch.zeros(5, dtype=torch.int64), state)
        action, *memory = module(obs[:, :2], *who, *memory)
        torch.testing.assert_close(action, actions, atol=1e-6, rtol=0)
    assert actions.std() > 0.01


def trained(cli: Cli, env: str, network: str) -> None:
    Path("case.yaml").write_text(
        f"model: {{num_agents: 2, network: {network}, rollout: {{horizon: 4}}}}\n"
        f"data: {{env: tests.support.{env}, num_envs: 8, eval_episodes: 8}}\n"
        "trainer: {accelerator: cpu, devices: 1, max_epochs: 2}\n"
    )
    assert cli("fit", "--config", "case.yaml", "--run_dir", "run").code == 0


def test_a_policy_with_a_critic_that_knows_more_is_exported_without_what_it_knows(cli: Cli) -> None:
    trained(cli, "partly_seen.PartlySeen", "{gene_dim: 2, hidden: [8], lstm_units: 4, separate_critic: true}")
    outcome = cli("export", "run")
    assert outcome.code == 0, outcome.err
    told = yaml.safe_load(Path("run/policy/policy.yaml").read_text())["observation"]
    assert (told["size"], told["entries"]) == (3, [{"name": "clock", "size": 1}, {"name": "noise", "size": 2}])
    assert len(told["scaling"]["mean"]) == 3
    assert json.loads(Path("run/policy/parity.json").read_text())["largest_difference"] < 1e-5
    policy, in_torch = Policy.load("run/policy"), InTorch.load("run")
    for clock in (0.0, 1.0):  # both remember
        parts = {"noise": np.array([0.3, -0.2]), "clock": np.array([clock])}
        np.testing.assert_allclose(policy.act(parts), in_torch.act(parts | {"fate": np.array([1.0])}), atol=1e-6)
    with pytest.raises(PolicyError, match="fate"):
        policy.act(parts | {"fate": np.array([1.0])})
    by_gene = InTorch.load("run", gene=policy.genes[1])
    expected = InTorch.load("run", agent=1).act([0.0, 0.3, -0.2, 1.0])
    np.testing.assert_allclose(by_gene.act([0.0, 0.3, -0.2, 1.0]), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["onnx", "torchscript", "torch_export"])
def test_a_policy_that_sees_pictures_is_exported_with_its_encoder(cli: Cli, form: str) -> None:
    trained(cli, "bright_side.BrightSide", "{gene_dim: 2, hidden: [8], image_channels: [4], image_features: 8}")
    outcome = cli("export", "run", "--format", form)
    assert outcome.code == 0, outcome.err
    told = yaml.safe_load(Path("run/policy/policy.yaml").read_text())["observation"]
    assert told["size"] == SIDE * SIDE + 1
    assert told["entries"][0]["meaning"] == "image 6 x 6 x 1, row by row, entries 0 to 255"
    assert json.loads(Path("run/policy/parity.json").read_text())["largest_difference"] < 1e-5

"""Networks of every kind, small, with a normaliser that has seen something, and what exports them."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.export.formats import FILES, write
from epo_lightning.export.manifest import manifest, population_of
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.policy import NormalizingPolicy, Policy
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.learner.standalone import Standalone

OBS, ACT, AGENTS = 4, 3, 4
ENTRIES = Signals((Signal("position", 1, "m"), Signal("velocity", 3, "m/s")), (Signal("force", ACT, "N"),))


class Kind(NamedTuple):
    """A network, what it decides, and whether its agents differ by a gene, a number or not at all."""

    policy: Policy
    discrete: bool
    who: str | None


def make(name: str) -> Kind:
    """The network of an algorithm: `epo`, `epo lstm`, `epo choice`, `ppo`, `pbt`, `pbt lstm choice`, `sac`, ..."""
    torch.manual_seed(0)
    algorithm, *words = name.split()
    units, discrete = 5 if "lstm" in words else None, "choice" in words
    shape: dict[str, Any] = {"hidden": (8, 8), "lstm_units": units, "separate_critic": "separate" in words}
    policy: NormalizingPolicy
    if algorithm == "epo":
        policy = LatentActorCritic(OBS, ACT, AGENTS, NetworkSettings(gene_dim=3, **shape), discrete)
    elif algorithm == "ppo":
        policy = LatentActorCritic(OBS, ACT, 1, NetworkSettings(gene_dim=0, **shape), discrete)
    elif algorithm == "pbt":
        policy = StackedActorCritic(OBS, ACT, AGENTS, ActorCriticSettings(**shape), discrete)
        policy.champion = 2
    elif algorithm == "cem_rl":
        policy = StackedActor(AGENTS, OBS, ACT, CEMNetworkSettings(actor=(8,)))
    elif algorithm == "sac":
        policy = SquashedActor(OBS, ACT, SACNetworkSettings(actor=(8,)))
        for parameter in policy.mlp[-1].parameters():  # a new actor does nothing
            torch.nn.init.normal_(parameter)
    else:
        policy = DeterministicActor(OBS, ACT, PQLNetworkSettings(actor=(8,), layer_norm=True))
    policy.obs_moments.update(observations(100 * AGENTS, 7))
    who = {"epo": "gene", "pbt": "agent", "cem_rl": "agent"}.get(algorithm)
    return Kind(policy.eval(), discrete, who)


def observations(rows: int, seed: int) -> torch.Tensor:
    """(rows, OBS), far from 0 and from 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, OBS, generator=generator) * torch.tensor([1.0, 5.0, 0.1, 3.0]) + 2


def export_to(folder: Path, kind: Kind, form: str = "onnx", *, everybody: bool = True, opset: int = 18) -> Standalone:
    """Write the network and `policy.yaml`, as the command does."""
    policy = kind.policy
    module = policy.standalone(policy.champion, discrete=kind.discrete, everybody=everybody).eval()
    write(module, form, OBS, opset, folder / FILES[form], {"task": "Task"})
    spec = EnvSpec("Task", 1, OBS, ACT, step_seconds=0.05, discrete=kind.discrete)
    signals = Signals(ENTRIES.observation, tuple(Signal(f"choice_{each}", 1) for each in range(ACT)))
    text = manifest(
        module,
        {"name": FILES[form], "format": form},
        spec,
        signals if kind.discrete else ENTRIES,
        population_of(module, policy, policy.champion),
        {},
    )
    (folder / "policy.yaml").write_text(text)
    return module

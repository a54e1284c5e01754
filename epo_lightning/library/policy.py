"""Agents of a checkpoint that act, outside of any training.

Shape legend: N rows (environments), O observation entries, A action entries, K agents, Z gene entries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.cli.algorithm import is_known
from epo_lightning.cli.trust.allowlist import shown
from epo_lightning.cli.trust.signature import is_signed
from epo_lightning.learner.observations import join, seen_by_actors
from epo_lightning.learner.policy import Policy as Network
from epo_lightning.learner.standalone import GENE
from epo_lightning.limits import Mistake
from epo_lightning.modules import admit, algorithm_class, contents
from epo_lightning.modules.identity import Identity
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.checkpoint_contents import load_network
from epo_lightning.run.folder import find_checkpoint

Agents = int | Sequence[int] | np.ndarray | Tensor


class Policy:
    """One agent, or one per row, that acts on observations as its task gives them; `Policy.load` makes one.

    It normalises observations as the training did, and keeps the recurrent state from call to call: `reset` it where an
    episode begins. Actions are as the task's `VectorEnv.step` takes them: numbers in [-1, 1], or numbers of choices.

    Args:
        network: Of all agents.
        identity: What it was made for.
        agent: Who acts: a number, or one for each row; None for the one that is evaluated.
        seed: Of the noise of actions that are drawn.
        gene: (Z,) or (N, Z), who acts instead of an agent: any behaviour that the genes span.

    Attributes:
        network: Of all agents; its parameters may be read and changed.
        task: Name of the task.
        obs_dim: O, what an actor sees: without privileged groups.
        groups: Of that, in the order of the entries; () for one vector without a name.
        act_dim: A, or how many choices there are.
        discrete: Whether an action is a choice.
        num_agents: K.

    Raises:
        Mistake: When there is no such agent or gene.
    """

    def __init__(
        self,
        network: Network,
        identity: Identity,
        agent: Agents | None = None,
        seed: int = 0,
        gene: Any = None,  # noqa: ANN401  (an array, a tensor or a list)
    ) -> None:
        self.network = network
        self.task, self.discrete = identity.task, identity.discrete
        self.obs_dim, self.act_dim = seen_by_actors(identity.groups, identity.obs_dim), identity.act_dim
        self.groups = tuple(group for group in identity.groups if not group.privileged)
        self._names = {group.name for group in identity.groups}
        self._with_privileged = identity.obs_dim
        self.num_agents = network.num_agents
        given_agent, agent = agent is not None, network.champion if agent is None else agent
        self._agents = _agent_numbers(agent, self.num_agents).to(network.device)
        self._generator = torch.Generator(network.device).manual_seed(seed)
        self._state: Tensor | None = None
        self._gene: Tensor | None = None
        if gene is not None:
            if given_agent:
                raise Mistake("give an agent or a gene, not both")
            self._set_gene(gene)

    @classmethod
    def load(
        cls,
        source: object,
        agent: Agents | None = None,
        *,
        gene: Any = None,  # noqa: ANN401  (an array, a tensor or a list)
        device: str | torch.device = "cpu",
        trust: bool = False,
        seed: int = 0,
    ) -> "Policy":
        """Agents of a checkpoint, ready to act.

        Nothing of the checkpoint's environment, callbacks or loggers is imported.

        Args:
            source: A checkpoint, a run folder (for its last one), `last` or `best` (of the newest run below runs/), a
                `Run`, or `pretrained:NAME`, a policy that comes with the package.
            agent: Who acts, for all rows or for each; None for the one that is evaluated, the master where there is
                one.
            gene: (Z,) or (N, Z), who acts instead of an agent.
            device: Where.
            trust: Import the algorithm that somebody else's checkpoint names, which can run any code.
            seed: Of the noise of actions that are drawn.

        Raises:
            Mistake: When there is no such checkpoint, agent or gene, or it cannot be used.
        """
        path = find_checkpoint(str(getattr(source, "folder", source)), None)
        checkpoint = read_checkpoint(path)
        identity = contents.identity_of(checkpoint)
        if trust or is_signed(checkpoint[contents.CONFIG], checkpoint.get(contents.SIGNATURE)):
            admit(identity.algorithm)
        if not is_known(identity.algorithm):
            raise Mistake(
                f"{path} is none of your own runs, and its algorithm would import {shown(identity.algorithm)}: say"
                " trust=True if you trust who made it"
            )
        algorithm_class(identity.algorithm)
        try:
            network = load_network(checkpoint, torch.device(device))
        except (RuntimeError, AssertionError) as error:  # torch has no such device, or not in this machine
            raise Mistake(f"device: {device} cannot be used: {str(error).splitlines()[0]}") from error
        return cls(network.eval(), identity, agent, seed, gene)

    def reset(self, done: Any = None) -> None:  # noqa: ANN401  (an array, a tensor or a list)
        """Forget the episode.

        Args:
            done: (N,) which rows begin a new episode; None for all.

        Raises:
            Mistake: When it is not as long as the observations were.
        """
        if done is None or self._state is None:
            self._state = None
            return
        rows = torch.as_tensor(done, dtype=torch.bool, device=self._state.device)
        if rows.shape != (self._state.shape[1],):
            raise Mistake(f"done must have shape ({self._state.shape[1]},), as the observations; got {_shape(rows)}")
        self._state = self._state.masked_fill(rows[:, None], 0.0)

    def act(self, obs: Any, *, sample: bool = False) -> Any:  # noqa: ANN401  (as the observation)
        """What to do; to call the policy itself is the same.

        Args:
            obs: (O,) or (N, O), raw; an array, a tensor or a list. With privileged entries behind it will do, too, and
                so will a dictionary of its groups by name.
            sample: Draw the actions, as a training does, instead of taking the likeliest ones.

        Returns:
            (A,) or (N, A) float32; the number, or (N,) numbers, of choices: a tensor on the observation's device for a
            tensor, else an array.

        Raises:
            Mistake: When the observation has another shape, is no number, or has other rows than before.
        """
        given, single = self._read(obs)
        rows = len(given)
        who, acting = ("agents", self._agents) if self._gene is None else ("genes", self._gene)
        if len(acting) not in (1, rows):
            raise Mistake(f"{len(acting)} {who} act on as many observations, got {rows}")
        if self._state is None:
            self._state = self.network.initial_state(rows, self.network.device)
        if self._state.shape[1] != rows:
            if self._state.numel():
                raise Mistake(f"observations had {self._state.shape[1]} rows, now {rows}: reset() before others act")
            self._state = self.network.initial_state(rows, self.network.device)
        if self._gene is None:
            noise = (self._generator,) if sample else ()
            actions, self._state = self.network.act(given, self._agents.expand(rows), self._state, *noise)
        else:
            actions = self._act_by_gene(given, sample)
        actions = actions[0] if single else actions
        like = next(iter(obs.values())) if isinstance(obs, Mapping) else obs
        return actions.to(like.device) if isinstance(like, Tensor) else actions.cpu().numpy()[()]

    __call__ = act

    def _set_gene(self, gene: Any) -> None:  # noqa: ANN401  (an array, a tensor or a list)
        self._module = self.network.standalone(self.network.champion, discrete=self.discrete).to(self.network.device)
        who = self._module.who
        if who is None or who.name != GENE:
            raise Mistake(f"gene: agents of {self.task} have none: choose one by agent")
        given, size = self._numbers(gene, "the gene"), who.values.shape[1]
        if given.ndim not in (1, 2) or given.shape[-1] != size or not given.numel():
            raise Mistake(f"a gene has shape ({size},), several have (N, {size}); got {_shape(given)}")
        self._gene = torch.atleast_2d(given)

    @torch.no_grad()
    def _act_by_gene(self, obs: Tensor, sample: bool) -> Tensor:
        """The likeliest actions; of the state the actor's part goes on."""
        if sample:
            raise Mistake("sample: a gene has no noise of its own: choose an agent")
        assert self._state is not None
        memory = len(self._module.memory)
        said = self._module(obs, self._gene, *self._state[:memory])
        if memory:
            self._state = torch.cat([torch.stack(said[-memory:]), self._state[memory:]])
        action: Tensor = said[0]
        return action

    def _read(self, obs: Any) -> tuple[Tensor, bool]:  # noqa: ANN401  (whatever the caller gives)
        """(N, O) float32 where the network is, and whether there was one observation without a row."""
        if isinstance(obs, Mapping) and self.groups:
            given, single = self._read_groups(obs)
            given = given[0] if single else given
        else:
            given = self._numbers(obs, "the observation")
        if (
            given.ndim not in (1, 2)
            or given.shape[-1] not in (self.obs_dim, self._with_privileged)
            or not given.numel()
        ):
            more = f" (or all {self._with_privileged} entries)" if self._with_privileged > self.obs_dim else ""
            raise Mistake(
                f"an observation of {self.task} has shape ({self.obs_dim},), several have (N, {self.obs_dim}){more};"
                f" got {_shape(given)}"
            )
        return torch.atleast_2d(given)[:, : self.obs_dim], given.ndim == 1

    def _read_groups(self, parts: Mapping[str, Any]) -> tuple[Tensor, bool]:
        """(N, P) of the groups by name, and whether there was one observation without a row."""
        ranks = {group.name: 3 if group.is_image else 1 for group in self.groups}
        hidden = self._names - ranks.keys()  # what is privileged may be there: it is not looked at
        known = {name: self._numbers(value, "the observation") for name, value in parts.items() if name not in hidden}
        single = all(known[name].ndim <= rank for name, rank in ranks.items() if name in known)
        return join(self.groups, {name: value[None] if single else value for name, value in known.items()}), single

    def _numbers(self, given: Any, name: str) -> Tensor:  # noqa: ANN401  (whatever the caller gives)
        """Finite float32 where the network is."""
        try:
            numbers = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given))
            numbers = numbers.detach().to(self.network.device, torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Mistake(f"{name} must be numbers, got {type(given).__name__}") from error
        if not torch.isfinite(numbers).all():
            raise Mistake(f"{name} is not finite")
        return numbers


def load_policy(
    source: object,
    agent: Agents | None = None,
    *,
    device: str | torch.device = "cpu",
    trust: bool = False,
    seed: int = 0,
) -> Policy:
    """The same as `Policy.load`."""
    return Policy.load(source, agent, device=device, trust=trust, seed=seed)


def _agent_numbers(agent: Agents, count: int) -> Tensor:
    """(1,) or (N,) int64."""
    try:
        numbers = torch.as_tensor(agent)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0)
    is_number = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if numbers.ndim > 1 or not numbers.numel() or not is_number:
        raise Mistake(f"agent must be a number, or one for each row; got {agent!r}")
    if wrong := [each for each in numbers.reshape(-1).tolist() if not 0 <= each < count]:
        raise Mistake(f"agent: there is no agent {wrong[0]}; they are 0 (the master) to {count - 1}")
    return numbers.reshape(-1).long()


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))

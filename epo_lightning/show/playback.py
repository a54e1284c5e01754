"""Watching agents: an environment with one copy per label, and what acts in it.

Shape legend: M environments = labels, K agents, O observation entries, A action entries.

`play` films a playback, `VideoRecorder` films one while training, `view` shows one as it runs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from epo_lightning.envs.base import StepResult, VectorEnv
from epo_lightning.envs.contract import check_first, check_result, check_spec, refuse_unsound, sound
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake

POLICIES = ("random", "zero", "scripted")
"""What can act without a network: uniform in [-1, 1], not at all, or by the task's own controller."""
SEPARATOR = " · "
"""Between the parts of a caption."""


class Playback:
    """An environment and one actor per copy, with counts of what they achieve.

    Args:
        env: M environments.
        actors: M actors: numbers of agents, or names out of `POLICIES`.
        policy: The network of the agents; may be None when no agent acts.
        seed: Of the random policy.

    Attributes:
        env: The environment.
        labels: M names: "master", "follower 3", "champion", "random", "zero", "scripted".
        successes: (M,) goals reached in the running episode.
        returns: (M,) reward of the running episode.
        clock: (M,) steps of the running episode.
        episodes: (M,) episodes finished since `reset`.
        total_successes: (M,) goals reached since `reset`.

    Raises:
        Mistake: When an actor is unknown, or the task has no script.
    """

    def __init__(
        self, env: VectorEnv, actors: Sequence[int | str], policy: Policy | None = None, seed: int = 0
    ) -> None:
        assert check_spec(env).num_envs == len(actors)
        self.env, self.policy = env, policy
        self.labels = [_label(actor, policy) for actor in actors]
        self.generator = torch.Generator().manual_seed(seed)
        self._rows = {name: [row for row, actor in enumerate(actors) if actor == name] for name in POLICIES}
        self._script: Callable[[], Tensor] | None = env.script() if self._rows["scripted"] else None
        agents = [(row, actor) for row, actor in enumerate(actors) if isinstance(actor, int)]
        self._agent_rows = torch.tensor([row for row, _ in agents], dtype=torch.long)
        self._agents = torch.tensor([agent for _, agent in agents], dtype=torch.long)
        self.reset()

    def reset(self) -> None:
        """New episodes everywhere, and counts of zero."""
        self._obs = self.env.reset()
        check_first(self._obs, self.env.spec, None if self.policy is None else self.policy.device)
        device, count = self._obs.device, len(self.labels)
        self._agent_rows, self._agents = self._agent_rows.to(device), self._agents.to(device)
        if self.policy is not None:
            self._state = self.policy.initial_state(len(self._agents), device)
        self.successes = torch.zeros(count, device=device)
        self.returns = torch.zeros(count, device=device)
        self.total_successes = torch.zeros(count, device=device)
        self.clock = torch.zeros(count, dtype=torch.long, device=device)
        self.episodes = torch.zeros(count, dtype=torch.long, device=device)

    def step(self) -> StepResult:
        """Every actor acts once; where an episode ended, its counts and its recurrent state begin anew.

        Raises:
            Mistake: When the environment breaks its contract.
        """
        result = self.env.step(self._actions())
        check_result(result, self.env.spec, self._obs.device)
        refuse_unsound(self.env.spec, ~sound(result))
        done = result.terminated | result.truncated
        self.successes += result.successes
        self.total_successes += result.successes
        self.returns += result.reward
        self.clock += 1
        self.episodes += done
        for running in (self.successes, self.returns, self.clock):
            running.masked_fill_(done, 0)
        if self.policy is not None:
            self._state = self._state.masked_fill(done[self._agent_rows, None], 0.0)
        self._obs = result.obs
        return result

    def captions(self) -> list[str]:
        """What to write above each picture: label, counts and difficulty, joined by `SEPARATOR`."""
        units = self.env.curriculum_units
        difficulty = [_in_words(name, value, units.get(name, "")) for name, value in self.env.curriculum().items()]
        seconds = self.env.spec.step_seconds
        counts = self.successes, self.total_successes, self.returns, self.clock
        rows = zip(self.labels, *(count.tolist() for count in counts), strict=True)
        return [
            SEPARATOR.join(
                [
                    label,
                    f"{successes:.0f} success{'' if successes == 1 else 'es'}"
                    + (f" ({total:.0f} in all)" if total > successes else ""),
                    f"return {reward:.0f}" if abs(reward) >= 100 else f"return {reward:.3g}",
                    *difficulty,
                    f"step {clock}" if seconds is None else f"{clock * seconds:.1f} s",
                ]
            )
            for label, successes, total, reward, clock in rows
        ]

    def _actions(self) -> Tensor:
        """What every actor does next, as `VectorEnv.step` takes it."""
        actions = self.env.spec.zero_actions().to(self._obs.device)
        if self.policy is not None and len(self._agents):
            likeliest, self._state = self.policy.act(self._obs[self._agent_rows], self._agents, self._state)
            actions[self._agent_rows] = likeliest
        if rows := self._rows["random"]:
            actions[rows] = self.env.spec.random_actions(self.generator)[rows].to(actions.device)
        if self._script is not None:
            rows = self._rows["scripted"]
            actions[rows] = self._script()[rows]
        return actions


def _label(actor: int | str, policy: Policy | None) -> str:
    if isinstance(actor, str):
        if actor not in POLICIES:
            raise Mistake(f"--policy must be one of {', '.join(POLICIES)}; got {actor!r}")
        return actor
    agents = 0 if policy is None else policy.num_agents
    if policy is None or not 0 <= actor < agents:
        raise Mistake(f"--agents: there is no agent {actor}; they are 0 (the master) to {agents - 1}")
    return policy.name_of(actor)


def _in_words(name: str, value: float, unit: str) -> str:
    """A value of a curriculum in words; lengths in metres are given in centimetres."""
    return f"{name} {100 * value:.1f} cm" if unit == "m" else f"{name} {value:.3g} {unit}".rstrip()

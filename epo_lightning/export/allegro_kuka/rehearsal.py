"""Recorded steps of a task with all that its page must repeat: random numbers, targets, states of the physics.

Shape legend: T steps, P observation entries that actors see, D joints.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from epo_lightning.envs.allegro_kuka.env import AllegroKuka
from epo_lightning.export.allegro_kuka.draws import Noted
from epo_lightning.export.allegro_kuka.rules import packed
from epo_lightning.export.allegro_kuka.scene import encoded
from epo_lightning.learner.policy import Policy


class Clip(NamedTuple):
    """The beginning of an episode of one agent.

    Attributes:
        memory: What the rules remembered before.
        begin: Random numbers of the reset.
        draws: Of each of T steps.
        series: By name, (T, size); `observation` (T + 1, P).
    """

    memory: list[float]
    begin: list[float]
    draws: list[list[float]]
    series: dict[str, np.ndarray]


@torch.no_grad()
def rehearse(env: AllegroKuka, policy: Policy, agent: int, steps: int) -> Clip:
    """Let an agent play one environment from the reset on, for `steps` steps or until the episode ends.

    The step that ends an episode is left out: where the physics had come to is gone then.
    """
    acting, state = torch.tensor([agent]), policy.initial_state(1)
    memory = packed(env.rules.memory)[0].tolist()
    rows: dict[str, list[np.ndarray]] = {}
    draws: list[list[float]] = []
    with Noted() as noted:
        obs = env.reset()
        begin = noted.take()
    seen = [obs[0, : env.spec.seen].double().numpy().copy()]
    thing = env.physics.model.body("object").id
    for _ in range(steps):
        actions, state = policy.act(obs[:, : env.spec.seen], acting, state)
        with Noted() as noted:
            result = env.step(actions)
        if bool((result.terminated | result.truncated).any()):
            break
        draws.append(noted.take())
        obs = result.obs
        seen.append(obs[0, : env.spec.seen].double().numpy().copy())
        _, data = env.physics.snapshot(0)
        outcome = [float(result.reward), float(result.successes), 0.0]
        row = {
            "action": actions[0].double().numpy(),
            "targets": data.ctrl,
            "force": data.xfrc_applied[thing, :3],
            "moved": np.concatenate([data.qpos, data.qvel, data.sensordata]),
            "warmstart": data.qacc_warmstart,
            "outcome": np.array(outcome),
        }
        for name, values in row.items():
            rows.setdefault(name, []).append(values.copy())
    series = {name: np.stack(values) for name, values in rows.items()} | {"observation": np.stack(seen)}
    return Clip(memory, begin, draws, series)


def told(clip: Clip, agent: int, place: int) -> dict[str, Any]:
    """A clip as the page reads it, with the agent and the number of its object."""
    series = {name: encoded(values) for name, values in clip.series.items()}
    return {
        "agent": agent,
        "object": place,
        "memory": clip.memory,
        "begin": clip.begin,
        "draws": clip.draws,
        "series": series,
    }

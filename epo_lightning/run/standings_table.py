"""What `--agents` makes an evaluation tell: a table of agents side by side, and the same numbers as JSON."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from epo_lightning.documents.action_kinds import ACTION_KINDS
from epo_lightning.experience.evaluation import Summary
from epo_lightning.experience.standings import Standings

_SHOWN = 10
"""Most agents in the table besides the champion and the best; the file has all."""
_COLUMNS = ("return", "standard error", "successes")
Naming = Callable[[int], str]
"""The number of an agent -> what it is called."""


def told_standings(several: Mapping[str, Standings], name_of: Naming) -> str:
    """A table for each kind of actions."""
    return "\n\n".join(_table(ACTION_KINDS[kind], each, name_of) for kind, each in several.items())


def _table(kind: str, standings: Standings, name_of: Naming) -> str:
    """The champion and the best other one first, then everybody by return."""
    count = len(standings.agents)
    heading = (
        f"{count} agent{'s' if count > 1 else ''} by {kind}, {standings.episodes} episodes of each in"
        f" {standings.envs} environments"
    )
    succeeds = any(any(summaries["successes"].seed_means) for summaries in standings.agents.values())
    rows: list[tuple[str, Mapping[str, Summary]]] = []
    if standings.champion in standings.agents:
        rows.append((name_of(standings.champion), standings.agents[standings.champion]))
    best = standings.best
    if best is not None:
        rows.append((f"{name_of(best.agent)}, the best*", best.summaries))
    others = [agent for agent in standings.agents if agent != standings.champion]
    ranked = sorted(others, key=lambda agent: -standings.agents[agent]["return"].mean)
    rows += [(name_of(agent), standings.agents[agent]) for agent in ranked[:_SHOWN]]
    lines = [heading, f"{'':24}" + "".join(f"{title:>16}" for title in _COLUMNS)]
    for name, summaries in rows:
        result = summaries["return"]
        values = (result.mean, result.standard_error, summaries["successes"].mean if succeeds else math.nan)
        lines.append(f"{name:24}" + "".join(f"{'-' if math.isnan(value) else f'{value:.4g}':>16}" for value in values))
    if len(ranked) > _SHOWN:
        lines.append(f"and {len(ranked) - _SHOWN} more, whose returns are lower")
    if best is not None:
        lines.append(
            f"* chosen of {len(others)} by half of its episodes, told by the other {best.episodes}; below it stand the"
            " means of all episodes, the highest of which is too high"
        )
    return "\n".join(lines)


def standings_as_json(several: Mapping[str, Standings], name_of: Naming, env_steps: int) -> dict[str, Any]:
    """All agents, as plain values.

    Args:
        several: By kind of actions.
        name_of: What agents are called.
        env_steps: Of the training, when they were like this.
    """
    first = next(iter(several.values()))
    return {
        "env_steps": env_steps,
        "champion": first.champion,
        "episodes": first.episodes,
        "envs": first.envs,
        **{kind: _as_json(each, name_of) for kind, each in several.items()},
    }


def _as_json(standings: Standings, name_of: Naming) -> dict[str, Any]:
    def agent(number: int, summaries: Mapping[str, Summary]) -> dict[str, Any]:
        return {"agent": number, "name": name_of(number), **summaries_as_json(summaries)}

    best = standings.best
    return {
        "best": best and {**agent(best.agent, best.summaries), "episodes": best.episodes},
        "agents": [agent(number, summaries) for number, summaries in standings.agents.items()],
    }


def summaries_as_json(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    """Plain values; what is not a number becomes null."""
    return {
        name: {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in summary._asdict().items()
        }
        for name, summary in summaries.items()
    }

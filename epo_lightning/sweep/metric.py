"""The metric of a search: what can be known of it before any run has logged one."""

import re
from collections.abc import Mapping
from typing import Any

from epo_lightning.documents.nearest import hint, nearest
from epo_lightning.limits import Mistake
from epo_lightning.run.code import has_own_classes
from epo_lightning.run.columns import FIRST, MOMENT

_CHARTS = "charts/"
_KNOWN = (*(name for name in FIRST if name.startswith(_CHARTS)), "charts/generation")
_OF_AN_AGENT = re.compile(r"agents/\w+/(\d+)")


def require_metric(where: str, metric: str, config: Mapping[str, Any], *, agents_may_vary: bool) -> None:
    """Refuse a metric that no run of this package can log.

    Which columns `env/`, `losses/` and `population/` have, task and algorithm know alone; classes of one's own may log
    whatever they like.

    Args:
        where: Its place in the file.
        metric: The column.
        config: What the trials have in common, resolved.
        agents_may_vary: The search tries several numbers of agents.

    Raises:
        Mistake: With the nearest metric that there is.
    """
    if metric == MOMENT:
        raise Mistake(f"{where}: {metric} is a time of day, not a number")
    if has_own_classes(config):
        return
    if metric.startswith(_CHARTS) and metric not in _KNOWN:
        raise Mistake(f"{where}: no run logs {metric}{hint(metric, _KNOWN)}; there are {', '.join(_KNOWN)}")
    short = {name.removeprefix(_CHARTS): name for name in _KNOWN}
    if "/" not in metric and (meant := nearest(metric, short)) is not None:
        raise Mistake(f"{where}: no run logs {metric} (did you mean {short[meant]}?)")
    agents = (config.get("model") or {}).get("num_agents")
    found = _OF_AN_AGENT.fullmatch(metric)
    if found and isinstance(agents, int) and not agents_may_vary and int(found[1]) >= agents:
        raise Mistake(f"{where}: {metric} is of an agent that there is not: model.num_agents is {agents}, from 0")

"""Names and configurations of tasks."""

from copy import deepcopy
from typing import Any

_REGISTRY: dict[str, Any] = {}


def register_mjlab_task(task_id: str, env_cfg: Any) -> None:
    _REGISTRY[task_id] = env_cfg


def list_tasks() -> list[str]:
    return sorted(_REGISTRY)


def load_env_cfg(task_name: str) -> Any:
    return deepcopy(_REGISTRY[task_name])

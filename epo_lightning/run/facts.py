"""What a run is made with and on: versions, the state of the code, machine, command line."""

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch

from epo_lightning.run.code import made_by
from epo_lightning.run.secrets import command_without_secrets


def device_facts(device: torch.device, ranks: int) -> dict[str, Any]:
    """What computes: the kind of device, its name, how many ranks there are, and threads of each."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"kind": device.type, "name": name, "ranks": ranks, "threads": torch.get_num_threads()}


def facts(device: torch.device, ranks: int, command: Sequence[str], config: object) -> dict[str, Any]:
    """Everything, as plain values without secrets.

    Args:
        device: Of this rank.
        ranks: How many there are.
        command: The command line as the user gave it.
        config: What it means.
    """
    return {
        **made_by(),
        "host": platform.node(),
        "device": device_facts(device, ranks),
        "command": command_without_secrets(command, config),
        "working_folder": _working_folder(),
    }


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


def _processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

"""Why a card cannot be used, and why several are no faster than the slowest: one line each.

A driver runs what was built for its own major version of CUDA or an older one; the limits are those of NVIDIA's table
of minor version compatibility.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from epo_lightning.cli.doctor.finding import Gpu, find_gpus, one_line

if TYPE_CHECKING:
    import lightning as L

_DRIVERS = {"11": (450, 80), "12": (525, 60), "13": (580, 65)}
"""Oldest driver for each major version of CUDA."""
_PYTORCH = "pytorch.org/get-started"


def why_unusable(gpus: Sequence[Gpu]) -> str:
    """What keeps torch from computing on the first of `gpus`, and the remedy; empty where nothing does.

    Args:
        gpus: As the driver names them.
    """
    import torch

    if not gpus:
        return ""
    name, cuda, driver = gpus[0].name, torch.version.cuda, gpus[0].driver
    if torch.cuda.is_available():
        return next(filter(None, map(_without_kernels, range(torch.cuda.device_count()))), "")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides the {name}: unset it, or name the card's number there"
    if cuda is None:
        own = f"torch {torch.__version__} is built for the CPU and cannot use the {name}"
        return f"{own}: install torch for CUDA ({_PYTORCH})"
    needed = _DRIVERS.get(cuda.partition(".")[0])
    if needed is not None and driver and _numbers(driver) < needed:
        return (
            f"driver {driver} of the {name} is too old for torch {torch.__version__} (CUDA {cuda}), which needs"
            f" {needed[0]}.{needed[1]} or newer: update the driver, or install torch for an older CUDA ({_PYTORCH})"
        )
    try:
        torch.cuda.init()
        reason = "it says no more"
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
    return f"torch {torch.__version__} (CUDA {cuda}, driver {driver or 'unknown'}) does not see the {name}: {reason}"


def unused_card(accelerator: object) -> str:
    """That a run goes to the CPU although there is a card, and why; empty where that was asked for, or there is none.

    Args:
        accelerator: `trainer.accelerator`.
    """
    import torch

    if accelerator != "auto" or "CUDA_VISIBLE_DEVICES" in os.environ or torch.cuda.is_available():
        return ""
    reason = why_unusable(find_gpus())
    return f"this run goes to the CPU: {reason}; --trainer.accelerator cpu says that it shall" if reason else ""


def _without_kernels(index: int) -> str:
    """Of card number `index`, when this build of torch has no kernels for it."""
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    known = [each.partition("_")[::2] for each in torch.cuda.get_arch_list()]
    own = [int(number.rstrip("abcdefgh")) for kind, number in known if kind == "sm"]
    portable = [int(number.rstrip("abcdefgh")) for kind, number in known if kind == "compute"]
    capability = 10 * major + minor
    runs = any(each // 10 == major and each <= capability for each in own) or any(
        each <= capability for each in portable
    )
    if runs or not known:
        return ""
    return (
        f"torch {torch.__version__} has no kernels for the {torch.cuda.get_device_name(index)} (compute capability"
        f" {major}.{minor}; it has {', '.join(torch.cuda.get_arch_list())}): install another build ({_PYTORCH}), or use"
        " --trainer.accelerator cpu"
    )


def mixed_cards(names: Sequence[str]) -> str:
    """That all wait for the slowest card, where `names`, in the order of the ranks, are not all the same; or empty."""
    if len(set(names)) < 2:
        return ""
    each = [
        f"{name} ({_plural('rank', [str(rank) for rank, own in enumerate(names) if own == name])})"
        for name in dict.fromkeys(names)
    ]
    return (
        f"trainer.devices: the cards differ: {', '.join(each)}; every rank has the same number of environments, so all"
        " wait for the slowest card, and the smallest memory limits data.num_envs; name equal ones, such as"
        " --trainer.devices '[0, 1]'"
    )


def cards_of(trainer: "L.Trainer") -> list[str]:
    """The names of the cards of this machine's ranks, in their order."""
    import torch

    return [torch.cuda.get_device_name(device) for device in getattr(trainer.strategy, "parallel_devices", None) or []]


def _plural(noun: str, numbers: Sequence[str]) -> str:
    return f"{noun}{'s' * (len(numbers) != 1)} {', '.join(numbers)}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

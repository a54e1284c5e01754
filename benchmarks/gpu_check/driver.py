"""Driver, cards, torch, Warp: whether they fit each other, and whether each computes."""

import platform
from typing import Any

import torch

from benchmarks.gpu_check.stage import Report, Setting
from epo_lightning.cli.doctor.cards import mixed_cards, why_unusable
from epo_lightning.cli.doctor.finding import find_gpus
from epo_lightning.limits import Mistake
from epo_lightning.run.facts import device_facts


def find_out(setting: Setting, report: Report) -> None:
    """Name the card; a product of matrices and a kernel of Warp agree with the CPU."""
    gpus, device = find_gpus(), setting.device
    report.tell(card=str(device), gpus=[gpu._asdict() for gpu in gpus], machine=platform.platform())
    report.tell(torch_cuda=torch.version.cuda, torch_sees=torch.cuda.device_count())
    if device.type == "cuda":
        if line := why_unusable(gpus):
            report.fault(line)
        if not torch.cuda.is_available():
            report.tell(ends_all=True)
            raise SystemExit("no card that torch can use; --device cpu --toy shows that the check itself runs")
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if line := mixed_cards(names):
            report.fault(line)
        own = torch.cuda.get_device_properties(device)
        report.tell(memory_gib=round(own.total_memory / 2**30, 1), capability=f"{own.major}.{own.minor}")
        report.tell(
            free_gib=round(torch.cuda.mem_get_info(device)[0] / 2**30, 1), architectures=torch.cuda.get_arch_list()
        )
    report.tell(card=device_facts(device, 1)["name"] if device.type == "cuda" else "Warp's CPU device")
    matrix = torch.rand(512, 512, generator=torch.Generator().manual_seed(0))
    error = ((matrix.to(device) @ matrix.to(device)).cpu() - matrix @ matrix).abs().max().item()
    report.tell(product_error=error)
    if not error < 1e-1:  # 512 products of numbers below 1; TF32 keeps 10 bits
        report.fault(f"a product of matrices on {device} is off by {error:g}")
    report.tell(warp=_warp(device, report))


def _warp(device: torch.device, report: Report) -> dict[str, Any]:
    """What Warp says of itself, and whether it counts to 64 there."""
    try:
        from epo_lightning.physics.warp_worlds import warp_device, wp
    except Mistake as mistake:
        report.fault(str(mistake))
        return {}
    wp.config.log_level = wp.LOG_ERROR
    wp.init()
    known: dict[str, Any] = {"version": wp.__version__, "devices": [str(each) for each in wp.get_devices()]}
    if device.type == "cuda":
        known["driver"] = str(wp.get_cuda_driver_version())
        known["conditional_graphs"] = wp.is_conditional_graph_supported()
        if not known["conditional_graphs"]:
            report.fault(
                "this driver has no conditional graphs (CUDA 12.4): the solver always makes all its iterations"
            )
    with wp.ScopedDevice(warp_device(device)):
        counts = torch.zeros(64, device=device)
        wp.copy(wp.from_torch(counts), wp.array(list(range(64)), dtype=wp.float32))
        wp.synchronize_device()
    if counts.tolist() != [float(number) for number in range(64)]:
        report.fault(f"what Warp writes on {device}, torch does not read")
    return known

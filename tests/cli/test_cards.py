"""A card that cannot be used, cards that differ, and a card that is full: one line each."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.cli.doctor.cards import mixed_cards, unused_card, why_unusable
from epo_lightning.cli.doctor.finding import Gpu
from epo_lightning.cli.full_memory import naming_full_memory
from epo_lightning.limits import Mistake
from tests.support.command_line import Cli

VERSION = torch.__version__


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A torch that was built otherwise, and what it sees."""

    def build(
        cuda: str | None, sees: bool = False, architectures: tuple[str, ...] = (), capability: tuple[int, int] = (8, 0)
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: sees)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(sees))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "A card")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))

        def init() -> None:
            raise RuntimeError("CUDA unknown error -\nthis may be due to an incorrectly set up environment")

        monkeypatch.setattr(torch.cuda, "init", init)

    return build


UPDATE = "or newer: update the driver, or install torch for an older CUDA (pytorch.org/get-started)"
UNSEEN = "does not see the V100: CUDA unknown error - this may be due to an incorrectly set up environment"


@pytest.mark.parametrize(
    ("cuda", "driver", "line"),
    [
        (
            None,
            "570.86",
            f"torch {VERSION} is built for the CPU and cannot use the V100: install torch for CUDA"
            " (pytorch.org/get-started)",
        ),
        (
            "12.8",
            "470.57.02",
            f"driver 470.57.02 of the V100 is too old for torch {VERSION} (CUDA 12.8), which needs 525.60 {UPDATE}",
        ),
        (
            "13.0",
            "570.86.15",
            f"driver 570.86.15 of the V100 is too old for torch {VERSION} (CUDA 13.0), which needs 580.65 {UPDATE}",
        ),
        ("12.8", "525.60.13", f"torch {VERSION} (CUDA 12.8, driver 525.60.13) {UNSEEN}"),
        ("99.1", "", f"torch {VERSION} (CUDA 99.1, driver unknown) {UNSEEN}"),
    ],
)
def test_why_a_card_is_not_used(built: Callable[..., None], cuda: str | None, driver: str, line: str) -> None:
    built(cuda)
    assert why_unusable([Gpu("V100", math.nan, driver)]) == line
    assert why_unusable([]) == ""


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (("sm_70", "sm_80", "sm_90a"), (8, 0), True),
        (("sm_80",), (8, 9), True),
        (("sm_75", "sm_80"), (6, 1), False),
        (("sm_80", "sm_90"), (12, 0), False),
        (("sm_80", "compute_90"), (12, 0), True),
        (("compute_90",), (8, 0), False),
    ],
)
def test_a_build_without_kernels_for_the_card_is_named(
    built: Callable[..., None], architectures: tuple[str, ...], capability: tuple[int, int], runs: bool
) -> None:
    built("12.8", True, architectures, capability)
    line = why_unusable([Gpu("A card", 1.0)])
    assert bool(line) is not runs
    if not runs:
        major, minor = capability
        assert line.startswith(
            f"torch {VERSION} has no kernels for the A card (compute capability {major}.{minor}; it has"
        )


def test_a_card_that_is_hidden_is_said_to_be(built: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    built("12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert why_unusable([Gpu("L4", 8.9, "570.1")]).startswith("CUDA_VISIBLE_DEVICES='' hides the L4: ")


def test_cards_that_differ_are_named_with_their_ranks() -> None:
    assert mixed_cards([]) == mixed_cards(["L4"]) == mixed_cards(["L4", "L4"]) == ""
    assert mixed_cards(["H100", "L4", "H100"]) == (
        "trainer.devices: the cards differ: H100 (ranks 0, 2), L4 (rank 1); every rank has the same number of"
        " environments, so all wait for the slowest card, and the smallest memory limits data.num_envs; name equal"
        " ones, such as --trainer.devices '[0, 1]'"
    )


class TestARun:
    @pytest.fixture(autouse=True)
    def _old_driver(self, built: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built("12.8")
        program = tmp_path / "programs" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho 'V100, 7.0, 470.57.02'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def test_that_goes_to_the_cpu_says_why(self) -> None:
        assert unused_card("auto").startswith(
            "this run goes to the CPU: driver 470.57.02 of the V100 is too old for torch"
        )
        assert unused_card("cpu") == unused_card("gpu") == ""

    def test_that_was_to_go_to_the_card_is_refused_with_the_reason(self, cli: Cli) -> None:
        outcome = cli("fit", "--config=tiny.yaml", "--trainer.accelerator=gpu")
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert outcome.err.startswith("error: trainer.accelerator: ")
        assert "driver 470.57.02 of the V100 is too old" in outcome.err


class TestFullMemory:
    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (
                torch.OutOfMemoryError(
                    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which"
                    " 10.25 GiB is free. Process 1 has 60 GiB memory in use."
                ),
                "20.00 GiB were wanted, of 79.10 GiB 10.25 GiB were free;",
            ),
            (
                RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error"),
                "99 bytes were wanted;",
            ),
            (RuntimeError("Failed to allocate 1234 bytes on device 'cuda:0'"), "1234 bytes were wanted;"),
        ],
    )  # fmt: skip
    def test_is_one_line_with_the_numbers(self, error: Exception, line: str) -> None:
        with pytest.raises(Mistake) as refused, naming_full_memory():
            raise error
        assert str(refused.value).startswith(f"out of memory: {line} lower data.num_envs, raise model.rollout.")

    def test_other_errors_are_what_they_were(self) -> None:
        with pytest.raises(RuntimeError, match=r"^a bug$"), naming_full_memory():
            raise RuntimeError("a bug")

    def test_ends_a_run_in_one_line(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0")

        monkeypatch.setattr("epo_lightning.modules.epo.hybrid_loss", full)
        outcome = cli("fit", "--config=tiny.yaml", "--run_dir=run")
        assert outcome.code == 2
        assert outcome.err.splitlines()[-1].startswith(
            "error: out of memory: 2.00 MiB were wanted; lower data.num_envs"
        )

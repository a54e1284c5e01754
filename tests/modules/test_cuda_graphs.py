"""An update and a rollout that are replayed are those that are computed; on a CPU build a replay is imitated.

The imitation keeps to what a graph can: it runs on memory of its own, into which every call's inputs are copied, and
knows nothing of what Python does besides.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.learner import cuda_graph
from epo_lightning.learner.cuda_graph import WARM_UP, Recorded, Work, why_without_graphs
from epo_lightning.modules import epo
from epo_lightning.modules.epo import EPOModule
from tests.support.command_line import Cli
from tests.support.training import evolution, fit, small_data, small_module

replays: list[str] = []
"""What was replayed."""


def imitate(work: Work, inputs: tuple[Tensor, ...]) -> Work:
    """In the place of `record_cuda`."""
    own = tuple(part.detach().clone() for part in inputs)

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        replays.append(getattr(work, "__name__", work.func.__name__ if hasattr(work, "func") else ""))
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        return tuple(part.detach().clone() for part in work(*own))

    return replay


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> None:
    replays.clear()
    monkeypatch.setattr(cuda_graph, "record_cuda", imitate)
    monkeypatch.setattr(cuda_graph, "call_aside", lambda work, inputs: work(*inputs))
    monkeypatch.setattr(epo, "why_without_graphs", lambda *_: "")


def trained(folder: Path, graphs: bool | None, network: dict[str, Any], **changes: Any) -> EPOModule:
    rollout = {"num_minibatches": 3, "num_epochs": 2, **changes.pop("rollout", {})}
    module = small_module(rollout=rollout, **network)
    module.cuda_graphs = graphs
    fit(module, small_data(), folder, 5, callbacks=[evolution()], **changes)
    return module


@pytest.mark.usefixtures("imitation")
@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ({}, {}),
        ({"lstm_units": 6}, {}),
        ({"separate_critic": True}, {}),
        ({"separate_critic": True, "lstm_units": 6}, {"precision": "bf16-mixed"}),
        ({}, {"rollout": {"minibatch_size": 10, "num_minibatches": None}}),
    ],
    ids=["mlp", "lstm", "own critic", "lstm in bf16", "by size"],
)
def test_what_is_replayed_is_what_is_computed(tmp_path: Path, network: dict[str, Any], changes: dict[str, Any]) -> None:
    plain, replayed = (trained(tmp_path / str(graphs), graphs, network, **changes) for graphs in (False, True))
    assert {"_descend", "_say"} <= set(replays)
    for (name, ours), theirs in zip(replayed.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    same = {name for name, value in plain.metrics.items() if not name.startswith(("time/", "charts/sps"))}
    assert {name: replayed.metrics[name] for name in same} == {name: plain.metrics[name] for name in same}
    assert replayed.trainer.global_step == plain.trainer.global_step > 2 * WARM_UP


class TestRecorded:
    def test_every_size_is_recorded_once_after_it_was_called_as_it_is(self) -> None:
        called, recorded = [], []

        def work(x: Tensor) -> tuple[Tensor]:
            called.append(len(x))
            return (x * 2,)

        def record(_: Work, inputs: tuple[Tensor, ...]) -> Work:
            recorded.append(len(inputs[0]))
            return lambda x: (x * 3,)

        double = Recorded(work, "it", record, lambda work, inputs: work(*inputs))
        for size in (1, 2):
            for _ in range(WARM_UP):
                assert torch.equal(double(torch.ones(size))[0], torch.full((size,), 2.0))
            for _ in range(2):
                assert torch.equal(double(torch.ones(size))[0], torch.full((size,), 3.0))
        assert called == [1] * WARM_UP + [2] * WARM_UP
        assert recorded == [1, 2]

    def test_what_cannot_be_recorded_runs_as_it_is_and_says_so_once(self) -> None:
        def refuse(*_: object) -> Work:
            raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

        double = Recorded(lambda x: (x * 2,), "the update", refuse, lambda work, inputs: work(*inputs))
        for _ in range(WARM_UP):
            double(torch.ones(1))
        line = (
            r"^model\.cuda_graphs: the update cannot be recorded and runs without a graph: CUDA error: operation not"
            r" permitted when stream is capturing$"
        )
        with pytest.warns(UserWarning, match=line) as told:
            results = [double(torch.ones(size))[0].sum().item() for size in (1, 2, 3)]
        assert results == [2.0, 4.0, 6.0]
        assert len(told) == 1


@pytest.mark.parametrize(
    ("device", "ranks", "precision", "compiled", "reason"),
    [
        ("cpu", 1, None, False, "cpu has no CUDA graphs"),
        ("cuda", 2, None, False, "2 ranks average"),
        ("cuda", 1, "16-mixed", False, "16-mixed looks"),
        ("cuda", 1, None, True, "what model.compile compiles cannot be recorded"),
        ("cuda", 1, "bf16-mixed", False, ""),
    ],
)
def test_where_it_is_without_effect(
    device: str, ranks: int, precision: str | None, compiled: bool, reason: str
) -> None:
    found = why_without_graphs(torch.device(device), ranks, precision, compiled)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


@pytest.mark.parametrize("asked", ["true", "null", "false"])
def test_who_asks_for_them_on_a_cpu_is_told_in_one_line(asked: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(epo, "rank_zero_info", told.append)
    assert cli("fit", "--config=tiny.yaml", f"--model.cuda_graphs={asked}", "--run_dir", "run").code == 0
    lines = [line for line in told if "cuda_graphs" in line]
    assert lines == ["Without effect: model.cuda_graphs true (cpu has no CUDA graphs)"] * (asked == "true")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", [{}, {"lstm_units": 6}], ids=["mlp", "lstm"])
def test_on_a_gpu_the_graph_computes_the_same(tmp_path: Path, network: dict[str, Any]) -> None:
    """As it does without being asked."""
    plain, replayed = (trained(tmp_path / str(graphs), graphs, network, accelerator="gpu") for graphs in (False, None))
    assert replayed._recorded is not None
    assert replayed._recorded._replays
    for (name, ours), theirs in zip(replayed.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_what_cannot_be_recorded_harms_nothing_else() -> None:
    stream = torch.cuda.current_stream()
    double = Recorded(lambda x: (x * x.sum().item(),), "it")  # waits for the device
    x = torch.ones(2, device="cuda")
    for _ in range(WARM_UP):
        double(x)
    with pytest.warns(UserWarning, match=r"^model\.cuda_graphs: it cannot be recorded"):
        assert double(x)[0].tolist() == [2.0, 2.0]
    assert torch.cuda.current_stream() == stream
    assert torch.rand(3, device="cuda").std() > 0
    triple = Recorded(lambda x: (3 * x,), "another one")
    assert [triple(number * x)[0].sum().item() for number in range(6)] == [6.0 * number for number in range(6)]
    assert triple._replays

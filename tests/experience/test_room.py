"""What a training on policy needs is estimated before it begins, and refused with its numbers."""

import gc
from pathlib import Path

import pytest
import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.experience import room
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.room import Room, kept_bytes, require_room, room_for
from epo_lightning.learner import trunks
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.limits import Mistake
from tests.support.command_line import TINY, Cli

CPU, MIB = torch.device("cpu"), 2**20


def parts(hidden: tuple[int, ...], units: int | None = None, envs: int = 8) -> tuple[LatentActorCritic, RolloutShape]:
    policy = LatentActorCritic(10, 3, 2, NetworkSettings(gene_dim=4, hidden=hidden, lstm_units=units))
    return policy, RolloutShape(4, Population(2, envs), 4, 10, 3, policy.state_shape)


def test_what_a_forward_pass_keeps_by_hand() -> None:
    # observation 10, what the gene adds 6, ELU's input or output 6 (the next layer keeps the latter, too), heads 3 + 1
    kept = kept_bytes(*parts((6,)))
    assert 4 * (10 + 6 + 3 + 1) <= kept <= 4 * (10 + 4 * 6 + 3 + 1 + 3)


def test_it_grows_with_what_is_computed() -> None:
    small, wide, deep, recurrent = (
        kept_bytes(*parts(*sizes)) for sizes in (((64,), None), ((128,), None), ((64, 64), None), ((64,), 64))
    )
    assert 1.7 * small < wide < 2.1 * small
    assert deep > small + 4 * 64
    assert recurrent > small + 4 * 4 * 64  # four gates


@pytest.mark.parametrize("units", [None, 64])
def test_nothing_of_the_trial_stays_alive(units: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the parameters' own nodes stay, too, with which no CUDA graph can be recorded."""
    monkeypatch.setattr(trunks, "_is_plain", lambda _: False)  # the LSTM of a GPU: its operations keep their results
    policy, shape = parts((16,), units)
    held = _with_gradient()
    kept_bytes(policy, shape)
    assert _with_gradient() == held


def _with_gradient() -> int:
    gc.collect()
    return sum(isinstance(each, torch.Tensor) and each.grad_fn is not None for each in gc.get_objects())


def test_buffer_and_update_are_proportional_to_the_environments_and_the_optimizer_is_not() -> None:
    few, many = (room_for(policy, shape, 2) for policy, shape in (parts((32, 32), envs=n) for n in (16, 32)))
    policy, shape = parts((32, 32), envs=16)
    assert few.buffer == RolloutBuffer.nbytes(shape)
    assert few.optimizer == many.optimizer == 12 * sum(p.numel() for p in policy.parameters())
    assert room_for(policy, shape, 4).update < few.update
    assert many.update > 1.5 * few.update


def test_the_update_that_is_made_needs_about_what_was_estimated() -> None:
    """Of the minibatch's tensors alone: what the forward pass keeps is measured by the same hooks at full size."""
    policy, shape = parts((256, 128), envs=512)
    rows, kept = shape.columns * shape.horizon // 4, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = policy(torch.zeros(rows, 10), policy.express(torch.zeros(rows).long()), policy.initial_state(rows))
        output.value.sum()
    assert sum(kept.values()) < room_for(policy, shape, 4).update < 3 * sum(kept.values())


def test_what_fits_is_told_and_what_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = parts((6,))[1]._replace(population=Population(2, 100))
    monkeypatch.setattr(room, "free_memory", lambda device: 1000 * MIB)
    needed = Room(600 * MIB, 300 * MIB, 50 * MIB)  # 95 %
    split = "rollout buffer 600 MiB, update 300 MiB, gradients and Adam {} MiB; the environments have theirs already"
    told = require_room(needed, shape, 4, CPU)
    assert told == f"950 MiB on cpu, where 1,000 MiB are free ({split.format(50)})"
    with pytest.raises(Mistake) as refused:
        require_room(needed._replace(optimizer=140 * MIB), shape, 4, CPU)
    assert str(refused.value) == (  # (950 - 140) / 900 of 100 environments, which two agents share
        f"data.num_envs 100 needs 1,040 MiB on cpu, where 1,000 MiB are free ({split.format(140)}): lower it to at most"
        " 90, or raise model.rollout.num_minibatches 4, or lower model.rollout.horizon 4 or the network"
    )
    with pytest.raises(Mistake, match="not even 2 fit, or"):
        require_room(Room(600 * MIB, 300 * MIB, 2000 * MIB), shape, 4, CPU)


@pytest.mark.parametrize("algorithm", ["epo", "pbt"])
def test_a_training_without_room_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    monkeypatch.setattr(room, "free_memory", lambda device: 10_000)
    Path("case.yaml").write_text(f"algorithm: {algorithm}\n" + TINY.replace("gene_dim: 3, ", ""))
    outcome = cli("fit", "--config=case.yaml", "--run_dir", "run")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: data.num_envs 16 needs ")
    assert "Traceback" not in outcome.err

"""AdamW for networks that learn in turns."""

from typing import Any

import pytest
import torch
from torch import nn

from epo_lightning.learner.adamw import AdamWSettings, build_adamw, restart_adamw
from epo_lightning.limits import Mistake


def parameters(count: int = 3) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, -1.0])) for _ in range(count)]


def test_the_first_step_by_hand() -> None:
    actor, critic, temperature = parameters()
    settings = AdamWSettings(learning_rate=0.1, weight_decay=0.5)
    adamw = build_adamw({"actor": [actor], "critic": [critic]}, [temperature], settings)
    critic.grad, temperature.grad = torch.tensor([3.0, 3.0]), torch.tensor([3.0, 3.0])
    adamw.step()
    # The first step of Adam is the learning rate against the gradient's sign; before it, 0.1 * 0.5 of the weight decays
    torch.testing.assert_close(critic.data, torch.tensor([0.95 - 0.1, -0.95 - 0.1]))
    torch.testing.assert_close(temperature.data, torch.tensor([1 - 0.1, -1 - 0.1]))  # its weight does not decay
    assert actor.tolist() == [1, -1]  # without a gradient it is left alone: no decay, no moments
    assert actor not in adamw.state


def test_restored_moments_obey_new_settings() -> None:
    old, new = parameters(), parameters()
    first = build_adamw({"a": old[:1], "b": old[1:2]}, old[2:], AdamWSettings())
    for parameter in old:
        parameter.grad = torch.ones(2)
    first.step()
    settings = AdamWSettings(learning_rate=0.5, betas=(0.5, 0.6), weight_decay=0.25)
    second = build_adamw({"a": new[:1], "b": new[1:2]}, new[2:], settings)
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["lr"] == 3e-4
    restart_adamw(second, settings)
    assert [group["lr"] for group in second.param_groups] == [0.5] * 3
    assert [group["betas"] for group in second.param_groups] == [(0.5, 0.6)] * 3
    assert [group["weight_decay"] for group in second.param_groups] == [0.25, 0.25, 0.0]
    assert torch.equal(second.state[new[0]]["exp_avg"], first.state[old[0]]["exp_avg"])


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.0},
        {"max_grad_norm": 0.0},
        {"weight_decay": -1.0},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"updates_per_step": 0},
        {"actor_every": 0},
    ],
)
def test_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match=rf"model\.optimizer\.{next(iter(changes))}\b.* must be"):
        AdamWSettings(**changes)

"""The genome: one way in for latent genes, for whole networks side by side, and for tables of numbers."""

import torch
from torch import nn

from epo_lightning.algorithm.genome import Genome


def trained(*shapes: tuple[int, ...]) -> tuple[list[nn.Parameter], torch.optim.Adam]:
    """Parameters of zeros after one step of Adam under a gradient of ones."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    adam = torch.optim.Adam(parameters, lr=0.0, amsgrad=True)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    adam.step()
    return parameters, adam


def test_what_was_read_stays_when_training_goes_on() -> None:
    part = nn.Parameter(torch.arange(6.0).view(3, 2))
    values = Genome({"genes": part}).read()
    with torch.no_grad():
        part.add_(1)
    assert values["genes"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert not values["genes"].requires_grad


def test_named_rows_are_written_in_place() -> None:
    part, table = nn.Parameter(torch.zeros(4, 2, 2)), torch.zeros(4)
    storage = part.data_ptr()
    values = {
        "weight": torch.stack([torch.full((2, 2), 7.0), torch.full((2, 2), 8.0)]),
        "rate": torch.tensor([0.1, 0.2]),
    }
    Genome({"weight": part, "rate": table}).write(torch.tensor([3, 1]), values)
    assert part.data_ptr() == storage
    assert part[:, 0, 0].tolist() == [0.0, 8.0, 0.0, 7.0]
    assert torch.equal(table, torch.tensor([0.0, 0.2, 0.0, 0.1]))


def test_the_optimizer_forgets_the_named_rows_only() -> None:
    (mine, other), adam = trained((4, 2), (4, 2))
    Genome({"genes": mine}, adam).forget(torch.tensor([1, 3]))
    for name, value in (("exp_avg", 0.1), ("exp_avg_sq", 0.001), ("max_exp_avg_sq", 0.001)):  # 1 - beta_1, 1 - beta_2
        rows = torch.tensor([value, 0.0, value, 0.0])[:, None].expand(4, 2)
        torch.testing.assert_close(adam.state[mine][name], rows)
        torch.testing.assert_close(adam.state[other][name], torch.full((4, 2), value))
    assert adam.state[mine]["step"] == 1


def test_nothing_to_forget() -> None:
    """Before the first step, of a table that nobody trains, and without an optimizer."""
    parameter, table = nn.Parameter(torch.ones(4, 2)), torch.ones(4, 3)
    adam = torch.optim.Adam([parameter])
    for optimizer in (adam, None):
        Genome({"genes": parameter, "table": table}, optimizer).forget(torch.tensor([0]))
    assert torch.equal(parameter, torch.ones(4, 2))
    assert torch.equal(table, torch.ones(4, 3))
    assert not adam.state

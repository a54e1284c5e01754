"""Seeded chance, and how to judge it by counting."""

import torch


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def chi_square(observed: list[int], probabilities: list[float]) -> float:
    """Pearson's statistic; 1 in 10,000 draws exceeds 15.1, 18.4 and 21.1 with 1, 2 and 3 degrees of freedom."""
    expected = [sum(observed) * p for p in probabilities]
    return sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))

"""Maps of entries: what they do."""

import torch

from epo_lightning.algorithm.symmetry import SignedPermutation, joined, signs


def swap(*, turned: bool = False) -> SignedPermutation:
    return SignedPermutation(torch.tensor([1, 0]), torch.full((2,), -1.0 if turned else 1.0))


def test_entries_change_places_and_signs() -> None:
    both = joined([swap(), signs([1.0, -1.0]), swap(turned=True)])
    image = both(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
    assert image.tolist() == [[2.0, 1.0, 3.0, -4.0, -6.0, -5.0]]
    assert both(image).tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]

"""The families of cuboids."""

import pytest
import torch

from epo_lightning.envs.allegro_kuka.objects import (
    OBJECT_SETS,
    big_cuboids,
    half_sizes,
    masses,
    object_scales,
    small_cuboids,
    sticks,
)


def test_counts():
    assert (len(small_cuboids()), len(big_cuboids()), len(sticks())) == (654, 248, 45)
    everything = OBJECT_SETS["all"]()
    assert len(everything) == 947
    assert len(set(everything)) == 938
    assert (1, 1, 1) in small_cuboids()


@pytest.mark.parametrize(
    ("name", "lightest", "heaviest", "shortest", "longest"),
    [("small", 0.0495, 0.125, 0.025, 0.15), ("big", 0.125, 0.75, 0.05, 0.175), ("sticks", 0.125, 0.30, 0.025, 0.30)],
)
def test_ranges(name, lightest, heaviest, shortest, longest):
    scales = object_scales(name, len(OBJECT_SETS[name]()))
    mass, edges = masses(scales), 2 * half_sizes(scales)
    assert mass.min() >= lightest
    assert mass.max() <= heaviest + 1e-9
    assert edges.min() == pytest.approx(shortest)
    assert edges.max() == pytest.approx(longest)


def test_mean_mass_of_all():
    assert masses(object_scales("all", 947)).mean().item() == pytest.approx(0.159, abs=5e-4)


def test_cube_weighs_fifty_grams():
    scales = object_scales("cube", 2)
    assert masses(scales).tolist() == pytest.approx([0.05, 0.05])
    assert half_sizes(scales)[0].tolist() == pytest.approx([0.025] * 3)


def test_environment_i_has_shape_i_modulo_947():
    few, many = object_scales("all", 100), object_scales("all", 1000)
    assert torch.equal(few, many[:100])
    assert torch.equal(many[947:], many[:53])
    assert len({tuple(row) for row in many[:947].tolist()}) == 938
    assert not torch.equal(few, torch.tensor(OBJECT_SETS["all"]()[:100], dtype=torch.float64))  # shuffled


def test_own_shapes_keep_their_order():
    own = [(3.0, 1.0, 1.0), (1.0, 2.0, 1.0)]
    assert object_scales(own, 5)[:, 0].tolist() == [3, 1, 3, 1, 3]
    assert half_sizes(object_scales(own, 1))[0].tolist() == pytest.approx([0.075, 0.025, 0.025])
    object_scales([(10.0, 10.0, 10.0)], 1)  # 50 cm
    with pytest.raises(ValueError, match=r"objects must have at least one shape"):
        object_scales([], 1)


def test_unknown_set_names_the_known_ones():
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.objects must be one of all, small, .*'spheres'"):
        object_scales("spheres", 1)

"""The families of cuboids."""

from collections.abc import Sequence

import pytest
import torch

from epo_lightning.envs.allegro_kuka.objects import (
    OBJECT_SETS,
    Scales,
    big_cuboids,
    half_sizes,
    masses,
    object_scales,
    object_shapes,
    small_cuboids,
    sticks,
)


def test_counts() -> None:
    assert (len(small_cuboids()), len(big_cuboids()), len(sticks())) == (654, 248, 45)
    everything = OBJECT_SETS["all"]()
    assert len(everything) == 947
    assert len(set(everything)) == 938
    assert (1, 1, 1) in small_cuboids()


@pytest.mark.parametrize(
    ("name", "lightest", "heaviest", "shortest", "longest"),
    [("small", 0.0495, 0.125, 0.025, 0.15), ("big", 0.125, 0.75, 0.05, 0.175), ("sticks", 0.125, 0.30, 0.025, 0.30)],
)
def test_ranges(name: str, lightest: float, heaviest: float, shortest: float, longest: float) -> None:
    scales = object_scales(name, len(OBJECT_SETS[name]()), 0)
    mass, edges = masses(scales), 2 * half_sizes(scales)
    assert mass.min() >= lightest
    assert mass.max() <= heaviest + 1e-9
    assert edges.min() == pytest.approx(shortest)
    assert edges.max() == pytest.approx(longest)


def test_mean_mass_of_all() -> None:
    assert masses(object_scales("all", 947, 0)).mean().item() == pytest.approx(0.159, abs=5e-4)


def test_cube_weighs_fifty_grams() -> None:
    scales = object_scales("cube", 2, 5)
    assert masses(scales).tolist() == pytest.approx([0.05, 0.05])
    assert half_sizes(scales)[0].tolist() == pytest.approx([0.025] * 3)


NEIGHBOURS = [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (2.0, 2.0, 2.0), (1.0, 2.0, 2.0), (2.0, 1.0, 1.0)]


def test_five_shapes_by_hand() -> None:
    # masses 1 3 8 4 2: up 1 3 8, back 4 2; the golden ratio's fraction of 5 is 3.09, so the stride is 3
    ring = [1.0, 3.0, 8.0, 4.0, 2.0]
    assert [x * y * z for x, y, z in object_shapes(NEIGHBOURS)] == ring
    volumes = object_scales(NEIGHBOURS, 7, seed=0).prod(dim=1).tolist()
    first = ring.index(volumes[0])
    assert volumes == [ring[(first + 3 * env) % 5] for env in range(7)]
    firsts = {object_scales(NEIGHBOURS, 1, seed).prod().item() for seed in range(40)}
    assert firsts == set(ring)  # whoever comes first depends on the seed


@pytest.mark.parametrize("objects", ["all", "small", "big", "sticks", NEIGHBOURS[:1], NEIGHBOURS[:2], NEIGHBOURS[:3]])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_any_block_as_long_as_the_list_has_every_shape_once(objects: str | Sequence[Scales], seed: int) -> None:
    shapes = sorted(object_shapes(objects))
    scales = object_scales(objects, 3 * len(shapes), seed)
    for start in (0, 1, len(shapes) // 2, 2 * len(shapes)):
        block = scales[start : start + len(shapes)].tolist()
        assert sorted(tuple(row) for row in block) == shapes
    assert torch.equal(object_scales(objects, 5, seed), object_scales(objects, 500, seed)[:5])


@pytest.mark.parametrize(
    ("objects", "envs_per_agent", "mass", "edge"),
    [("all", 64, 0.06, 0.04), ("all", 384, 0.015, 0.01), ("small", 64, 0.02, 0.04), ("big", 64, 0.03, 0.02)],
)
@pytest.mark.parametrize("agents", [8, 64])
def test_every_agent_meets_the_same_mix(
    objects: str, agents: int, envs_per_agent: int, mass: float, edge: float
) -> None:
    """Largest deviation of an agent's mean mass and mean edge from the population's, as a share of it."""
    for seed in range(3):
        scales = object_scales(objects, agents * envs_per_agent, seed)
        for values, tolerance in ((masses(scales), mass), (scales.mean(dim=1), edge)):
            means = values.view(agents, envs_per_agent).mean(dim=1)
            assert (means / means.mean() - 1).abs().max() < tolerance


def test_evaluation_seeds_meet_other_objects() -> None:
    sets = [{tuple(row) for row in object_scales("all", 64, seed).tolist()} for seed in range(5)]
    assert len(set.union(*sets)) > 4 * 60
    together = torch.cat([object_scales("all", 947, seed) for seed in range(2)])
    assert len({tuple(row) for row in together[:947].tolist()}) == len({tuple(row) for row in together.tolist()}) == 938


def test_own_shapes() -> None:
    assert half_sizes(object_scales([(3.0, 1.0, 1.0)], 1, 0))[0].tolist() == pytest.approx([0.075, 0.025, 0.025])
    object_scales([(10.0, 10.0, 10.0)], 1, 0)  # 50 cm
    with pytest.raises(ValueError, match=r"objects must have at least one shape"):
        object_scales([], 1, 0)


def test_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.objects must be one of all, small, .*'spheres'"):
        object_scales("spheres", 1, 0)

"""Spaces of Gymnasium: observations become rows and actions come from rows, or are one line that names them."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")
from gymnasium import spaces

from epo_lightning.envs.gymnasium.actions import ActionMap
from epo_lightning.envs.gymnasium.observations import ObservationRows
from tests.support.plain_tasks import LIMIT, Make, Plain, closed_tasks, steps_of

make = pytest.fixture(closed_tasks)


class TestSpaces:
    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(-1, 1, (2, 3)),
            spaces.Box(0, 255, (2, 2, 3), np.uint8),
            spaces.Box(-1, 1, (), np.float64),
            spaces.Discrete(4, start=-1),
            spaces.MultiBinary((2, 2)),
            spaces.MultiDiscrete(np.array([[3, 2], [2, 4]])),
            spaces.MultiDiscrete([3, 2], start=[5, -1]),
            spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,)), "c": spaces.MultiDiscrete([2, 3])}),
            spaces.Tuple((spaces.Discrete(2), spaces.Dict(x=spaces.Box(0, 1, (2, 1)), y=spaces.MultiBinary(3)))),
        ],
        ids=str,
    )
    def test_rows_are_gymnasium_s_flatten(self, space: spaces.Space[Any]) -> None:
        from gymnasium.vector.utils import batch_space, iterate

        batched = batch_space(space, 5)
        batched.seed(0)
        rows = ObservationRows(space)
        for _ in range(3):
            batch = batched.sample()
            out = np.full((5, rows.size + 1), 9.0, dtype=np.float32)
            rows.write(batch, out)
            flat = [np.asarray(spaces.flatten(space, each)) for each in iterate(batched, batch)]
            expected = np.stack(flat).astype(np.float32)
            np.testing.assert_array_equal(out[:, :-1], expected)
            assert (out[:, -1] == 9.0).all()

    def test_box_actions_reach_from_bound_to_bound(self) -> None:
        space = spaces.Box(np.array([-3.0, 0.0], dtype=np.float32), np.array([1.0, 10.0], dtype=np.float32))
        scaled = ActionMap(space)(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]]))
        assert scaled.tolist() == [[-3.0, 0.0], [1.0, 10.0], [0.0, 5.0]]
        assert scaled.dtype == np.float32

    def test_without_two_bounds_an_entry_is_passed_through(self) -> None:
        low, high = np.array([-np.inf, 0.0, -np.inf]), np.array([np.inf, np.inf, 0.5])
        scaled = ActionMap(spaces.Box(low, high, dtype=np.float64))(torch.tensor([[-0.75, -0.75, 0.75]]))
        assert scaled.tolist() == [[-0.75, 0.0, 0.5]]
        assert scaled.dtype == np.float64

    def test_actions_have_the_space_s_shape_and_no_memory_in_common(self) -> None:
        given = torch.tensor([[-1.0, 0.0, 0.5, 1.0]])
        scaled = ActionMap(spaces.Box(-1.0, 1.0, (2, 2)))(given)
        assert scaled.tolist() == [[[-1.0, 0.0], [0.5, 1.0]]]
        scaled[:] = 9.0
        assert given.tolist() == [[-1.0, 0.0, 0.5, 1.0]]

    def test_choices_begin_at_their_start(self) -> None:
        choose = ActionMap(spaces.Discrete(3, start=-1))
        assert (choose.size, choose.discrete) == (3, True)
        assert choose(torch.tensor([0, 2, 1])).tolist() == [-1, 1, 0]

    @pytest.mark.parametrize(
        "space",
        [spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(3), spaces.Box(0, 9, (2,), np.int64), spaces.Dict()],
        ids=str,
    )
    def test_other_actions_are_refused(self, space: spaces.Space[Any]) -> None:
        with pytest.raises(ValueError, match=r"init_args\.id: actions must be Discrete, or a Box of floats"):
            ActionMap(space)

    @pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple((spaces.Sequence(spaces.Discrete(2)),))], ids=str)
    def test_other_observations_are_refused(self, space: spaces.Space[Any]) -> None:
        with pytest.raises(ValueError, match=r"init_args\.id: observations must be Box, Discrete"):
            ObservationRows(space)


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


F32, F64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)


class TestActions:
    @pytest.mark.parametrize(
        ("space", "given", "wanted"),
        [
            (box([-F32], [F32]), 0.5, 0.5),
            (box([-F32], [np.inf]), -0.5, -0.5),
            (box([-F64], [F64], np.float64), 1.0, 1.0),
            (box([-F32], [F32], np.float64), -1.0, -1.0),
            (box([-65504.0], [65504.0], np.float16), 0.5, 0.5),
            (box([0.25], [F32]), -1.0, 0.25),  # half bounded: passed through, and stops at the bound
            (box([0.25], [F32]), 0.75, 0.75),
            (box([-F32], [0.5]), 1.0, 0.5),
            (box([-1e6], [1e6]), 0.5, 5e5),  # large, but a bound
            (box([2.0], [2.0]), -0.3, 2.0),  # nothing to choose
        ],
    )
    def test_the_largest_number_is_no_bound(self, space: Any, given: float, wanted: float) -> None:
        assert ActionMap(space)(torch.tensor([[given]])).tolist() == [[wanted]]

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(-1, 1, (2,), np.int64),
            spaces.MultiBinary(3),
            spaces.MultiDiscrete([2, 3]),
            spaces.Tuple((spaces.Discrete(2),)),
            spaces.Dict(a=spaces.Box(-1, 1)),
            spaces.Box(-1.0, 1.0, (0,)),
        ],
        ids=str,
    )
    def test_what_is_no_action_is_named(self, space: Any) -> None:
        with pytest.raises(ValueError, match=r"data\.env\.init_args\.id: actions must be Discrete, or a Box of floats"):
            ActionMap(space)

    def test_bounds_that_are_none(self) -> None:
        space = box([-1.0], [1.0])
        for low in (np.nan, 2.0):
            space.low[:] = low
            with pytest.raises(ValueError, match=r"init_args\.id: an action needs low <= high, and no NaN"):
                ActionMap(space)


class TestObservations:
    @pytest.mark.parametrize(
        ("space", "value", "row"),
        [
            (spaces.Box(-1, 1, (), np.float64), 0.25, [0.25]),
            (spaces.Box(0, 255, (2,), np.uint8), np.array([3, 255], np.uint8), [3, 255]),
            (spaces.Box(-9, 9, (2,), np.int32), [3, -4], [3, -4]),
            (spaces.Discrete(3, start=5), np.int64(6), [0, 1, 0]),
            (spaces.MultiBinary(2), np.array([True, False]), [1, 0]),
            (spaces.Box(-1, 1, (2,), np.float32), np.array([0.5, 0.25]), [0.5, 0.25]),  # float64 for float32
        ],
        ids=str,
    )
    def test_of_every_kind(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, space: Any, value: Any, row: list[float]
    ) -> None:
        monkeypatch.setattr(Plain, "observation_space", space)
        monkeypatch.setattr(Plain, "look", lambda self: value)
        env = make("Plain")
        assert env.reset().tolist() == [row] * 2
        results = steps_of(env, LIMIT)
        assert results[-1].final_obs is not None
        assert results[-1].final_obs.tolist() == results[-1].obs.tolist() == [row] * 2

"""`Server`: one adapter answers the learner's requests and fills the shared memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .memory import MAX_LOG_NAMES, as_array, check_shape, layout, map_arrays, pin, put
from .mistakes import Mistake
from .state import pack, unpack


class Server:
    """One adapter, and the memory that it shares with the learner.

    Args:
        adapter: See the package.
        label: What made it, for messages.
        num_envs: N that was asked for.
        file: Descriptor of the shared memory's file, still empty.

    Raises:
        Mistake: When the adapter lacks something, or has another number of environments.
    """

    def __init__(self, adapter: Any, label: str, num_envs: int, file: int) -> None:
        for member in ("obs_dim", "act_dim", "reset", "step"):
            if not hasattr(adapter, member):
                raise Mistake(
                    f"data.env.init_args.factory: what {label} returns must have {member}, see docs/worker.md;"
                    f" {type(adapter).__name__} has not"
                )
        present = int(getattr(adapter, "num_envs", num_envs))
        if present != num_envs:
            raise Mistake(f"data.num_envs: {label} made {present} environments, not the {num_envs} asked for")
        limit, seconds = getattr(adapter, "max_episode_steps", None), getattr(adapter, "step_seconds", None)
        self.adapter = adapter
        self.names: list[str] = []
        self.spec: dict[str, Any] = {
            "name": str(getattr(adapter, "name", label)),
            "num_envs": num_envs,
            "obs_dim": int(adapter.obs_dim),
            "act_dim": int(adapter.act_dim),
            "max_episode_steps": None if limit is None else int(limit),
            "step_seconds": None if seconds is None else float(seconds),
            "discrete": bool(getattr(adapter, "discrete", False)),
            "restores": hasattr(adapter, "state") and hasattr(adapter, "load_state"),
            "groups": [[str(name), shape, bool(hidden)] for name, shape, hidden in getattr(adapter, "groups", [])],
        }
        self.layout = layout(num_envs, self.spec["obs_dim"], self.spec["act_dim"], self.spec["discrete"])
        os.ftruncate(file, self.layout[-1][-1])
        self.memory, self.arrays = map_arrays(file, self.layout)
        pin(self.memory)

    def reset(self) -> None:
        """New episodes; their first observations go to `obs`."""
        self._put_obs(self.adapter.reset(), "the observation of reset()")

    def reset_late(self, over: Any) -> None:
        """New episodes of whose time limit the shares `over` are over; their first observations go to `obs`."""
        self._put_obs(self.adapter.reset_late(over), "the observation of reset_late()")

    def step(self) -> bool:
        """One env step from `actions`; returns whether there are new names in the log."""
        arrays = self.arrays
        obs, reward, terminated, truncated, extras = self.adapter.step(arrays["actions"])
        extras = extras or {}
        self._put_obs(obs, "obs")
        put(arrays["reward"], reward, "reward")
        put(arrays["terminated"], terminated, "terminated")
        put(arrays["truncated"], truncated, "truncated")
        arrays["truncated"] &= ~arrays["terminated"]
        successes = extras.get("successes")
        if successes is None:
            arrays["successes"].fill(0.0)
        else:
            put(arrays["successes"], successes, "extras['successes']")
        final_obs = extras.get("final_obs")
        arrays["has_final_obs"][0] = final_obs is not None
        if final_obs is not None:
            self._keep_final(arrays["obs"] if final_obs is obs else final_obs)
        return self._log(extras.get("log") or {})

    def _keep_final(self, final_obs: Any) -> None:
        """Copy the rows of `final_obs` that the learner reads: those of truncated episodes."""
        ended, target = self.arrays["truncated"].nonzero()[0], self.arrays["final_obs"]
        if len(ended):
            for columns, value, name in self._parts(final_obs, "extras['final_obs']"):
                check_shape(target[:, columns], value, name)
                target[ended, columns] = as_array(value[ended])

    def _put_obs(self, obs: Any, name: str) -> None:
        for columns, value, part in self._parts(obs, name):
            put(self.arrays["obs"][:, columns], value, part)

    def _parts(self, obs: Any, name: str) -> Iterator[tuple[slice, Any, str]]:
        """The columns of an observation and what belongs there: one array, or one of each group by name.

        Raises:
            Mistake: When a group is missing.
        """
        if not isinstance(obs, dict):
            yield slice(None), obs if hasattr(obs, "shape") else as_array(obs), name
            return
        groups, start = self.spec["groups"], 0
        if not groups:
            raise Mistake(f"data.env: {name} has groups {', '.join(map(str, obs))}: the adapter must name its groups")
        for group, shape, _ in groups:
            if group not in obs:
                raise Mistake(f"data.env: {name} lacks the group {group!r}, it has {', '.join(map(str, obs))}")
            value = obs[group] if hasattr(obs[group], "shape") else as_array(obs[group])
            if isinstance(shape, (list, tuple)) and list(value.shape[1:]) == list(shape):
                value = value.reshape(len(value), -1)
            size = int(np.prod(shape))
            yield slice(start, start + size), value, f"{name}[{group!r}]"
            start += size

    def _log(self, entries: dict[str, Any]) -> bool:
        """Keep the means of `entries`; names that are not among them keep their last values."""
        known = len(self.names)
        for name, value in entries.items():
            if name not in self.names:
                if len(self.names) == MAX_LOG_NAMES:
                    raise Mistake(f"data.env: extras['log'] may have {MAX_LOG_NAMES} names at most; one more is {name}")
                self.names.append(name)
            self.arrays["log"][self.names.index(name)] = as_array(value).mean()
        return len(self.names) > known

    def answer(self, message: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """Do what a message asks for; returns the answer."""
        adapter, request = self.adapter, message["request"]
        if request == "reset":
            self.reset()
        elif request == "reset_late":
            self.reset_late(np.asarray(message["over"], np.float32))
        elif request == "state":
            return {}, pack(adapter.state())
        elif request == "load":
            adapter.load_state(unpack(blob))
        elif request == "curriculum":
            values = adapter.curriculum() if hasattr(adapter, "curriculum") else {}
            return {"values": {name: float(value) for name, value in values.items()}}, b""
        elif request == "set_curriculum" and hasattr(adapter, "set_curriculum"):
            adapter.set_curriculum(message["values"], message["hold"])
        return {}, b""

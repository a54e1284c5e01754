"""Threads of the physics: what is allowed, what a measurement chooses, and that results do not depend on it."""

import os
from pathlib import Path

import pytest
import torch

from epo_lightning.envs.bodies import AntTrap
from epo_lightning.limits import Mistake
from epo_lightning.physics import threads
from epo_lightning.physics.threads import Choice, Measured, Threads, cpu_quota, first_choice, measure, notice_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores without a limit, and nothing measured yet."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    monkeypatch.setattr(threads, "_KNOWN", {})
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    """Steps take the seconds that are given for each choice; each first one is slow."""

    def __init__(self, seconds: dict[Choice, float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now = seconds, 0.0
        self.tried: list[Choice] = []
        monkeypatch.setattr(threads, "new_batch", self.batch)
        monkeypatch.setattr(threads, "_can_pin", lambda: True)

    def __call__(self) -> float:
        return self.now

    def batch(self, model: object, num_envs: int, choice: Choice) -> "Stepped":
        """What can be stepped."""
        self.tried.append(choice)
        return Stepped(self, choice)


class Stepped:
    """A batch without anything in it."""

    def __init__(self, clock: Clock, choice: Choice) -> None:
        self.clock, self.choice, self.steps = clock, choice, 0

    def step(self, **_: object) -> None:
        self.clock.now += self.clock.seconds[self.choice] if self.steps else 10.0
        self.steps += 1


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ((1.0, 0.6, 0.35, 0.36), Choice(4)),
        ((1.0, 0.6, 0.59, 0.6), Choice(2)),  # four save less than three in a hundred
        ((1.0, 0.98, 1.2, 0.5), Choice(1)),
        ((1.0, 0.6, 0.35, 0.3), Choice(4, pinned=True)),
    ],
)
def test_the_fewest_threads_win_that_are_as_fast(
    seconds: tuple[float, ...], best: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, four, pinned = seconds
    known = {Choice(1): one, Choice(2): two, Choice(4): four}
    clock = Clock({**known, Choice(2, True): two, Choice(4, True): pinned}, monkeypatch)
    found = measure(None, 8, 2, clock)
    assert found.choice == best
    assert clock.tried == [*known, *([Choice(best.threads, True)] if best.threads > 1 else [])]
    assert found.seconds == pytest.approx({choice: clock.seconds[choice] for choice in clock.tried})


def test_the_choice_is_told_in_one_line() -> None:
    found = Measured(Choice(2, pinned=True), {Choice(1): 0.04, Choice(2): 0.022, Choice(2, pinned=True): 0.02})
    assert found.line == (
        "data.env.init_args.threads auto: 2 threads, pinned for the physics"
        " (a step took 1 thread 40.0 ms; 2 threads 22.0 ms; 2 threads, pinned 20.0 ms)"
    )


def test_wrong_numbers_are_refused_and_too_many_are_told() -> None:
    for wrong in (0, -1, True, "all", 1.5):
        with pytest.raises(
            Mistake, match=r"^data\.env\.init_args\.threads must be at least 1, auto .*; got " + str(wrong)
        ):
            first_choice(wrong)  # type: ignore[arg-type]
    assert [first_choice(wanted).threads for wanted in (1, 4, 64, None, "auto")] == [1, 4, 4, 4, 4]
    assert notice_of(64) == "data.env.init_args.threads 64: this process may use 4 cores, so it is 4"
    assert not any(notice_of(wanted) for wanted in (1, 4, None, "auto"))
    assert Threads(64).settle(None, 8, 2, None) == (notice_of(64), False)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/job/step", {"cpu.max": "max 100000", "job/cpu.max": "200000 100000", "job/step/cpu.max": "max 1"}, 2.0),
        (
            "5:cpu,cpuacct:/a\n6:memory:/a",
            {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ("5:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("0::/", {}, None),
    ],
)
def test_control_groups_limit_the_cores(
    groups: str, files: dict[str, str], quota: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, root = tmp_path / "own", tmp_path / "root"
    own.write_text(groups + "\n")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    assert cpu_quota(own, root) == quota
    assert cpu_quota(tmp_path / "nothing", root) is None
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert threads.cores() == (4 if quota is None else int(quota))


def test_a_measured_choice_is_kept_and_results_are_those_of_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def acted(env: AntTrap) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [env.step(env.spec.random_actions(generator)).obs for _ in range(12)]

    plain = AntTrap(6, CPU, 0, max_steps=9, threads=1)
    line = Measured(Choice(2, pinned=True), {Choice(1): 1.0})
    monkeypatch.setattr(threads, "measure", lambda *_: line)
    pinned: list[tuple[int, set[int]]] = []
    monkeypatch.setattr("os.sched_setaffinity", lambda task, which: pinned.append((task, which)), raising=False)
    auto = AntTrap(6, CPU, 0, max_steps=9, threads="auto")
    assert auto.chosen() == {"threads": 4, "pinned": False}
    assert auto.settle() == line.line
    assert auto.chosen() == {"threads": 2, "pinned": True}
    if Path("/proc/self/task").is_dir():
        assert [which for _, which in pinned] == [{1}]
        assert pinned[0][0] != os.getpid()  # not the thread that calls
    assert torch.equal(auto.reset(), plain.reset())
    saved = auto.state_dict()
    expected = acted(plain)
    assert all(torch.equal(a, b) for a, b in zip(acted(auto), expected, strict=True))

    monkeypatch.setattr(threads, "_KNOWN", {})
    monkeypatch.setattr(threads, "measure", lambda *_: pytest.fail("a run that goes on measures nothing"))
    other = AntTrap(6, CPU, 9, max_steps=9, threads="auto")
    other.load_state_dict(saved)
    assert other.chosen() == {"threads": 2, "pinned": True}
    assert other.settle() == ""
    assert all(torch.equal(a, b) for a, b in zip(acted(other), expected, strict=True))
    late = AntTrap(6, CPU, 9, max_steps=9, threads="auto")
    late.load_state_dict(plain.state_dict())
    assert (
        late.settle()
        == "data.env.init_args.threads auto measures when a training begins; this one goes on with 4 threads"
    )
    fixed = AntTrap(6, CPU, 9, max_steps=9, threads=3)
    fixed.load_state_dict(saved)
    assert fixed.chosen() == {"threads": 3, "pinned": False}
    assert all(torch.equal(a, b) for a, b in zip(acted(fixed), expected, strict=True))

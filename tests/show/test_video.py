"""Videos, read back: their frames, their pace, their captions; and `play` as a user meets it."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from epo_lightning.cli.entry import main
from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.show.playback import Playback
from epo_lightning.show.video import GAP, MAX_COLUMNS, caption, compose, pace, record, tile
from tests.support.command_line import TINY, Cli

CPU = torch.device("cpu")


class Painted(Probe):
    """Shows its clock as a shade of grey: ten more per env step since the episode began."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 3, dim: int = 2) -> None:
        super().__init__(num_envs, device, seed, max_steps, dim)
        self.spec = EnvSpec("Painted", num_envs, dim, dim, max_steps, step_seconds=1 / 60)

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        shades = 10 * self._clock[list(envs)].numpy().astype(np.uint8)
        return np.broadcast_to(shades[:, None, None, None], (len(shades), height, width, 3))


class Levelled(Painted):
    """Rises a level with every step unless it was set to one; its shade is 20 times its level."""

    level, held = 0.0, False

    def step(self, actions: torch.Tensor) -> StepResult:
        self.level += not self.held
        return super().step(actions)

    def curriculum(self) -> dict[str, float]:
        return {"level": self.level}

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        self.level, self.held = values["level"], True

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        return np.full((len(envs), height, width, 3), 20 * self.level, dtype=np.uint8)


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What ffmpeg says of a video, and its frames (F, H, W, 3)."""
    frames = imageio_ffmpeg.read_frames(str(path))
    about = next(frames)
    width, height = about["size"]
    return about, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


@pytest.mark.parametrize(
    ("step_seconds", "steps", "fps"),
    [(1 / 60, 2, 30.0), (1 / 30, 1, 30.0), (0.05, 1, 20.0), (0.002, 17, 1 / 0.034), (None, 1, 30.0)],
)
def test_pace(step_seconds: float | None, steps: int, fps: float) -> None:
    shown, frames_per_second = pace(step_seconds)
    assert shown == steps
    assert frames_per_second == pytest.approx(fps)


class TestFile:
    def test_frames_size_and_pace(self, tmp_path: Path) -> None:
        playback = Playback(Painted(2, CPU, 0, max_steps=15), ["zero", "random"])
        assert record(playback, tmp_path / "a.mp4", 0.5, 90, 60) == 15
        about, frames = read(tmp_path / "a.mp4")
        assert about["codec"] == "h264"
        assert about["pix_fmt"].startswith("yuv420p")
        assert about["fps"] == 30
        assert about["duration"] == pytest.approx(0.5, abs=0.02)
        assert len(frames) == 15
        height = frames.shape[1]
        assert frames.shape[2] == 90 + 4 + 90
        # every second step is shown: at 15 steps the episode begins anew
        expected = [10 * (2 * frame % 15) for frame in range(15)]
        for left in (0, 94):
            shades = frames[:, height - 50 :, left + 5 : left + 85].mean(axis=(1, 2, 3))
            assert shades == pytest.approx(expected, abs=4)
        assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]

    def test_it_goes_on_from_where_the_playback_is(self, tmp_path: Path) -> None:
        playback = Playback(Painted(1, CPU, 0, max_steps=100), ["zero"])
        for _ in range(5):
            playback.step()
        record(playback, tmp_path / "a.mp4", 0.1, 64, 48)
        assert playback.clock.tolist() == [5 + 2 * 2]

    def test_a_film_that_fails_leaves_the_old_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("old")
        playback = Playback(Painted(1, CPU, 0), ["zero"])

        def stumble() -> None:
            raise KeyboardInterrupt

        playback.step = stumble  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt):
            record(playback, tmp_path / "a.mp4", 1, 64, 48)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.mp4", "old")]

    @pytest.mark.parametrize("seconds", [0.1, 3])
    def test_an_encoder_that_gives_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        encoder = tmp_path / "encoder"
        encoder.write_text("#!/bin/sh\nhead -c 1000 > /dev/null; echo no space left on device >&2; exit 1\n")
        encoder.chmod(0o755)
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(encoder))
        playback = Playback(Painted(1, CPU, 0), ["zero"])
        with pytest.raises(ValueError, match=r"--out: .*a\.mp4 cannot be written: no space left on device$"):
            record(playback, tmp_path / "a.mp4", seconds, 64, 48)
        assert list(tmp_path.iterdir()) == [encoder]


class TestTiles:
    @pytest.mark.parametrize(
        ("count", "shape"), [(1, (6, 8)), (2, (6, 20)), (4, (6, 44)), (5, (10, 32)), (8, (10, 44))]
    )
    def test_rows_of_at_most_four_with_even_edges(self, count: int, shape: tuple[int, int]) -> None:
        assert (MAX_COLUMNS, GAP) == (4, 4)
        pictures = [np.full((5, 8, 3), 50 + index, dtype=np.uint8) for index in range(count)]
        sheet = tile(pictures)
        assert sheet.shape == (*shape, 3)
        columns = (shape[1] + 4) // 12
        for index in range(count):
            assert sheet[index // columns * 5 + 2, index % columns * 12 + 4].tolist() == [50 + index] * 3

    def test_a_caption_stands_above_the_picture(self) -> None:
        picture = np.full((60, 200, 3), 128, dtype=np.uint8)
        one, two = caption("master · 1 success", 200, picture), caption("master · 2 successes", 200, picture)
        assert np.array_equal(one[-60:], picture)
        strip = one.shape[0] - 60
        assert 20 < strip < 60
        lines = np.nonzero((one != two).any(axis=(1, 2)))[0]
        assert strip / 2 <= lines.min() <= lines.max() < strip  # the second line tells the book
        ink = (one[: strip // 2] > 150).any()
        assert ink

    def test_a_frame(self) -> None:
        playback = Playback(Painted(2, CPU, 0), ["zero", "random"])
        frame = compose(playback, 100, 50)
        assert frame.shape[1] == 204
        assert frame.shape[0] % 2 == 0
        assert not frame[-45:-5, :100].any()  # both clocks stand at 0
        assert not frame[-45:-5, -100:].any()


@pytest.fixture(scope="module")
def painted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the painted task."""
    folder = tmp_path_factory.mktemp("painted")
    (folder / "tiny.yaml").write_text(TINY)
    options = [f"--data.env={__name__}.Painted", "--run_dir", str(folder / "run"), "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", str(folder / "tiny.yaml"), *options]) == 0
    return folder / "run"


@pytest.fixture
def shop(cli: Cli, painted_run: Path, tmp_path: Path) -> Cli:
    """A folder with that run."""
    shutil.copytree(painted_run, tmp_path / "run")
    return cli


class TestPlay:
    def test_agents_of_a_checkpoint(self, shop: Cli) -> None:
        small = ("--width", 64, "--height", 48, "--seconds", 0.5)
        outcome = shop("play", "--ckpt_path", "run", "--agents", "0,2", "--policy", "random", *small)
        assert outcome.code == 0, outcome.err
        path = Path("run/videos/last-0-2-random.mp4")
        lines = outcome.out.splitlines()
        assert lines[0] == f"{path}: 0.5 s, 15 frames"
        # 28 steps in episodes of three
        assert [line.split()[0] for line in lines[1:]] == ["master", "follower", "random"]
        assert all(line.endswith("successes, 9 episodes finished") for line in lines[1:])
        about, frames = read(path)
        assert len(frames) == 15
        assert about["size"][0] == 64 + 4 + 64 + 4 + 64

    def test_the_master_by_default_and_a_place_of_one_s_own(self, shop: Cli) -> None:
        options = ("--out", "new/place/a.mp4", "--seconds", 0.1, "--width", 64, "--height", 48)
        outcome = shop("play", "--ckpt_path", "run", *options)
        assert outcome.code == 0, outcome.err
        assert read(Path("new/place/a.mp4"))[0]["size"][0] == 64
        assert "master" in outcome.out

    def test_a_policy_without_a_checkpoint(self, shop: Cli) -> None:
        options = ("--seconds", 0.1, "--width", 64, "--height", 48)
        outcome = shop("play", "--config", "run/config.yaml", "--policy", "zero", *options)
        assert outcome.code == 0, outcome.err
        assert Path("Painted-zero.mp4").exists()

    def test_the_same_command_gives_the_same_film(self, shop: Cli) -> None:
        for out in ("a.mp4", "b.mp4"):
            options = ("--seconds", 0.2, "--width", 64, "--height", 48, "--out", out)
            assert shop("play", "--ckpt_path", "run", "--policy", "random", *options).code == 0
        assert np.array_equal(read(Path("a.mp4"))[1], read(Path("b.mp4"))[1])

    @pytest.mark.parametrize(("option", "shade"), [((), 80), (("--data.eval_difficulty.level=2",), 40)])
    def test_as_difficult_as_the_training_was_or_as_wanted(self, cli: Cli, option: tuple[str, ...], shade: int) -> None:
        task = f"--data.env={__name__}.Levelled"
        assert cli("fit", "--config=tiny.yaml", task, "--run_dir=run", "--trainer.max_epochs=1").code == 0
        size = ("--width=64", "--height=48", "--seconds=0.2")
        outcome = cli("play", "--ckpt_path=run", "--out=a.mp4", *size, *option)
        assert outcome.code == 0, outcome.err
        # one iteration of four steps
        assert read(Path("a.mp4"))[1][:, -40:-8, 8:-8].mean(axis=(1, 2, 3)) == pytest.approx([shade] * 6, abs=3)

    def test_help_names_every_flag(self, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            cli("play", "--help")
        assert end.value.code == 0
        text = capsys.readouterr().out
        for flag in ("ckpt_path", "agents", "policy", "seconds", "out", "width", "height", "seed_everything"):
            (option,) = text.split(f"\n  --{flag} ")[1:]
            assert len(option.split("(type:")[0].split()) > 4, flag


CHECKPOINT = ("--ckpt_path", "run")
CONFIG = ("--config", "run/config.yaml")
MISTAKES = {
    "nobody plays": (CONFIG, ["--ckpt_path is missing", "--policy random, zero or scripted"]),
    "agents from nowhere": ((*CONFIG, "--agents", "0"), ["--agents needs --ckpt_path"]),
    "no such agent": ((*CHECKPOINT, "--agents", "0,7"), ["--agents", "no agent 7", "0 (the master) to 3"]),
    "negative agent": ((*CHECKPOINT, "--agents=-1"), ["--agents", "no agent -1"]),
    "not a number": ((*CHECKPOINT, "--agents", "master"), ["--agents", "0,1,5", "master"]),
    "unknown policy": ((*CONFIG, "--policy", "clever"), ["policy", "clever", "scripted"]),
    "no script": ((*CONFIG, "--policy", "scripted"), ["Painted has no scripted policy"]),
    "no time": ((*CHECKPOINT, "--seconds", "0"), ["--seconds must be greater than 0", "0"]),
    "negative time": ((*CHECKPOINT, "--seconds=-3"), ["--seconds must be greater than 0", "-3"]),
    "no mp4": ((*CHECKPOINT, "--out", "a.avi"), ["--out must end in .mp4", "a.avi"]),
    "a file for a folder": (
        (*CHECKPOINT, "--out", "tiny.yaml/a.mp4"),
        ["--out", "tiny.yaml/a.mp4", "cannot be written"],
    ),
    "a folder for a file": ((*CHECKPOINT, "--out", "run.mp4"), ["--out", "run.mp4", "cannot be written"]),
    "no picture": (("--config", "tiny.yaml", "--policy", "zero"), ["Probe has no pictures"]),
    "another task": ((*CHECKPOINT, f"--data.env={Probe.__module__}.Probe"), ["--ckpt_path", "Painted", "not Probe"]),
    "other sizes": (
        (*CHECKPOINT, "--data.env.init_args.dim=3"),
        ["its obs_dim is 2, not 3", "leave data.env to the checkpoint"],
    ),
    "other network": ((*CHECKPOINT, "--model.num_agents=8"), ["--ckpt_path", "model.num_agents"]),
    "no checkpoint": (("--ckpt_path", "nothing.ckpt"), ["ckpt_path", "nothing.ckpt"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(shop: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    Path("run.mp4").mkdir()
    before = {str(path) for path in Path().rglob("*")}
    outcome = shop("play", *args)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert {path for path in map(str, Path().rglob("*")) if path not in before} <= {"run/videos"}


def test_without_the_extra_the_line_names_it(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    outcome = shop("play", "--ckpt_path", "run")
    assert outcome.code == 2
    assert "pip install 'epo-lightning[video]'" in outcome.err
    assert outcome.err.count("\n") == 1

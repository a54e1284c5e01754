"""A playback as an mp4 file: tiles side by side, each under its caption.

Shape legend: M tiles, H and W pixels of one picture.

Needs the extra `video` (imageio-ffmpeg brings its own ffmpeg, Pillow writes the captions).
"""

import contextlib
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from epo_lightning.envs.contract import check_pictures
from epo_lightning.limits import Mistake
from epo_lightning.show.playback import SEPARATOR, Playback

FRAMES_PER_SECOND = 30.0
"""About; a frame shows a whole number of env steps."""
MAX_COLUMNS, GAP = 4, 4
"""Tiles in a row, and pixels between them."""
_GIF_FPS, _GIF_WIDTH = 10, 640
"""Frames per second and the most pixels of what is shown inside a page."""
_INK, _PAPER = (235, 238, 242), (32, 36, 44)
_LINES = 2


def require_encoder() -> None:
    """Refuse to go on without the extra.

    Raises:
        Mistake: Naming the command that installs it.
    """
    try:
        import imageio_ffmpeg
        import PIL.ImageFont  # noqa: F401

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise Mistake(f"videos need an extra ({error}): pip install 'epo-lightning[video]'") from error


def require_writable(path: Path) -> None:
    """Refuse a name that is not an mp4's, or that cannot be written; its folder is made.

    Raises:
        Mistake: Naming `path`.
    """
    if path.suffix != ".mp4":
        raise Mistake(f"--out must end in .mp4, got {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _part(path).touch()
        _part(path).unlink()
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
    except OSError as error:
        raise Mistake(f"--out: {path} cannot be written: {error.strerror}") from error


def pace(step_seconds: float | None) -> tuple[int, float]:
    """Env steps per frame and frames per second that together show an env step in its own time.

    A task without a clock shows every step, 30 of them in a second.
    """
    if step_seconds is None:
        return 1, FRAMES_PER_SECOND
    steps = max(1, round(1 / (FRAMES_PER_SECOND * step_seconds)))
    return steps, 1 / (steps * step_seconds)


def record(playback: Playback, path: Path, seconds: float, width: int, height: int) -> int:
    """Film `playback` from its present state on.

    Args:
        playback: Who acts where.
        path: The file; it appears when it is complete.
        seconds: Length of the video, in the task's own time.
        width: W of a tile.
        height: H of a tile, without its caption.

    Returns:
        Frames.

    Raises:
        Mistake: When the file cannot be written.
    """
    steps, fps = pace(playback.env.spec.step_seconds)
    frames = max(1, round(seconds * fps))
    picture = compose(playback, width, height)
    with _encoder(path, fps, picture.shape[1], picture.shape[0]) as film:
        film.write(picture.tobytes())
        for _ in range(frames - 1):
            for _ in range(steps):
                playback.step()
            film.write(compose(playback, width, height).tobytes())
    return frames


def compose(playback: Playback, width: int, height: int) -> np.ndarray:
    """One frame of all tiles with their captions, (rows x (H + caption), columns x (W + gap), 3) uint8."""
    pictures = playback.env.render(range(len(playback.labels)), width, height)
    check_pictures(pictures, (len(playback.labels), height, width, 3))
    return tile([caption(text, width, picture) for text, picture in zip(playback.captions(), pictures, strict=True)])


def caption(text: str, width: int, picture: np.ndarray) -> np.ndarray:
    """`picture` (H, W, 3) under a strip with `text`: its first part on a line of its own."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(10, width // 30)
    strip = Image.new("RGB", (width, math.ceil(1.4 * size * _LINES) + size // 2), _PAPER)
    pen, title_and_rest = ImageDraw.Draw(strip), text.split(SEPARATOR, 1)
    for line, words in enumerate(title_and_rest):
        pen.text((size / 2, size / 3 + 1.4 * size * line), words, _INK, ImageFont.load_default(size))
    return np.concatenate([np.asarray(strip), picture])


def tile(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size (h, w, 3) in rows of at most four, padded to even edges, which the video format needs."""
    rows = math.ceil(len(pictures) / MAX_COLUMNS)
    columns = math.ceil(len(pictures) / rows)
    height, width, _ = pictures[0].shape
    total_height, total_width = rows * height, columns * (width + GAP) - GAP
    sheet = np.empty((total_height + total_height % 2, total_width + total_width % 2, 3), dtype=np.uint8)
    sheet[:] = _PAPER
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def as_gif(film: Path) -> bytes:
    """`film` as a picture that moves: ten frames per second, at most 640 pixels wide.

    Raises:
        Mistake: When ffmpeg cannot read it.
    """
    import imageio_ffmpeg

    size = f"fps={_GIF_FPS},scale='min({_GIF_WIDTH},iw)':-2:flags=lanczos"
    colours = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film), "-vf", f"{size},{colours}"]
    ran = subprocess.run([*command, "-f", "gif", "-"], capture_output=True, check=False, start_new_session=True)
    if ran.returncode:
        raise Mistake(f"{film} cannot be shown: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout


@contextlib.contextmanager
def _encoder(path: Path, fps: float, width: int, height: int) -> Iterator[IO[bytes]]:
    """Where to write the frames' bytes; when all went well, the file then takes its place."""
    import imageio_ffmpeg

    part = _part(path)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "-"]
    target = ["-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(part)]
    process = subprocess.Popen(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *source, *target],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # the encoder gave up, and says why
            yield process.stdin
        _, complaint = process.communicate()
        if process.returncode:
            raise Mistake(f"--out: {path} cannot be written: {complaint.decode(errors='replace').strip()}")
        os.replace(part, path)
    finally:
        process.kill()
        process.communicate()
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.stem}.part.mp4")

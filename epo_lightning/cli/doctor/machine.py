"""What of this machine the package can use. What is heavy (torch, MuJoCo, OpenGL) is imported by the check about it."""

import netrc
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from epo_lightning import __version__
from epo_lightning.cli.doctor.cards import mixed_cards, why_unusable
from epo_lightning.cli.doctor.finding import Finding, Gpu, one_line

_EMPTY_SCENE = '<mujoco><worldbody><camera name="eye"/></worldbody></mujoco>'


def check_python() -> Finding:
    """This interpreter."""
    untried = "" if sys.platform.startswith("linux") else f", on {sys.platform}, where it has never been tried"
    return Finding("epo-lightning", "ok", f"{__version__}, Python {platform.python_version()}{untried}", needed=True)


def check_torch(gpus: Sequence[Gpu]) -> Finding:
    """torch, and the device that a training would choose."""
    try:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.ones(2, device=device).sum().item()
    except ImportError as error:
        return _broken("torch", error, "pip install --force-reinstall torch")
    except Exception as error:
        return _broken("torch", error, why_unusable(gpus) or "pip install --force-reinstall torch")
    if device == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        found = Finding("torch", "ok", f"{torch.__version__}, {torch.cuda.get_device_name()}", needed=True)
        return found._replace(remedy=why_unusable(gpus) or mixed_cards(names))
    threads = torch.get_num_threads()
    found = Finding("torch", "ok", f"{torch.__version__}, CPU, {_count(threads, 'thread')}", needed=True)
    return found._replace(remedy=why_unusable(gpus))


def check_lightning() -> Finding:
    """Lightning."""
    try:
        import lightning.pytorch  # noqa: F401
    except Exception as error:
        return _broken("lightning", error, "pip install --force-reinstall lightning")
    return Finding("lightning", "ok", version("lightning"), needed=True)


def check_mujoco() -> Finding:
    """The default engine: two copies of a scene fall for one step."""
    try:
        import mujoco
        from mujoco import batch

        from epo_lightning.physics.threads import default_threads

        free = "<mujoco><worldbody><body><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
        copies = batch.Batch(mujoco.MjModel.from_xml_string(free), 2, default_threads(), persistent=True)
        copies.step()
        fell = bool((copies.bind("qvel")[:, 2] < 0).all())
    except Exception as error:
        return _broken("mujoco", error, "pip install --force-reinstall mujoco")
    if not fell:
        return _broken("mujoco", ValueError("a body does not fall"), "pip install --force-reinstall mujoco")
    return Finding("mujoco", "ok", f"{mujoco.__version__}, CPU, {_count(default_threads(), 'thread')}", needed=True)


def check_warp(gpus: Sequence[Gpu]) -> Finding:
    """MuJoCo Warp, and whether there is a GPU for it."""
    found = check_package("mujoco-warp", "warp", "data.env.init_args.physics warp", module="mujoco_warp")
    if found.state != "ok":
        return found
    if not gpus:
        return found._replace(detail=f"{found.detail}, no NVIDIA GPU: slow on the CPU", remedy="use physics: mujoco")
    return found._replace(detail=f"{found.detail}, {gpus[0].name}")


def check_package(package: str, extra: str, use: str, module: str | None = None) -> Finding:
    """A package that an extra brings; it is not imported.

    Args:
        package: Its name for pip.
        extra: The extra of this package that brings it.
        use: What it is needed for.
        module: Its name for `import`, when it has another one.
    """
    remedy = f"pip install 'epo-lightning[{extra}]'"
    if find_spec(module or package) is None:
        return Finding(package, "missing", f"not installed ({use})", remedy)
    return Finding(package, "ok", _version(package))


def check_wandb() -> Finding:
    """Weights & Biases: whether it would ask for an account. Nothing is sent anywhere."""
    found = check_package("wandb", "wandb", "trainer.logger WandbLogger")
    if found.state != "ok":
        return found
    mode = os.environ.get("WANDB_MODE")
    if mode in ("offline", "disabled"):
        return Finding("wandb", "ok", f"{_version('wandb')}, WANDB_MODE={mode}")
    if _is_logged_in():
        return Finding("wandb", "ok", f"{_version('wandb')}, logged in")
    return Finding("wandb", "missing", f"{_version('wandb')}, not logged in", "wandb login, or WANDB_MODE=offline")


def _is_logged_in() -> bool:
    """Whether a key is set or kept for the host; what it is, is not read."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_drawing() -> Finding:
    """Pictures of MuJoCo's scenes without a window."""
    try:
        import mujoco

        from epo_lightning.physics.drawing import SceneDrawing

        scene = mujoco.MjModel.from_xml_string(_EMPTY_SCENE)
        SceneDrawing(scene, 8, 8, "eye").close()  # GLFW's context alone fails nowhere
    except ValueError as error:
        detail, _, remedy = " ".join(str(error).split()).partition("; ")
        return Finding("pictures", "missing", f"{detail} (play, VideoRecorder)", remedy)
    except Exception as error:
        return _broken("pictures", error, "set MUJOCO_GL to egl, osmesa or glfw")._replace(needed=False)
    usual = "EGL" if sys.platform.startswith("linux") else "what MuJoCo chose"
    return Finding("pictures", "ok", f"OpenGL through {os.environ.get('MUJOCO_GL') or usual}")


def check_video() -> Finding:
    """The encoder and Pillow."""
    parts = [check_package("imageio-ffmpeg", "video", "play, VideoRecorder", module="imageio_ffmpeg")]
    parts.append(check_package("pillow", "video", "play, VideoRecorder", module="PIL"))
    for part in parts:
        if part.state != "ok":
            return part._replace(name="video", detail=f"{part.name} is {part.detail}")
    return Finding("video", "ok", ", ".join(f"{part.name} {part.detail}" for part in parts))


def _broken(name: str, error: Exception, remedy: str) -> Finding:
    return Finding(name, "broken", f"{type(error).__name__}: {one_line(error)}", remedy, needed=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "version unknown"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

"""A film for a logger, whichever it is: by what the logger, or its service's client, can do.

Needs the extra `video` where a film must become a picture that moves (TensorBoard).
"""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from epo_lightning.show.video import as_gif


def hand_over(logger: Logger, key: str, film: Path, step: int) -> bool:
    """Give `film` to `logger`.

    Args:
        logger: Of the first rank.
        key: What the film is called there.
        film: An mp4.
        step: Env steps at which it was made.

    Returns:
        Whether the logger takes films.
    """
    if _can(logger, "log_video"):  # W&B
        logger.log_video(key, [str(film)], step=step)  # type: ignore[attr-defined]
        return True
    client: Any = getattr(logger, "experiment", None)
    if _can(client, "log_video"):  # Comet
        client.log_video(str(film), name=f"{key}/{film.name}", step=step)
    elif _can(client, "log_artifact") and hasattr(logger, "run_id"):  # MLflow
        client.log_artifact(logger.run_id, str(film), key)
    elif _can(client, "add_video"):  # TensorBoard
        _show(client, key, film, step)
    else:
        return False
    return True


def _can(what: object, name: str) -> bool:
    return callable(getattr(what, name, None))


def _show(writer: Any, key: str, film: Path, step: int) -> None:  # noqa: ANN401  (a SummaryWriter)
    """As a picture that moves. `add_video` would need frames and the package moviepy, and make the same of them."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = as_gif(film)
    width, height = (int.from_bytes(content[at : at + 2], "little") for at in (6, 8))
    picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=key, image=picture)]), step)

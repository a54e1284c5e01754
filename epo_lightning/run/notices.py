"""What a user is told: why something did not happen; and not what libraries advertise, or advise in vain."""

import logging
import warnings

from lightning.pytorch.utilities import rank_zero_info

_LINES = (
    "Tip: For seamless cloud",
    "GPU available:",
    "TPU available:",
    "Seed set to",
    "Restoring states from the checkpoint path",
    "Restored all states from the checkpoint",
    "Loaded model weights from the checkpoint",
    "Initializing distributed: GLOBAL_RANK",
    "distributed_backend=",
    "`weights_only` was not set",
    "Detected KeyboardInterrupt",
    "`Trainer.fit` stopped: `max_epochs=",
)
_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The number of training batches .* is smaller than the logging interval",
    r"`broadcast_buffers` is deprecated",
    r"To copy construct from a tensor, it is recommended",  # LearningRateMonitor, of a learning rate on the device
    r"The '\w+' does not have many workers",
    r"To copy construct from a tensor, it is recommended",  # LearningRateMonitor, of a rate that is a tensor
    r"You're using the WeightAveraging callback with a model that overrides the configure_model",  # nothing is sharded
    r"You're using the WeightAveraging callback, but loading a checkpoint outside",  # it holds the average
    r"`ModelCheckpoint\(monitor=.*could not find the monitored key",  # `Neighbours` tells it once
    r"Checkpoint directory .* exists and is not empty",  # of a run that is resumed
    r"Be aware that when using `ckpt_path`, callbacks used to create",  # `overrides` tells of what was removed
)


class Reasons:
    """Tells why something did not happen: once, until it has happened or there is another reason."""

    def __init__(self) -> None:
        self._last: str | None = None

    def tell(self, reason: str, line: str) -> None:
        """It did not happen.

        Args:
            reason: Of which kind, whatever the numbers are.
            line: With the numbers.
        """
        if reason != self._last:
            self._last = reason
            rank_zero_info(line)

    def forget(self) -> None:
        """It has happened."""
        self._last = None


def against(value: float, bound: float, name: str) -> str:
    """`0.08 below the threshold 0.1`, with as many digits as it takes to see that.

    Args:
        value: What did not exceed the bound.
        bound: The bound.
        name: What it is called.
    """
    digits = next((digits for digits in range(2, 17) if float(f"{value:.{digits}g}") < bound), None)
    if digits is None:
        return f"{value:.6g} not above {name} {bound:g}"
    return f"{value:.{digits}g} below {name} {bound:g}"


def silence() -> None:
    """Drop exactly these; every other message stays."""
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "lightning.fabric.utilities.distributed",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(line in message for line in _LINES)

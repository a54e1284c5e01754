"""Messages of the libraries that tell a user of this package nothing: advertising, and advice that does not apply."""

import logging
import warnings

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
    r"Be aware that when using `ckpt_path`, callbacks used to create",  # `overrides` tells of what was removed
)


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

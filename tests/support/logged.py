"""What loggers have written, read back by their own readers."""

import json
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_BLOCK = 32768
_WANDB_HEADER = 7
"""Bytes before the first record."""


def tensorboard_hparams(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Hyperparameters of the newest session below `folder`, and the tags of the metrics beside them."""
    metadata: Any = import_module("tensorboard.plugins.hparams.metadata")
    accumulator = _accumulator("plugin_event_accumulator", folder)
    found = accumulator.summary_metadata
    contents = {
        tag: each.plugin_data.content for tag, each in found.items() if each.plugin_data.plugin_name == "hparams"
    }
    session = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
    values = {
        name: value.string_value if value.HasField("string_value") else value.number_value
        if value.HasField("number_value") else value.bool_value
        for name, value in session.hparams.items()
    }  # fmt: skip
    return values, [info.name.tag for info in experiment.metric_infos]


def tensorboard_pictures(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Steps and files of every picture below `folder`."""
    accumulator = _accumulator("event_accumulator", folder)
    return {
        tag: [(event.step, event.encoded_image_string) for event in accumulator.Images(tag)]
        for tag in accumulator.Tags()["images"]
    }


def _accumulator(kind: str, folder: Path) -> Any:  # noqa: ANN401  (it has no types)
    accumulator = import_module(f"tensorboard.backend.event_processing.{kind}").EventAccumulator(
        str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0}
    )
    accumulator.Reload()
    return accumulator


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every tag below `folder`."""
    tensor_util: Any = import_module("tensorboard.util.tensor_util")
    accumulator = _accumulator("event_accumulator", folder)
    scalars = {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    tensors = {
        tag: [(event.step, float(tensor_util.make_ndarray(event.tensor_proto))) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }
    return scalars | tensors


def wandb_offline(file: Path) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Id, configuration and history of the offline run in a `.wandb` file."""
    wandb_internal_pb2: Any = import_module("wandb.proto.wandb_internal_pb2")
    name, config, history = "", dict[str, Any](), list[dict[str, Any]]()
    for data in _leveldb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        updates = [*record.run.config.update, *record.config.update]
        config |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}
        name = record.run.run_id or name
        if record.HasField("history"):
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return name, config, history


def _leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB has it: blocks with parts of records, each after checksum, length and kind."""
    whole, at = b"", _WANDB_HEADER
    while at + 7 <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield whole
            whole = b""

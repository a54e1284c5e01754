"""A checkpoint that has changed on disk, or that holds what is not finite, is refused: never other weights silently."""

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.modules.contents import IDENTITY
from epo_lightning.modules.identity import Identity
from epo_lightning.run.checkpoint import AtomicCheckpointIO, read_checkpoint
from tests.support.sameness import differences
from tests.support.training import small_data, small_module, train

GOOD: dict[str, Any] = {
    CONFIG_KEY: "seed_everything: 0",
    IDENTITY: Identity("epo", "Probe", 2, 2, False, {}).as_dict(),
    "epoch": 4,
    "state_dict": {"policy.a": torch.ones(3), "policy.b": torch.ones(2)},
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the command line writes it."""
    folder = tmp_path_factory.mktemp("real")
    trainer = train(small_module(), small_data(), folder, 1)
    state = {**trainer._checkpoint_connector.dump_checkpoint(False), CONFIG_KEY: "seed_everything: 0"}
    AtomicCheckpointIO().save_checkpoint(state, folder / "last.ckpt")
    return folder / "last.ckpt"


def refused(path: Path) -> str:
    """How `path` is refused, in one line; empty when it is read."""
    try:
        read_checkpoint(path)
    except ValueError as error:
        message = str(error)
    else:
        return ""
    assert "\n" not in message
    assert message.startswith(f"ckpt_path: {path} ")
    return message


def assert_refused_or_the_same(path: Path, original: dict[str, Any]) -> bool:
    """Whether it was refused."""
    if refused(path):
        return True
    assert differences(original, read_checkpoint(path)) == []
    return False


def test_a_thousand_bit_flips_load_nothing_wrong(real: Path, tmp_path: Path) -> None:
    original, content, draw = read_checkpoint(real), real.read_bytes(), random.Random(0)
    path = tmp_path / "flipped.ckpt"
    caught = 0
    for _ in range(1000):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        caught += assert_refused_or_the_same(path, original)
    assert caught > 300  # the others hit padding, which nobody reads


def test_bit_flips_in_the_archives_directory_load_nothing_wrong(tmp_path: Path) -> None:
    """Names, sizes, offsets, kinds and the checksums themselves: every bit of the directory of a small archive."""
    small, path = tmp_path / "small.ckpt", tmp_path / "flipped.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, small)
    original, content = read_checkpoint(small), small.read_bytes()
    for bit in range(8 * content.index(b"PK\x01\x02"), 8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert_refused_or_the_same(path, original)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_truncations_are_refused(real: Path, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "short.ckpt"
    content = real.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged, truncated or not a checkpoint" in refused(path)


@pytest.mark.parametrize("garbage", [b"x", b"\0" * 100, b"PK\x05\x06" + b"\0" * 18, b"x" * 70_000])
def test_what_was_appended_changes_nothing(real: Path, tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "long.ckpt"
    path.write_bytes(real.read_bytes() + garbage)
    assert_refused_or_the_same(path, read_checkpoint(real))


def test_a_folder_and_an_unreadable_file_are_named(tmp_path: Path) -> None:
    assert "Is a directory" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "nothing.ckpt")


def test_an_archive_that_unpacks_to_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 10_000_000)
    assert "an entry is compressed" in refused(path)


def test_a_tensor_that_expands_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.ckpt"
    torch.save({**GOOD, "state_dict": {"policy.a": torch.ones(1).expand(10**12)}}, path)
    assert "state_dict.policy.a is larger than its storage" in refused(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["weights", "normaliser", "Adam"])
def test_what_is_not_finite_is_neither_written_nor_read(tmp_path: Path, value: float, where: str) -> None:
    bad = torch.tensor([0.0, value], dtype=torch.float64 if where == "normaliser" else torch.float32)
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "weights": ("state_dict.policy.a", {"state_dict": {"policy.a": bad}}),
        "normaliser": ("state_dict.policy.obs_moments.var", {"state_dict": {"policy.obs_moments.var": bad}}),
        "Adam": (
            "optimizer_states[0].state.0.exp_avg_sq",
            {"optimizer_states": [{"state": {0: {"exp_avg_sq": bad}}}]},
        ),
    }
    name, ill = cases[where]
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="was not written at iteration 5") as caught:
        AtomicCheckpointIO().save_checkpoint({**GOOD, **ill}, path)
    assert f"{name} is not finite" in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    torch.save({**GOOD, **ill}, path)
    assert f"cannot be used: {name} is not finite" in refused(path)


def test_a_simulators_state_may_hold_nan(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({**GOOD, "ranks": {"obs": torch.tensor(torch.nan)}}, path)
    assert not refused(path)

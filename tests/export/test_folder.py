"""An export appears when it is whole, and takes the place of nothing but an older export."""

from pathlib import Path

import pytest

from epo_lightning.export.folder import filled, require_free
from epo_lightning.limits import Mistake

MANIFEST = "# A policy\nformat: epo-policy\nlayout: 1\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_with_its_parents_and_replaces_an_older_export(tmp_path: Path) -> None:
    out = tmp_path / "new" / "policy"
    for number in range(2):
        with filled(out) as part:
            assert names(part) == []
            (part / "policy.yaml").write_text(MANIFEST)
            (part / ("policy.onnx" if number == 0 else "policy.pt")).write_text(f"{number}")
            assert out.exists() == (number > 0)
        assert names(out.parent) == ["policy"]
    assert names(out) == ["policy.pt", "policy.yaml"]  # nothing of the older one


def fail(out: Path, error: BaseException) -> None:
    with filled(out) as part:
        (part / "policy.yaml").write_text("half")
        raise error


@pytest.mark.parametrize("error", [Mistake("no"), KeyboardInterrupt(), RuntimeError()])
def test_where_it_goes_wrong_nothing_changes(error: BaseException, tmp_path: Path) -> None:
    out = tmp_path / "policy"
    out.mkdir()
    (out / "policy.yaml").write_text(MANIFEST)
    with pytest.raises(type(error)):
        fail(out, error)
    assert names(tmp_path) == ["policy"]
    assert (out / "policy.yaml").read_text() == MANIFEST


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".policy.part").mkdir()
    (tmp_path / ".policy.part" / "policy.onnx").write_text("half")
    with filled(tmp_path / "policy") as part:
        (part / "policy.yaml").write_text(MANIFEST)
    assert names(tmp_path) == ["policy"]


def test_a_place_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    file, foreign, strange = tmp_path / "file", tmp_path / "foreign", tmp_path / "strange"
    file.write_text("")
    foreign.mkdir()
    (foreign / "policy.yaml").write_text(MANIFEST)
    (foreign / "thesis.tex").write_text("")
    strange.mkdir()
    (strange / "policy.yaml").write_text("mine: 1\n")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(Mistake, match=r"--out: .*link is a link: name the folder"):
        require_free(link)
    for out, fault in ((file, "is no folder"), (foreign, "holds thesis.tex"), (strange, "not empty, and no export")):
        with pytest.raises(Mistake, match=f"--out: .*{fault}"):
            require_free(out)
    (tmp_path / "empty").mkdir()
    require_free(tmp_path / "empty")
    require_free(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="cannot be written"), filled(tmp_path / "file" / "policy"):
        raise AssertionError("never")

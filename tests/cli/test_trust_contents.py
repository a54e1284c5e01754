"""What else somebody's run may hold: keys of one invocation, links, the weights of another network."""

from pathlib import Path

import pytest
import torch
import yaml

from epo_lightning.cli.trust.signature import sign
from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from tests.support.command_line import Cli
from tests.support.strangers import forge, load, refused, save, spec

pytestmark = pytest.mark.usefixtures("evil_module")


class TestOneInvocation:
    def test_its_keys_do_not_come_from_a_checkpoint(self, own: Cli) -> None:
        checkpoint = load()
        keys = {"out": "elsewhere.mp4", "run_dir": "elsewhere", "ckpt_path": "elsewhere.ckpt", "config": "secret.yaml",
                "base": "secret.yaml", "trust": True, "port": 1, "fit": {"run_dir": "elsewhere"}}  # fmt: skip
        text = checkpoint[CONFIG_KEY] + yaml.safe_dump(keys)
        for path in (save({**checkpoint, CONFIG_KEY: text}), save({**checkpoint, CONFIG_KEY: text}, mark=sign(text))):
            outcome = own("fit", "--ckpt_path", path, "--run_dir", f"new{path}", "--trainer.max_epochs", 2)
            assert outcome.code == 0, outcome.err
            assert not list(Path().glob("elsewhere*"))
            assert "TOPSECRET" not in outcome.out + outcome.err
            Path(f"new{path}").rename(f"done{len(list(Path().glob('done*')))}")

    @pytest.mark.parametrize("folder", ["{}/elsewhere", "../elsewhere", "~/elsewhere"])
    def test_a_trusted_stranger_does_not_say_where_to_save(
        self, own: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        logger = spec("lightning.pytorch.loggers.CSVLogger", save_dir=folder.format(tmp_path))
        forge(("trainer.logger", logger))
        outcome = own("fit", "--ckpt_path", "foreign.ckpt", "--run_dir", "new", "--trust", "--trainer.max_epochs", 2)
        assert outcome.code == 0, outcome.err
        assert not list(Path().rglob("elsewhere"))
        assert Path("new/lightning_logs").is_dir()
        assert "save_dir" in outcome.err

    def test_an_own_run_goes_on_saving_where_it_did(self, own: Cli) -> None:
        logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(Path("mine").resolve()))
        assert own("fit", "--config", "tiny.yaml", "--run_dir", "logged", *logger).code == 0
        assert own("fit", "--ckpt_path", "logged", "--trainer.max_epochs", 3).code == 0
        assert len(list(Path("mine/lightning_logs").iterdir())) == 2


class TestHostileFolder:
    @pytest.mark.parametrize(
        "link", ["metrics.csv", ".config.yaml", "lineage.jsonl", "videos", "checkpoints/last.evaluation.json",
                 "checkpoints/.last.ckpt.part"],
    )  # fmt: skip
    def test_links_lead_nowhere(self, own: Cli, link: str) -> None:
        save(load(), "own/checkpoints/last.ckpt")
        Path("own", link).unlink(missing_ok=True)
        Path("own", link).symlink_to(Path("secret").resolve())
        refused(own, f"own/{link} is a link to", "--ckpt_path", "own")
        assert own("validate", "--ckpt_path", "own", "--trust").code in (0, 2)

    def test_a_link_beside_a_single_file(self, own: Cli) -> None:
        save(load())
        Path("foreign.evaluation.json").symlink_to(Path("own/config.yaml").resolve())
        Path("foreign.test.json").symlink_to("/etc/hostname")
        refused(own, "foreign.test.json is a link to /etc/hostname", "--ckpt_path", "foreign.ckpt", commands=("test",))

    def test_a_link_instead_of_a_checkpoint_is_not_shown(self, own: Cli) -> None:
        Path("own/checkpoints/last.ckpt").unlink()
        Path("own/checkpoints/last.ckpt").symlink_to(Path("secret").resolve())
        refused(own, "cannot be read", "--ckpt_path", "own")

    def test_links_of_an_own_run_stay(self, own: Cli) -> None:
        Path("big").mkdir()
        Path("own/metrics.csv").rename("big/metrics.csv")
        Path("own/metrics.csv").symlink_to(Path("big/metrics.csv").resolve())
        assert own("validate", "--ckpt_path", "own").code == 0


class TestContents:
    """What else is in the file."""

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("network.colour", "red", "'network.colour', which this version does not know"),
            ("network.hidden", (10**6,) * 3, "its weights are not those"),
            ("network.hidden", (10**12, 10**12), "no network of the sizes"),
            ("network.hidden", (1,) * 10**5, "no network of the sizes"),
            ("network.width", 10**9, "its weights are not those"),
            ("network.activation", "os", "no network of the sizes"),
            ("network.obs_clip", torch.ones(()), "no network of the sizes"),
            ("num_agents", "4\x1b[2J", "no network of the sizes"),
            ("num_agents", 5, "genes has shape (4, 3) instead of (5, 3)"),
            ("obs_dim", 10**15, "its weights are not those"),
            ("discrete", True, "its weights are not those"),
        ],
    )  # fmt: skip
    def test_sizes_are_those_of_the_weights(self, own: Cli, name: str, value: object, words: str) -> None:
        checkpoint = load()
        identity = checkpoint["identity"]
        (identity if name in identity else identity["model"])[name] = value
        refused(own, words, "--ckpt_path", save(checkpoint))

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("missing", "genes is missing"),
            ("too many", r"'evil\x1b[2J' is none of its parameters"),
            ("not a tensor", "genes is not a plain tensor"),
            ("sparse", "ckpt_path: "),
            ("no identity", "it does not say for which network"),
            ("no state_dict", "it has no state_dict"),
        ],
    )
    def test_other_weights(self, own: Cli, kind: str, words: str) -> None:
        checkpoint = load()
        state = checkpoint["state_dict"]
        if kind == "missing":
            del state["policy.genes"]
        elif kind == "too many":
            state["policy.evil\x1b[2J"] = torch.ones(1)
        elif kind == "not a tensor":
            state["policy.genes"] = [1.0]
        elif kind == "sparse":
            state["policy.genes"] = state["policy.genes"].to_sparse()
        else:
            del checkpoint["identity" if kind == "no identity" else "state_dict"]
        refused(own, words, "--ckpt_path", save(checkpoint))

    def test_weights_beside_the_network(self, own: Cli) -> None:
        checkpoint = load()
        checkpoint["state_dict"]["evil"] = torch.ones(1)
        for command in ("fit", "validate", "test"):
            outcome = own(
                command,
                "--ckpt_path",
                save(checkpoint),
                "--run_dir",
                "new",
                *(["--trainer.max_epochs=2"] if command == "fit" else []),
            )
            assert outcome.code == 2
            assert outcome.err.endswith("lack, or have too much, 'evil'\n")

    def test_the_configuration_asks_for_the_network_that_is_there(self, own: Cli) -> None:
        path = forge(("model.network.hidden", [10**6, 10**6]))
        refused(own, "another model.network.hidden", "--ckpt_path", path)
        refused(own, "another model.num_agents", "--ckpt_path", forge(("model.num_agents", 10**9)))

    @pytest.mark.parametrize(
        "values", [None, 3, {"a": "b"}, {"\x1b[2J": 1.0}, {1: 1.0}, {"a": torch.ones(2)}, {"a": {"b": 1}}]
    )
    def test_a_curriculum_is_names_and_numbers(self, own: Cli, values: object) -> None:
        checkpoint = load()
        checkpoint["ranks"][0]["curriculum"] = values
        refused(own, "its curriculum is not names and numbers", "--ckpt_path", save(checkpoint))

    @pytest.mark.parametrize(
        ("name", "value"), [("loops", 3), ("callbacks", []), ("epoch", "x"), ("optimizer_states", 1)]
    )
    def test_what_lightning_restores(self, own: Cli, name: str, value: object) -> None:
        refused(own, f"its {name} is of the type", "--ckpt_path", save({**load(), name: value}))

    @pytest.mark.parametrize("ranks", [3, {"ranks": 3}, [3]])
    def test_ranks_are_ranks(self, own: Cli, ranks: object) -> None:
        refused(own, "does not hold the ranks", "--ckpt_path", save({**load(), "ranks": ranks}))

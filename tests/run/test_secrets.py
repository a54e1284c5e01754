"""Keys, tokens and passwords are hidden wherever they stand."""

import math

import pytest

from epo_lightning.run.secrets import command_without_secrets, is_secret, without_secrets


@pytest.mark.parametrize(
    "name", ["api_key", "API_KEY", "apikey", "comet_api_key", "neptune_api_token", "token", "password", "passwd",
             "db_password", "client_secret", "secret_key", "aws_secret_access_key", "auth", "credentials"]
)  # fmt: skip
def test_names_that_tell_a_secret(name: str) -> None:
    assert is_secret(name, "abc")


@pytest.mark.parametrize("name", ["tokens", "max_tokens_seen", "author", "keyboard", "monkey", "project", "passes"])
def test_names_that_tell_none(name: str) -> None:
    assert not is_secret(name, "abc")


def test_what_is_no_text_is_no_secret() -> None:
    assert without_secrets({"token": 5, "password": None, "secret": ""}) == {"token": 5, "password": None, "secret": ""}


def test_secrets_are_hidden_at_any_depth() -> None:
    config = {"trainer": {"logger": [{"init_args": {"api_key": "abc", "project": "p"}}]}, "mu_cap": math.inf}
    assert without_secrets(config) == {
        "trainer": {"logger": [{"init_args": {"api_key": "***", "project": "p"}}]},
        "mu_cap": "inf",
    }
    assert without_secrets("https://me:pa55@host/x") == "https://me:***@host/x"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fit", "--a.logger.api_key", "abc", "--x", "1"], ["fit", "--a.logger.api_key", "***", "--x", "1"]),
        (["--trainer.logger.init_args.api_key=abc"], ["--trainer.logger.init_args.api_key=***"]),
        (['--trainer.logger={"init_args": {"api_key": "abc", "x": 1}}'],
         ['--trainer.logger={"init_args": {"api_key": ***, "x": 1}}']),
        (["--a.logger={init_args: {api_key: abc, x: 1}}"], ["--a.logger={init_args: {api_key: ***, x: 1}}"]),
        (["--trainer.logger.tracking_uri=https://me:abc@host"], ["--trainer.logger.tracking_uri=https://me:***@host"]),
        (["--model.loss.clip_eps=0.1", "--run_dir", "token"], ["--model.loss.clip_eps=0.1", "--run_dir", "token"]),
    ],
)  # fmt: skip
def test_a_command_line_is_told_without_its_secrets(words: list[str], told: list[str]) -> None:
    assert command_without_secrets(words) == told


def test_a_secret_of_the_configuration_is_hidden_wherever_the_command_line_has_it() -> None:
    config = {"trainer": {"logger": {"init_args": {"api_key": "abcdefg"}}}}
    assert command_without_secrets(["fit", "--note", "key is abcdefg"], config) == ["fit", "--note", "key is ***"]

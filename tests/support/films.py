"""What `play` would film, without an encoder."""

import pytest

from epo_lightning.show.playback import Playback


def labels_of_films(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every film that `play` would write from now on: the labels of its rows; one step of each is made."""
    films: list[list[str]] = []

    def record(playback: Playback, *_: object) -> None:
        playback.step()
        films.append(list(playback.labels))

    monkeypatch.setattr("epo_lightning.cli.shows.require_encoder", lambda: None)
    monkeypatch.setattr("epo_lightning.cli.shows.record", record)
    return films

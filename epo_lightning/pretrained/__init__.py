"""Small trained policies that come with the package, each with a card: data in `policies/`, and nothing that runs.

`<name>.ckpt` is a checkpoint without the state of its training, `<name>.yaml` tells what it is (see `card`).
`benchmarks/pretrained.py` makes both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake

POLICIES = Path(__file__).parent / "policies"
PREFIX = "pretrained:"
"""Before the name of one of them, where a checkpoint could stand, too."""


def names() -> list[str]:
    """Of all of them."""
    return sorted(file.stem for file in POLICIES.glob("*.ckpt"))


def find(name: str, key: str = "--pretrained") -> Path:
    """The checkpoint of a policy that comes with the package.

    Args:
        name: What it is called.
        key: Where the user wrote that, for the error message.

    Raises:
        Mistake: When there is none.
    """
    known = names()
    if name not in known:
        which = hint(name, known) or f"; there are {', '.join(known)}"
        raise Mistake(f"{key}: no policy that comes with the package is called {name or 'nothing'}{which}")
    return POLICIES / f"{name}.ckpt"


def is_packaged(checkpoint: Path) -> bool:
    """Whether it lies in this folder, where nobody else writes."""
    return checkpoint.resolve().parent == POLICIES.resolve()


def card(name: str) -> Mapping[str, Any]:
    """What the policy is: plain values by name.

    title           one line
    task            its name, and data.env of the configuration
    made            command, seed, commit, version, device, seconds, env_steps, agents, algorithm
    curve           env_steps and return, the master's, a number for each of a few moments of the training
    evaluation      command, episodes, and for the return mean, standard_error and interval (95 %); successes
    limits          what it cannot do, in words
    checkpoint      file, bytes and id (the fingerprint of its contents)
    """
    content: Mapping[str, Any] = yaml.safe_load(find(name).with_suffix(".yaml").read_text(encoding="utf-8"))
    return content

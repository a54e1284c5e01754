"""Configurations of a study, parsed by the parser of `fit` before any of them is run.

The parser is heavy, and the driver is light: one child process parses all of them.
"""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from epo_lightning.documents.keys import Settings
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.limits import Mistake
from epo_lightning.sweep.children import end_with_parent
from epo_lightning.sweep.settings import assign


class Wanted(NamedTuple):
    """A configuration.

    Attributes:
        where: Its place in the file of the study, for messages.
        configs: Files, the first at the bottom.
        overlays: What lies over them, in order.
        assignments: Single settings that come last, by their names with dots.
        is_whole: It is run as it is, so that its settings must fit together; one value that a search varies is not.
    """

    where: str
    configs: Sequence[Path]
    overlays: Sequence[Settings] = ()
    assignments: Settings = {}  # noqa: RUF012  (nobody changes it)
    is_whole: bool = True


def resolve_all(wanted: Sequence[Wanted]) -> list[str]:
    """The resolved configurations, as text.

    Raises:
        Mistake: When `fit` refuses one of them: its words, behind the place in the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        requests = [_request(one, Path(folder, str(number))) for number, one in enumerate(wanted)]
        answers = _ask(requests)
        refused = [
            (one.where, _without(answer["error"], folder))
            for one, answer in zip(wanted, answers, strict=True)
            if "error" in answer
        ]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise Mistake(f"{refused[0][0]}: {refused[0][1]}{more}")
    return [answer["config"] for answer in answers]


def _ask(requests: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The child's answers."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0,
        preexec_fn=end_with_parent(),
    ) as child:
        try:
            out, err = child.communicate(json.dumps(requests))
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise RuntimeError(f"configurations could not be parsed:\n{err}")
    answers: list[dict[str, str]] = json.loads(out)
    return answers


def _request(one: Wanted, folder: Path) -> dict[str, Any]:
    """What the child needs: arguments, and a text with assignments."""
    folder.mkdir()
    files = [*one.configs]
    for number, overlay in enumerate(one.overlays):
        file = folder / f"{number}.yaml"
        file.write_text(dump(overlay), encoding="utf-8")
        files.append(file)
    args = [word for file in files for word in ("--config", str(file))]
    changed = str(folder / "all.yaml")
    return {"args": args, "assignments": dump(one.assignments), "file": changed, "is_whole": one.is_whole}


def _without(message: str, folder: str) -> str:
    """The message without places in files that are gone when it is read."""
    place = rf"(?:config: )?{re.escape(folder)}[^\s:]*?(?:, line \d+)?:? "
    return re.sub(place, "", " ".join(message.split())).replace("error: ", "")


def tell(run: Any) -> int:  # noqa: ANN401, ARG001  (an Invocation, which is heavy to import)
    """Parse and build, and that is all.

    Args:
        run: What the command line means.
    """
    return 0


def main() -> None:
    """The child: read what is wanted, write what came out, as JSON."""
    requests = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answers = [_answer(request) for request in requests]
    json.dump(answers, sys.stdout)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    from epo_lightning.cli.entry import describe, is_users_mistake

    try:
        config = _parse(request["args"], is_whole=request["is_whole"])
        assignments = yaml.safe_load(request["assignments"])
        if assignments:
            content = yaml.safe_load(config)
            for key, value in assignments.items():
                assign(content, key, value)
            Path(request["file"]).write_text(dump(content), encoding="utf-8")
            config = _parse(["--config", request["file"]], is_whole=request["is_whole"])
        return {"config": config}
    except Exception as error:
        kind = "" if is_users_mistake(error) else f"{type(error).__name__}: "
        return {"error": f"{kind}{describe(error)}"}


def _parse(args: Sequence[str], *, is_whole: bool) -> str:
    """The resolved configuration that `fit` with these arguments runs."""
    from epo_lightning.cli.arguments import option_values, resolve
    from epo_lightning.cli.commands import RunCommand
    from epo_lightning.cli.invocation import Invocation

    words = resolve(["fit", *args])
    for flag, what in (("--ckpt_path", "checkpoint"), ("--pretrained", "policy")):
        if option_values(words, flag):
            raise Mistake(f"a configuration names a {what} ({flag[2:]}), but every run of a study begins by itself")
    command = RunCommand("Check a configuration.", f"{__name__}:tell", in_one_process=True)
    with contextlib.ExitStack() as at_end:
        invocation = Invocation(command, words, None, at_end)
        if is_whole:
            invocation.require_fitting()
        return invocation.resolved


if __name__ == "__main__":
    main()

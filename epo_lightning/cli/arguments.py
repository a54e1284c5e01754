"""The command line before anything heavy is imported: names of packaged configurations, and checkpoints.

Everything else about arguments is jsonargparse's business.
"""

import os
import re
from pathlib import Path

import yaml

from epo_lightning import pretrained
from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.nearest import hint
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import checkpoint_to_continue, find_checkpoint

CONFIGS = Path(__file__).parents[1] / "configs"
STUDIES = CONFIGS / "studies"
OF_WANDB = CONFIGS / "sweep.yaml"
"""For the agent of Weights & Biases, which starts runs: not a run's configuration."""
RESUME = "--resume"
"""Begin the run of `--run_dir`, or continue it."""
PRETRAINED = "--pretrained"
"""A policy that comes with the package: as `--ckpt_path`, and for `fit` what a new run begins with."""
_NOT_RESUME = "--resume=false"
_OF_ONE_INVOCATION = ("ckpt_path", "pretrained", "run_dir")
"""Texts that belong to one invocation, not to the run."""
_IS_QUOTED = re.compile(r"""\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*""", re.DOTALL)


def option_values(args: list[str], *names: str) -> list[tuple[int, str]]:
    """Position and value of each `--name value` or `--name=value`; the position is that of the value."""
    found = []
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names and equals:
            found.append((index, value))
        elif arg in names and index + 1 < len(args):
            found.append((index + 1, args[index + 1]))
    return found


def find_config(name: str, key: str = "config") -> Path:
    """The YAML file that `--config name` means: a path, or the name of a packaged configuration.

    Args:
        name: What the user wrote.
        key: Where, for the error message.

    Raises:
        Mistake: When it is neither.
    """
    path, packaged = Path(os.path.expanduser(name)), CONFIGS / f"{name}.yaml"
    for file in (path, packaged):
        if file.is_file():
            _require_run(file, key)
            return file
    if path.is_dir():
        raise Mistake(f"{key}: {name} is a folder; give the YAML file itself")
    if (STUDIES / packaged.name).is_file():
        raise Mistake(f"{key}: {name} is a study of several runs: epo-lightning sweep {name}")
    known = sorted(file.stem for file in CONFIGS.glob("*.yaml") if file != OF_WANDB)
    choices = hint(name, known) or f": {', '.join(known)}"  # all of them only where none is near: they are many
    raise Mistake(f"{key}: {name} is neither a file nor one of the packaged configurations{choices}")


def _require_run(file: Path, key: str) -> None:
    """Refuse a file that starts runs: W&B's agent's, or a study.

    Raises:
        Mistake: With the command that it is for.
    """
    keys = read_config(file).values.keys()
    if {"parameters", "method"} <= keys:
        raise Mistake(f"{key}: {file} is for the agent of Weights & Biases, which starts runs: wandb sweep {file}")
    if keys & {"methods", "grid", "search"} and not keys & {"model", "data", "trainer"}:
        raise Mistake(f"{key}: {file} is a study of several runs: epo-lightning sweep {file}")


def with_bases(config: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """`config` after the configurations that it overlays: those of its key `base`, in order, each after its own.

    A base is a file, relative to the folder of the file that names it, or the name of a packaged configuration.

    Args:
        config: A YAML file.
        above: The files whose base `config` is, directly or not.

    Raises:
        Mistake: When a base does not exist, or a configuration is a base of itself.
    """
    above = (*above, config.resolve())
    chain = []
    for name in _bases(config):
        beside = config.parent / os.path.expanduser(name)
        base = beside if beside.is_file() else find_config(name, f"base of {config}")
        if base.resolve() in above:
            raise Mistake(f"base of {config}: {base} is that file itself, or overlays it")
        chain += with_bases(base, above)
    return [*chain, config]


def _bases(config: Path) -> list[str]:
    """The values of the key `base`: a name or a list of names."""
    given = read_config(config).values.get("base")
    names = given if isinstance(given, list) else [] if given in (None, "", "null", "~") else [given]
    if not all(isinstance(name, str) for name in names):
        raise Mistake(f"base of {config} must be names of configurations or files; got {given!r}")
    return [str(plain(name)) for name in names]


def resolve(args: list[str]) -> list[str]:
    """`args` with every configuration (after its bases) and checkpoint replaced by the file that it means.

    What a file says of one invocation, `ckpt_path`, `pretrained`, `run_dir` and `resume`, becomes the flag at the place
    of the file.

    Raises:
        Mistake: When one of them does not exist.
    """
    if option_values(args, "--base"):
        raise Mistake("base is a key of configuration files; on the command line give several --config, base first")
    resolved = list(args)
    for index, name in reversed(option_values(args, "--config", "-c")):
        *bases, config = with_bases(find_config(name))
        _put(resolved, index, str(config))
        option = index if resolved[index].startswith("-") else index - 1
        resolved[index + 1 : index + 1] = _flags_in(config)
        resolved[option:option] = [flag for base in bases for flag in (f"--config={base}", *_flags_in(base))]
    resolved = _settled(resolved)
    resolved = _with_policy(resolved)
    run_dir = option_values(resolved, "--run_dir")
    for index, name in run_dir:
        _put(resolved, index, os.path.expanduser(name))
    if RESUME in resolved:
        resolved = _resumed(resolved)
    run_dir = option_values(resolved, "--run_dir")
    for index, name in option_values(resolved, "--ckpt_path"):
        found = find_checkpoint(os.path.expanduser(name), run_dir[-1][1] if run_dir else None)
        _put(resolved, index, str(found))
    return resolved


def _flags_in(config: Path) -> list[str]:
    """The flags that a file stands for.

    Raises:
        Mistake: When it says what only a command line can say.
    """
    file = read_config(config)
    if "trust" in file.values:
        raise Mistake(
            f"config: {file.place('trust')}: trust is for the command line only: leave it out of configuration files,"
            " and add --trust where you mean it"
        )
    if "config" in file.values:
        raise Mistake(f"config: {file.place('config')}: a file names the files that it overlays by the key base")
    flags = []
    for key in _OF_ONE_INVOCATION:
        value = file.values.get(key)
        if key in file.values and not isinstance(value, str | None):
            raise Mistake(f"config: {file.place(key)}: {key} must be a text; got {plain(value)}")
        if key in file.values:
            flags.append(f"--{key}={'null' if value is None or not value else value}")
    if "resume" in file.values:
        wanted = yaml.safe_load(str(file.values["resume"]))
        if not isinstance(wanted, bool):
            raise Mistake(f"config: {file.place('resume')}: resume must be true or false; got {wanted}")
        flags.append(RESUME if wanted else _NOT_RESUME)
    return flags


def _settled(args: list[str]) -> list[str]:
    """`args` where `null` takes back what came before, and texts have no quotes."""
    for key in _OF_ONE_INVOCATION:
        given = option_values(args, f"--{key}")
        last_null = max((place for place, value in given if value in ("null", "~")), default=-1)
        for place, value in reversed(given):
            if place <= last_null:
                start = place if args[place].startswith(f"--{key}=") else place - 1
                del args[start : place + 1]
            elif _IS_QUOTED.fullmatch(value):
                _put(args, place, str(yaml.safe_load(value)))
            else:
                _put(args, place, str(plain(value)))
    if _NOT_RESUME in args:
        last = len(args) - 1 - args[::-1].index(_NOT_RESUME)
        args = [each for place, each in enumerate(args) if each not in (RESUME, _NOT_RESUME) or place > last]
    return args


def _resumed(args: list[str]) -> list[str]:
    """`args` with the checkpoint that `--resume` continues from, when there is one."""
    run_dir = option_values(args, "--run_dir")
    if args[0] != "fit":
        raise Mistake(f"{RESUME} belongs to fit: {args[0]} takes --ckpt_path")
    if option_values(args, "--ckpt_path"):
        raise Mistake(f"{RESUME} finds the checkpoint of --run_dir itself: leave out --ckpt_path")
    if not run_dir:
        raise Mistake(f"{RESUME} needs --run_dir: the folder of the run to begin or to continue")
    checkpoint = checkpoint_to_continue(run_dir[-1][1])
    return [*args, *([f"--ckpt_path={checkpoint}"] if checkpoint else [])]


def _with_policy(args: list[str]) -> list[str]:
    """`args` with the file of the policy that `--pretrained` names: of `fit` there, of others as their checkpoint.

    Raises:
        Mistake: When there is none, or a checkpoint is named, too.
    """
    if PRETRAINED in args[-1:]:
        raise Mistake(f"{PRETRAINED} needs the name of a policy: {', '.join(pretrained.names())}")
    args = list(args)
    for index, name in option_values(args, PRETRAINED):
        if option_values(args, "--ckpt_path"):
            raise Mistake(f"{PRETRAINED} and --ckpt_path name a policy each: leave out one of them")
        if name.startswith("--"):
            raise Mistake(f"{PRETRAINED} needs the name of a policy: {', '.join(pretrained.names())}")
        _put(args, index, str(pretrained.find(name)))
    if args[0] == "fit":
        return args
    return [re.sub(rf"{PRETRAINED}(?=$|=)", "--ckpt_path", each, count=1) for each in args]


def is_complete(args: list[str]) -> bool:
    """Whether `args` are the whole command of a run, which begins or continues it with the same configuration.

    The checkpoint's configuration must not come before them then: `callbacks+` would add to what it has added.
    """
    return RESUME in args and bool(option_values(args, "--config", "-c", "--data.env", PRETRAINED))


def run_name(args: list[str]) -> str | None:
    """What the configurations that `args` name are called together, or None without any."""
    begun = [f"from_{name}" for _, name in option_values(args, PRETRAINED)[-1:]]
    return "-".join([*(Path(path).stem for _, path in option_values(args, "--config", "-c")), *begun]) or None


def _put(args: list[str], index: int, value: str) -> None:
    """Replace the value at `index`, which may stand behind `--name=`."""
    name, equals, _ = args[index].partition("=")
    args[index] = f"{name}={value}" if equals and name.startswith("-") else value

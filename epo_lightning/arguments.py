"""The command line before anything heavy is imported: names of packaged configurations, and checkpoints.

Everything else about arguments is jsonargparse's business.
"""

from pathlib import Path

from epo_lightning.run_folder import find_checkpoint

CONFIGS = Path(__file__).parent / "configs"


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


def find_config(name: str) -> Path:
    """The YAML file that `--config name` means: a path, or the name of a packaged configuration.

    Raises:
        ValueError: When it is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = CONFIGS / f"{name}.yaml"
    if packaged.is_file():
        return packaged
    known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    raise ValueError(f"config: {name} is neither a file nor one of the packaged configurations: {known}")


def resolve(args: list[str]) -> list[str]:
    """`args` with every configuration and checkpoint replaced by the file that it means."""
    resolved = list(args)
    for index, name in option_values(args, "--config", "-c"):
        _put(resolved, index, str(find_config(name)))
    run_dir = option_values(args, "--run_dir")
    for index, name in option_values(args, "--ckpt_path"):
        _put(resolved, index, str(find_checkpoint(name, run_dir[-1][1] if run_dir else None)))
    return resolved


def run_name(args: list[str]) -> str | None:
    """What the configurations of resolved `args` are called together, or None without any."""
    return "-".join(Path(path).stem for _, path in option_values(args, "--config", "-c")) or None


def _put(args: list[str], index: int, value: str) -> None:
    """Replace the value at `index`, which may stand behind `--name=`."""
    name, equals, _ = args[index].partition("=")
    args[index] = f"{name}={value}" if equals and name.startswith("-") else value

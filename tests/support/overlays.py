"""Which packaged configurations say no task, and what they can be laid over."""

_UNDER = {
    "laptop": "two_arm",
    "ours": "wall_maze",
    "paper": "two_arm",
    "ppo_tuned": "ppo",
    "released": "two_arm",
    "sapg_published": "two_arm",
    "pbt_laptop": "pbt_reorient",
}


def command_line(name: str, path: str | None = None) -> list[str]:
    """`--config` of the packaged configuration `name`, or of its file, after what it needs below it."""
    under = "two_arm" if name.endswith("_kuka") else _UNDER.get(name)
    return [*(["--config", under] if under else []), "--config", path or name]

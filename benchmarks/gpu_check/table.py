"""The check as tables in Markdown."""

from collections.abc import Iterable
from typing import Any


def as_markdown(check: dict[str, Any]) -> str:
    """One page: the card, every stage with what was wrong, and the figures of those that have some."""
    stages = check["stages"]
    known = ", ".join(f"{name} {number}" for name, number in check["versions"].items())
    note = "\n\nAt toy sizes: it shows that everything runs, and measures nothing." if check["toy"] else ""
    parts = [f"# {check['card']}\n\n{check['date']}; {known}{note}", _stages(stages)]
    parts += [text for name, table in _TABLES.items() if name in stages and (text := table(stages[name]))]
    return "\n\n".join(parts) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _stages(stages: dict[str, Any]) -> str:
    rows = []
    for name, found in stages.items():
        told = [*found["faults"], *([found["reason"]] if "reason" in found else [])]
        rows.append([name, found["status"], f"{found['seconds']:.0f}", "; ".join(told)])
    return _table(["stage", "came out", "s", "what is wrong"], rows)


def _parity(found: dict[str, Any]) -> str:
    rows = [
        [
            *(row["task"], f"{row['contacts']:.1f}", f"{row['moved']:.2f}"),
            f"{max(error for name, error in row['errors'].items() if name.endswith('_pos')):.1e}",
            f"{max(error for name, error in row['errors'].items() if not name.endswith('_pos')):.1e}",
        ]
        for row in found.get("tasks", [])
    ]
    heads = ["Warp against MuJoCo, five steps", "contacts", "a joint moved, rad", "positions apart", "the rest apart"]
    return _table(heads, rows) if rows else ""


def _waits(found: dict[str, Any]) -> str:
    rows = [[row["part"], row["lstm"] or "none", f"{row['mean']:.1f}", row["most"]] for row in found.get("parts", [])]
    return _table(["waits for the device", "LSTM", "mean", "most"], rows) if rows else ""


def _physics(found: dict[str, Any]) -> str:
    rows = []
    for row in found.get("speeds", []):
        gib = "" if row.get("device_gib") is None else f"{row['device_gib']:.1f}"
        rows.append(
            [row["task"], row["engine"], f"{row['worlds']:,}", f"{row['whole']:,.0f}", f"{row['physics']:,.0f}", gib]
        )
    heads = ["task", "engine", "worlds", "env steps/s", "physics alone, steps/s", "device memory, GiB"]
    memory = [
        [row["task"], f"{row['warp_per_world']:.0f}", f"{row['state_per_world']:.0f}"]
        for row in found.get("memory", [])
    ]
    tables = [_table(heads, rows) if rows else ""]
    tables.append(_table(["task", "Warp, KiB per world", "in a checkpoint, bytes per world"], memory) if memory else "")
    return "\n\n".join(filter(None, tables))


def _training(found: dict[str, Any]) -> str:
    if "seconds_per_iteration" not in found:
        return ""
    parts = found["seconds_per_iteration"]
    whole = sum(parts.values())
    heads = [f"{found['config']}, {found['num_envs']:,} environments", "s an iteration", "share"]
    rows = [[name, f"{value:.3f}", f"{value / whole:.0%}"] for name, value in parts.items()]
    rows.append(["whole", f"{whole:.3f}", f"{found['env_steps_per_second']:,.0f} env steps/s"])
    peak = found["peak_memory_mib"]
    memory = "" if peak is None else f"; torch's peak {peak:,.0f} MiB"
    return (
        _table(heads, rows)
        + f"\n\n{found['parameters']:,} parameters, buffer {found['experience_mib']:,.0f} MiB{memory}"
    )


def _algorithms(found: dict[str, Any]) -> str:
    steps = ("fit", "resume", "validate", "export")
    rows = [
        [row["run"], row["iterations"], *(row["seconds"].get(step, "") for step in steps)]
        for row in found.get("runs", [])
    ]
    return _table(["run", "iterations", *(f"{step}, s" for step in steps)], rows) if rows else ""


def _learner(found: dict[str, Any]) -> str:
    rows = [
        [
            *(f"{row['envs']:,}", row["agents"], row["hidden"], row["lstm"] or "none", row["way"]),
            *(f"{row['milliseconds']:.1f}", f"{row['env_steps_per_second']:,.0f}"),
        ]
        for row in found.get("times", [])
    ]
    return (
        _table(["environments", "agents", "hidden", "LSTM", "learner", "ms an iteration", "env steps/s"], rows)
        if rows
        else ""
    )


_TABLES = {
    "parity": _parity,
    "waits": _waits,
    "physics": _physics,
    "training": _training,
    "algorithms": _algorithms,
    "learner": _learner,
}

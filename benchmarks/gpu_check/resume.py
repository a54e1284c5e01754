"""The run of `training` goes on for one more iteration, in its folder."""

import math

from benchmarks.gpu_check.stage import Report, Setting
from benchmarks.gpu_check.training import chosen, fit, last_line, rows


def find_out(setting: Setting, report: Report) -> None:
    """Env steps go on from where they were, and the loss is a number."""
    run, iterations = setting.folder / "training", setting.sizes.train_iterations + 1
    if not (run / "checkpoints" / "last.ckpt").exists():
        report.tell(status="skipped", reason="there is no run of the stage `training`")
        return
    before = rows(run)
    ended = fit("--ckpt_path", run, *chosen(setting.device), "--trainer.max_epochs", iterations)
    if ended.returncode:
        report.fault(f"fit ended with {ended.returncode}: {last_line(ended)}")
        return
    after = rows(run)
    steps = [float(row["charts/env_steps"]) for row in after]
    report.tell(iterations=len(after), env_steps=steps[-1], loss=float(after[-1]["losses/total"]))
    kept = [{name: row[name] for name in before[0]} for row in after[: len(before)]]  # new columns may have come
    if kept != before:
        report.fault("the rows before the checkpoint have changed")
    if steps != [steps[0] * (place + 1) for place in range(iterations)]:
        report.fault(f"env steps went {steps}")
    if not math.isfinite(float(after[-1]["losses/total"])):
        report.fault("the loss of the resumed iteration is not finite")

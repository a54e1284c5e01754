"""Draw metrics of one run over env steps, with its generations.

python benchmarks/curves.py RUN_FOLDER --picture docs/pictures/two_arm.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from study import curve

METRICS = ["charts/episodic_return", "env/fingertip_distance", "env/lifted"]


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    mpl.use("agg")
    import matplotlib.pyplot as plt

    lineage = args.run / "lineage.jsonl"
    generations = [json.loads(line) for line in lineage.open()] if lineage.exists() else []
    figure, axes = plt.subplots(1, len(args.metrics), figsize=(4 * len(args.metrics), 3), squeeze=False)
    for panel, name in zip(axes[0], args.metrics, strict=True):
        panel.plot(*zip(*curve(args.run, name), strict=True), linewidth=1)
        for record in generations:
            panel.axvline(record["env_steps"] / 1e6, color="tab:orange", alpha=0.6, linewidth=0.8)
        panel.set(title=name, xlabel="env steps (millions)")
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()

"""The tests that are marked `gpu`: with a card, on it."""

import subprocess
import sys
from xml.etree import ElementTree

from benchmarks.gpu_check.stage import ROOT, Report, Setting


def find_out(setting: Setting, report: Report) -> None:
    """Their number, and the first line of each failure."""
    file = setting.folder / "tests.xml"
    file.unlink(missing_ok=True)
    marked = [str(each) for each in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in each.read_text()]
    flags = ["-m", "gpu and not slow", f"--junitxml={file}", "-p", "no:cacheprovider"]
    code = subprocess.run([sys.executable, "-m", "pytest", *flags, *marked], cwd=ROOT, check=False).returncode
    if not file.exists():
        report.fault(f"pytest ended with {code}")
        return
    suite = next(ElementTree.parse(file).getroot().iter("testsuite"))  # our own file
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    report.tell(**counts)
    for case in suite.iter("testcase"):
        for kind in ("failure", "error"):
            if (wrong := case.find(kind)) is not None:
                said = (wrong.get("message") or "").splitlines()
                report.fault(f"{case.get('classname')}.{case.get('name')}: {said[0] if said else kind}")
    if code not in (0, 1):
        report.fault(f"pytest ended with {code}")

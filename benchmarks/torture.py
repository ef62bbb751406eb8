"""Every fault-injection test at full length, and what they counted.

    make torture
    python benchmarks/torture.py --only tests/faults/test_flips.py   # a part, nothing written

Runs the tests below with SERFEAT_TORTURE set, prints the counts and writes them to
benchmarks/results/torture-DATE.json.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/faults",
    "tests/extract/test_kill.py",
    "tests/extract/test_kill_engines.py",
    "tests/store/test_store_damage.py",
    "tests/store/test_store_moved.py",
    "tests/cli/test_cli_signals.py",
    "tests/cli/test_cli_interrupt.py",
    "tests/test_audio_fuzz.py",
    "tests/fuzz",
    "tests/history",
)


def run(tests: list[str], kills: int) -> dict[str, Any]:
    """Run pytest over the tests; its last line and every line that a test counted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "counts.jsonl"
        environment = {
            **os.environ,
            "SERFEAT_TORTURE": "1",
            "SERFEAT_TORTURE_KILLS": str(kills),
            "SERFEAT_TORTURE_REPORT": str(report),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, check=False
        )
        print(done.stdout)
        lines = report.read_text().splitlines() if report.exists() else []
        return {
            "passed": done.returncode == 0,
            "summary": done.stdout.strip().splitlines()[-1],
            "seconds": round(time.monotonic() - started),
            "counts": [json.loads(line) for line in lines],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="these tests instead; nothing is written")
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    tests = options.only or [name for name in TESTS if (ROOT / name).exists()]
    found = {
        "command": "make torture" if not options.only else " ".join(sys.argv),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "tests": tests,
        "kills": options.kills,
        **run(tests, options.kills),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if not found["passed"]:
        sys.exit("a test failed: nothing is written")
    if not options.only:
        today = datetime.datetime.now(datetime.UTC).date()
        (ROOT / "benchmarks" / "results" / f"torture-{today}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Kill commands at random moments (SIGKILL, SIGTERM, Ctrl-C), look at every file after each kill, then finish every run.

    python benchmarks/kills.py --kills 200

Exit status 1 if a file was ever neither the old one nor the new one, if anything stays behind, or if a run does not go on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))

from kills import kill_many
from warm import Warm


def main() -> int:
    """Kill, look, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Warm() as warm:
        found = kill_many(asked.kills, Path(folder), warm, asked.seed)
    print(f"{'command':10} {'killed':>8} {'was faster':>11}")
    for name in sorted({*found.killed, *found.finished}):
        print(f"{name:10} {found.killed[name]:8} {found.finished[name]:11}")
    print(f"{asked.kills} kills in {time.monotonic() - began:.0f} s; {len(found.wrong)} faults")
    for line in found.wrong:
        print(f"  {line}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

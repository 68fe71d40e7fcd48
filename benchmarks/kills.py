"""Kill commands at random moments (SIGKILL, SIGTERM, Ctrl-C), look at every file after each kill, then finish every run.

    python benchmarks/kills.py --kills 200
    python benchmarks/kills.py --tunings 10         one tuning, killed so often; it goes on each time

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
from tunings import kill_tunings
from warm import Warm


def main() -> int:
    """Kill, look, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tunings", type=int, metavar="KILLS")
    asked = parser.parse_args()
    if asked.tunings is not None:
        return tunings(asked.tunings, asked.seed)
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


def tunings(kills: int, seed: int) -> int:
    """Kill one tuning, and tell how far it was after each kill."""
    with tempfile.TemporaryDirectory() as folder, Warm() as warm:
        found = kill_tunings(kills, Path(folder), warm, seed)
    told = ", ".join(map(str, found.answers))
    print(f"{kills} kills of a tuning in {found.seconds:.0f} s, {found.finished} runs were faster; {len(found.wrong)} faults")
    print(f"answers in its journal after each kill: {told}")
    for line in found.wrong:
        print(f"  {line}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

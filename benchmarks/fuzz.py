"""Files made bad on purpose, as many as asked for: how did deploykit end on each of them?

    python benchmarks/fuzz.py --cases 100000

Exit status 1 if one of them crashed the interpreter, left a traceback or a hang, took more than 2 GB, wrote outside its folder,
opened a connection or started a program. A case is its number: `--first N --cases 1` makes it again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hostile"))

import driver


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--onnx", type=float, default=1.0, help="how many ONNX files, which take longest: a factor")
    asked = parser.parse_args()

    def tell(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done:,} of {asked.cases:,}", end="", file=sys.stderr, flush=True)

    found = driver.run(range(asked.first, asked.first + asked.cases), asked.workers, tell, asked.onnx)
    print("\n".join(driver.lines(found)))
    return 1 if found.findings or found.cases != asked.cases else 0


if __name__ == "__main__":
    sys.exit(main())

"""Is the same export the same file, to the byte? Every shipped network, twice: in two processes, two folders, two hash seeds.

    python benchmarks/reproducible.py [TARGET ...]

Exit status 1 if two files differ.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deploykit import architectures

SCRIPT = """
import sys
from pathlib import Path
from deploykit.exporter import export
for target in sys.argv[1:]:
    file = export(target, untrained=True, out=Path(target.replace(":", "-") + ".onnx")).file
    print(target, file.name, flush=True)
"""


def exported(targets: list[str], seed: str) -> dict[str, str]:
    """The digest of each target's export by a fresh interpreter in a fresh folder; a refused file counts as itself."""
    here = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *targets], cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        files = dict(line.split() for line in done.stdout.splitlines())
        return {target: hashlib.sha256((Path(folder) / files[target]).read_bytes()).hexdigest() for target in targets}


def main() -> int:
    """Export, compare, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", help="all shipped architectures by default")
    targets = parser.parse_args().targets or list(architectures.names())
    differ = 0
    for target in targets:
        first, second = (exported([target], seed)[target] for seed in ("0", "12345"))
        differ += first != second
        print(f"{target:24} {'the same' if first == second else 'DIFFERENT'}  {first[:16]}", flush=True)
    print(f"{len(targets) - differ} of {len(targets)} exports are the same to the byte")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

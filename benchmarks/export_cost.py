"""What does the proof cost? `deploykit export resnet18 --untrained` beside a script that only exports, in turns.

    python benchmarks/export_cost.py --rounds 5

The script imports torch and calls `torch.onnx.export` on the same network; deploykit also simplifies, validates and writes the
contract. Whole processes, wall clock. Expected before measuring: a median of the pairwise ratios of at most 2.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import click

from deploykit.files import write_text

RESULTS = Path(__file__).parent / "results" / "export_cost.json"
BARE = """
import sys, torch
from deploykit import architectures
network = architectures.get("resnet18").create().eval()
shapes = ({0: torch.export.Dim("batch")},)
torch.onnx.export(network, (torch.randn(2, 1, 32, 32),), sys.argv[1], dynamic_shapes=shapes, external_data=False, verbose=False)
"""


def seconds(command: list[str]) -> float:
    """Of one run that succeeds."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
def main(rounds: int) -> None:
    """One after the other, so that drift of the machine hits both."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "m.onnx")
        bare = [sys.executable, "-W", "ignore", "-c", BARE, file]
        whole = [sys.executable, "-m", "deploykit", "export", "resnet18", "--untrained", "--out", file]
        for command in (bare, whole):
            seconds(command)  # warms the file cache
        pairs = [(seconds(bare), seconds(whole)) for _ in range(rounds)]
    ratios = [ours / theirs for theirs, ours in pairs]
    document = {
        "date": date.today().isoformat(),
        "ratio": round(statistics.median(ratios), 3),
        "each": [round(ratio, 3) for ratio in ratios],
        "limit": 2.0,
    }
    write_text(RESULTS, json.dumps(document, indent=1) + "\n")
    click.echo(f"deploykit export / bare script: {document['ratio']} ({min(ratios):.2f} to {max(ratios):.2f}, {rounds} pairs)")


if __name__ == "__main__":
    main()

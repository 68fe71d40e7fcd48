"""How much memory does a network above the 2 GB of one ONNX file take? Export and validation, as a multiple of its weights.

    python benchmarks/large_network.py                       # torchvision's regnet_y_128gf, 2.58 GB of weights
    python benchmarks/large_network.py --target torchvision:vit_h_14

Each command runs in a process of its own; the figure is the largest resident size that the system saw (ru_maxrss).
Expected before measuring: at most 4 times the weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import click

from deploykit.files import write_text

RESULTS = Path(__file__).parent / "results" / "large_network.json"


def measured(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a command printed as JSON, and what it took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploykit", *arguments, "--format", "json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = {"exit": process.returncode, "peak_gb": usage.ru_maxrss * 1024 / 1e9, "seconds": round(time.perf_counter() - began, 1)}
    return json.loads(printed), took


@click.command()
@click.option("--target", default="torchvision:regnet_y_128gf", show_default=True)
def main(target: str) -> None:
    """Export, validate, compare the peaks with the size of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.onnx")
        exported, export = measured("export", target, "--untrained", "--out", file)
        size = exported["bytes"] / 1e9
        validated, validate = measured("validate", file, "--against", target, "--untrained", "--batches", "1,3")
        files = sorted(path.suffix for path in Path(folder).iterdir())
    document = {
        "date": date.today().isoformat(),
        "target": target,
        "weights_gb": round(size, 2),
        "files": files,
        "export": {**export, "verdict": exported["verdict"]["verdict"], "times_the_weights": round(export["peak_gb"] / size, 2)},
        "validate": {**validate, "verdict": validated["verdict"], "times_the_weights": round(validate["peak_gb"] / size, 2)},
        "limit": 4.0,
    }
    write_text(RESULTS, json.dumps(document, indent=1) + "\n")
    click.echo(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()

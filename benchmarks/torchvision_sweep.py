"""Every classification network of torchvision, exported with fresh weights and held against PyTorch.

    python benchmarks/torchvision_sweep.py                       # all 80; the largest two have 2.5 GB of weights
    python benchmarks/torchvision_sweep.py --only resnet18 --only vit_b_16
    python benchmarks/torchvision_sweep.py --since 2026-11-29    # those that have no row of that day or later

Each network is exported by the command line in a process of its own: what is measured is what a user gets. The verdict compares
batches of 1, 2, 3 and 5; the export itself sees a batch of 2. Results are kept in benchmarks/results/torchvision_sweep.json, so that
the table can be made in pieces.

Expected before measuring: 80 of 80 are the same network.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from torchvision import models

from deploykit.files import write_text

RESULTS = Path(__file__).parent / "results" / "torchvision_sweep.json"
PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxsim", "onnxruntime-gpu")


def exported(name: str) -> dict[str, Any]:
    """One row: the verdict of `deploykit export torchvision:NAME --untrained`, and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "deploykit", "export", f"torchvision:{name}", "--untrained", "--format", "json"]
        done = subprocess.run([*command, "--out", str(Path(folder) / "model.onnx")], capture_output=True, text=True, check=False)
    if not done.stdout:
        return {"verdict": "error", "detail": done.stderr.strip()[-300:], "date": date.today().isoformat()}
    found = json.loads(done.stdout)
    verdict = found["verdict"]
    return {
        "verdict": verdict["verdict"],
        "date": date.today().isoformat(),
        "detail": "; ".join(check["detail"] for check in verdict["checks"] if not check["passed"]),
        "megabytes": round(found["bytes"] / 1e6, 1),
        "nodes": found["nodes"],
        "layers": verdict["layers_compared"],
        "error": verdict["errors"] and verdict["errors"]["onnx_vs_64"],
        "tolerance": verdict["errors"] and verdict["errors"]["tolerance"],
        "evidence": next((c["detail"] for c in verdict["checks"] if c["name"] == "evidence"), ""),
        "seconds": round(sum(found["seconds"].values()), 1),
    }


def markdown(document: dict[str, Any]) -> str:
    """The table, drawn from whatever has been measured so far."""
    rows = document["networks"]
    same = sum(row["verdict"] == "same" for row in rows.values())
    dates = sorted({row["date"] for row in rows.values()})
    lines = [
        f"{same} of {len(rows)} networks are the same after export ({' to '.join(dict.fromkeys((dates[0], dates[-1])))}; "
        + ", ".join(f"{name} {v}" for name, v in document["versions"].items())
        + "). Errors are relative to the scale of PyTorch's float64 outputs; seconds are of one run on a shared machine.",
        "",
        "| network | verdict | layers compared | error | tolerated | nodes | MB | seconds | date |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items()):
        if row["verdict"] == "error":
            lines.append(f"| `{name}` | error: {row['detail'][:80]} | | | | | | | {row['date']} |")
            continue
        numbers = f"{row['error']:.1e} | {row['tolerance']:.1e}" if row["error"] is not None else " | "
        cells = f"{row['layers']} | {numbers} | {row['nodes']} | {row['megabytes']} | {row['seconds']} | {row['date']}"
        lines.append(f"| `{name}` | {row['verdict']} | {cells} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(models.list_models(module=models)), help="Just this network.")
@click.option("--since", default="", metavar="DATE", help="Only networks without a row of that day or later, as 2026-11-29.")
def main(only: tuple[str, ...], since: str) -> None:
    """Export, keep the rows, print the table."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"networks": {}}
    document["versions"] = {name: version(name) for name in PACKAGES}
    for name in only or models.list_models(module=models):
        if since and document["networks"].get(name, {}).get("date", "") >= since:
            continue
        document["networks"][name] = exported(name)
        click.echo(f"{name:22} {document['networks'][name]}", err=True)
        write_text(RESULTS, json.dumps(document, indent=1, sort_keys=True) + "\n")
        write_text(RESULTS.with_suffix(".md"), markdown(document))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    click.echo(f"largest process: {peak:.1f} GB", err=True)
    click.echo(markdown(document))


if __name__ == "__main__":
    main()

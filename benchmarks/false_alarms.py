"""Does the verdict cry wolf? Clean exports of many networks with many seeds, each of which must be called the same network.

    python benchmarks/false_alarms.py               # 20 networks x 10 seeds
    python benchmarks/false_alarms.py --seeds 3

Fresh weights, and BatchNorm statistics as a trained network has them, are drawn from each seed; the network is exported,
simplified and judged. Expected before measuring: 0 false alarms in 200 runs.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from deploykit import architectures, simplifier, verdict
from deploykit import target as targets
from deploykit.exporter import to_onnx
from deploykit.files import write_text

RESULTS = Path(__file__).parent / "results" / "false_alarms.json"
# Too large to be exported ten times; the sweep over torchvision's networks has larger ones.
LEFT_OUT = ("alexnet", "googlenet", "nin", "vgg11")


def clean(name: str, seed: int) -> verdict.Verdict:
    """The verdict on an honest export."""
    network = targets.resolve(name, untrained=True, seed=seed)
    torch.manual_seed(seed)
    for module in network.module.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    model = to_onnx(network)
    simplified = simplifier.simplified(model, verdict.sample_batches(network))
    return verdict.judge(simplified.model, network, steps=[("export", model), ("simplify", simplified.model)])


@click.command()
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Seeds per network.")
def main(seeds: int) -> None:
    """Run, count, keep the alarms."""
    names = [name for name in architectures.names() if name not in LEFT_OUT]
    alarms: list[dict[str, Any]] = []
    closest: dict[str, float] = {}
    for name in names:
        for seed in range(seeds):
            found = clean(name, seed)
            errors = found.errors
            if errors:
                closest[name] = max(closest.get(name, 0.0), round(errors.onnx_vs_64 / errors.tolerance, 3))
            if not found.same:
                alarms.append({"network": name, "seed": seed, "checks": [c.detail for c in found.checks if not c.passed]})
        click.echo(f"{name:24} {len(alarms)} alarms so far, outputs at most {closest.get(name, 0):.2f} of the tolerance", err=True)
    document = {
        "date": date.today().isoformat(),
        "runs": len(names) * seeds,
        "false_alarms": alarms,
        "largest_share_of_the_tolerance": closest,
    }
    write_text(RESULTS, json.dumps(document, indent=1) + "\n")
    click.echo(f"{len(alarms)} false alarms in {document['runs']} runs")


if __name__ == "__main__":
    main()

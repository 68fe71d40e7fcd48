"""The fastest file that still makes the same decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deploykit.cli._common import FILE, Common, Paper, common_options, complete_data, device_option, paper_options, target_options

if TYPE_CHECKING:
    from deploykit.network.request import Request


@click.command()
@target_options
@click.option(
    "--data", metavar="NAME_OR_DIR_OR_NPZ", shell_complete=complete_data,
    help="Samples as they occur: a dataset, a folder, or arrays by name; `noise` for random numbers.  [default: the network's own]",
)  # fmt: skip
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Most that accuracy may lose.",
)
@click.option(
    "--min-agreement", type=click.FloatRange(0, 1), default=0.99, show_default=True, help="Without labels: share of same decisions."
)
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Of outputs that are no decisions, of their scale.",
)
@click.option(
    "--goal", type=click.Choice(["latency", "throughput", "size"]), default="latency", show_default=True, help="What is to be best."
)
@click.option("--batch", type=click.IntRange(1, 1 << 16), help="Samples per run.  [default: 1; for throughput what is fastest]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads within a run.  [default: what is fastest]")
@click.option("--engines", metavar="A,B", help="onnxruntime,openvino.  [default: all that are installed]")
@click.option("--precisions", metavar="A,B", help="fp32,tf32,fp16,bf16,int8.  [default: all]")
@device_option
@click.option("--seconds", type=click.FloatRange(5), default=150, show_default=True, help="About how long it may take.")
@click.option("--out", type=FILE, help="Where to write.  [default: STEM.tuned.onnx beside the file]")
@paper_options("time against accuracy")
@common_options
def command(request: Request, common: Common, paper: Paper, **options: Any) -> None:
    """Find the fastest file for this machine whose decisions are those of TARGET, prove it on samples that nobody chose by.

    Where nothing is faster and proven, the file that is written is the one that was given. Killed, it goes on when called again.
    """
    from deploykit.tuner import tune
    from deploykit.views.tune import report

    found = tune(request.target, **request.keywords(), progress=common.progress(), **options)
    paper.emit(common, report(found))

"""A checkpoint, trained by the recipe of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deploykit.cli._common import (
    FILE,
    Common,
    arg_option,
    arguments_of,
    common_options,
    complete_architecture,
    data_option,
    module_option,
    seed_option,
)
from deploykit.progress import SILENT


@click.command()
@click.argument("target", shell_complete=complete_architecture)
@data_option
@click.option("--epochs", type=click.IntRange(0, 100_000), help="Passes over the training split.  [default: the recipe's]")
@click.option("--batch-size", type=click.IntRange(1, 1 << 20), help="Samples per step.  [default: the recipe's]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate.  [default: the recipe's]")
@click.option("--limit", type=click.IntRange(1), help="At most so many training samples.")
@seed_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the forward pass.",
)
@click.option("--init", type=FILE, help="Weights to start from; a head for other classes starts fresh.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without a better validation.")
@click.option("--out", type=FILE, help="Folder for the results.  [default: trained/NAME]")
@click.option(
    "--image", metavar="SIDE|HxW", help="Size of the images, for a network of your own or torchvision's.  [default: found out]"
)
@arg_option
@module_option
@common_options
def command(target: str, arg: tuple[str, ...], common: Common, out: Path | None, **options: Any) -> None:
    """Train TARGET and write trained/NAME/model.safetensors.

    TARGET is an architecture, trained by its own recipe; or torchvision:NAME or your own package.module:callable, which learn from
    --data by a recipe for any network: its last layer is replaced to fit the classes, and with --init learns alone in the first
    epoch. --data is a dataset, a folder of images by class, a folder of images and masks, or arrays x and y in a .npz file.

    An earlier run in that folder is not lost: its files are kept together in previous-1 (or the next number) there, from the
    end of the first epoch on. Remove what you do not need.
    """
    from deploykit import training
    from deploykit.network.request import Request, make_importable
    from deploykit.views.training import report

    make_importable(Request(target))
    progress = common.progress() if training.is_main_process() else SILENT
    result = training.train(target, out=out, arguments=arguments_of(arg), progress=progress, **options)
    if training.is_main_process():
        common.emit(report(result))

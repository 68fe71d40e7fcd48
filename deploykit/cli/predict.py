"""Ask an ONNX file about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deploykit.cli._common import FILE, Common, common_options, complete_files, threads_option


@click.command()
@click.argument("file", type=FILE)
@click.argument("paths", nargs=-1, required=True, shell_complete=complete_files)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="How many of the best labels to show.")
@click.option("--batch-size", type=click.IntRange(1, 65_536), default=64, show_default=True, help="Inputs per run.")
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="CUDA if it really works, or the one named."
)
@threads_option
@click.option(
    "--out", type=click.Path(), help="Write the answers too: a .csv, .jsonl or .json file, or a folder for masks, boxes and arrays."
)
@click.option(
    "--ray",
    metavar="local|auto|ray://HOST",
    help="Answer on a Ray cluster, or all cores of this machine, into the folder or URI --out: Parquet with a row for each input.",
)
@click.option("--resume", is_flag=True, help="With --ray: go on where a run into the same folder was stopped.")
@click.option("--column", metavar="NAME", help="With --ray: the column of .parquet files that has the images.")
@click.option(
    "--rows-as", type=click.Choice(["parquet", "jsonl"]), help="With --ray: how the rows are written.  [default: parquet]"
)
@click.option(
    "--actors", type=click.IntRange(1), help="With --ray: how many work at a time.  [default: as many as there is room for]"
)
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    file: Path,
    paths: tuple[str, ...],
    top: int,
    batch_size: int,
    device: str,
    threads: int | None,
    out: str | None,
    ray: str | None,
    common: Common,
    **on_ray: Any,
) -> None:
    """Ask the ONNX file FILE about images: files, folders and patterns such as 'digits/*.png', or - for standard input.

    Networks that take arrays are asked about .npy files, those of several inputs about .npz files with an array for each.
    With --out a folder gets masks with an overlay, boxes drawn and as COCO JSON, or arrays, by what the network is for.

    With --ray (`pip install 'deploykit[ray]'`) also lists of paths in a .txt file, columns of images in .parquet files, and URIs
    such as s3://bucket/folder; --threads are then those of each actor, one if they are not given.

    What cannot be read is listed with its error, the others still answer; the exit status is then 2.
    """
    if ray is not None:
        _predict_on_ray(
            common, ray, file, paths, out, {"top": top, "batch_size": batch_size, "device": device, "threads": threads}, on_ray
        )
        return
    for name, value in on_ray.items():
        if value:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --ray")
    import logging

    from deploykit.errors import InputError, counted
    from deploykit.runtime import Predictor, predict
    from deploykit.runtime.isolation import rehearse
    from deploykit.views.predictions import report

    logging.getLogger("deploykit.runtime").addHandler(logging.NullHandler())  # said below, once, and not with --quiet
    asked = ctx.get_parameter_source("device") is not click.core.ParameterSource.DEFAULT
    rehearse(file, meanwhile=lambda: _load_the_rest(common.format))
    with Predictor(file, device, threads=threads) as model:
        if model.device_note and (asked or model.cuda_lost):
            common.note(model.device_note)
        if model.engine_note:
            common.note(f"{file}: {model.engine_note}")
        results = predict(model, paths, top=top, batch_size=batch_size, out=out, progress=common.progress())
    common.emit(report(results))
    if out is not None:
        common.note(f"wrote {out}")
    failed = sum(not result.ok for result in results)
    if failed:
        raise InputError(f"{failed} of {counted(len(results), 'input')} got no answer", "their errors are listed")


def _predict_on_ray(
    common: Common, ray: str, file: Path, sources: tuple[str, ...], out: str | None, options: dict[str, Any], on_ray: dict[str, Any]
) -> None:
    """What `--ray` does. Ray itself prints on stdout when a machine is lost; that is shown with --debug only."""
    import contextlib
    import os
    import sys

    from deploykit.errors import InputError, counted

    if out is None:
        raise click.UsageError("--ray needs --out FOLDER")
    from deploykit.cluster import predict
    from deploykit.views.cluster import report

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stderr if common.debug else nowhere):  # noqa: PTH123
        result = predict(
            file, sources, out=out, ray=ray, progress=common.progress(), **options,
            **{name: value for name, value in on_ray.items() if value},
        )  # fmt: skip
    common.emit(report(result))
    if result.errors:
        raise InputError(f"{result.errors:,} of {counted(result.rows, 'input')} got no answer", "their rows have an error")


def _load_the_rest(form: str) -> None:
    """What will be needed to read images and to print, loaded while the file is tried out."""
    import deploykit.runtime.images
    import deploykit.runtime.preprocessing  # noqa: F401
    from deploykit import reports
    from deploykit.views.predictions import report

    reports.render(report([]), form)

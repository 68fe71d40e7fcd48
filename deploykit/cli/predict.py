"""``deploykit predict``: ask a deployed file."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli._common import FILE, Common, common_options, complete_files, threads_option


@click.command(short_help="Ask an ONNX file about images.")
@click.argument("file", type=FILE)
@click.argument("paths", nargs=-1, required=True, shell_complete=complete_files)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="How many of the best labels to show.")
@click.option("--batch-size", type=click.IntRange(1, 65_536), default=64, show_default=True, help="Inputs per run.")
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="CUDA if it really works, or the one named."
)
@threads_option
@click.option(
    "--out", type=FILE, help="Write the answers too: a .csv, .jsonl or .json file, or a folder for masks, boxes and arrays."
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
    out: Path | None,
    common: Common,
) -> None:
    """Ask the ONNX file FILE about images: files, folders and patterns such as 'digits/*.png', or - for standard input.

    Networks that take arrays are asked about .npy files, those of several inputs about .npz files with an array for each.
    With --out a folder gets masks with an overlay, boxes drawn and as COCO JSON, or arrays, by what the network is for.

    What cannot be read is listed with its error, the others still answer; the exit status is then 2.
    """
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


def _load_the_rest(form: str) -> None:
    """What will be needed to read images and to print, loaded while the file is tried out."""
    import deploykit.runtime.images
    import deploykit.runtime.preprocessing  # noqa: F401
    from deploykit import reports
    from deploykit.views.predictions import report

    reports.render(report([]), form)

"""A smaller ONNX file that gives the same answers."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli._common import FILE, Common, common_options, inputs_option


@click.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, help="The file to write.  [default: FILE with .simplified before .onnx]")
@inputs_option
@common_options
def command(file: Path, out: Path | None, inputs: Path | None, common: Common) -> None:
    """Simplify FILE with onnxsim, and keep the result only if it gives the same answers."""
    from deploykit.simplifier import simplify
    from deploykit.views.simplification import report

    common.emit(report(simplify(file, out, inputs)))

"""A model repository for Triton or KServe."""

from __future__ import annotations

from typing import Any

import click

from deploykit.cli._common import FILE, Common, common_options, complete_files


@click.command()
@click.argument("given", nargs=-1, required=True, metavar="FILE_OR_FOLDER...", shell_complete=complete_files)
@click.option(
    "--for", "kind", type=click.Choice(("triton", "kserve")), default="triton", show_default=True, help="Who is to serve it."
)
@click.option("--out", type=FILE, default="models", show_default=True, help="The folder of the repository.")
@click.option("--name", "names", multiple=True, help="Of the model; once for each.  [default: that of its file or folder]")
@click.option(
    "--max-batch-size", type=click.IntRange(0, 65_536), default=32, show_default=True, help="Rows of one run; 0 for no batching."
)
@click.option(
    "--max-queue-delay-us", type=click.IntRange(0, 60_000_000), default=0, show_default=True, help="How long a request waits."
)
@click.option("--instances", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runs of a model at a time.")
@click.option(
    "--with-python-backend", "python_backend", is_flag=True, help="Also NAME_python, run by onnxruntime in Triton's Python backend."
)
@click.option(
    "--storage-uri",
    "storage",
    default="pvc://models",
    show_default=True,
    metavar="URI",
    help="Where KServe will find the repository.",
)
@click.option("--allow-rejected", is_flag=True, help="Package files too whose own verdict is no.")
@common_options
def command(
    given: tuple[str, ...],
    common: Common,
    **options: Any,
) -> None:
    """Write ONNX files and folders of them as a repository: config.pbtxt, labels, one folder for each version.

    For KServe a manifest of an InferenceService comes beside it.
    """
    from deploykit.serving.packaging import package
    from deploykit.views.package import report

    common.emit(report(package(given, **options)))

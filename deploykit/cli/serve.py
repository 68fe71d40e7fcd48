"""Serve ONNX files over HTTP and gRPC."""

from __future__ import annotations

import signal
from typing import Any

import click

from deploykit.cli._common import FILE, Common, common_options, complete_files, threads_option


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE_OR_FOLDER...", shell_complete=complete_files)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for every one.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Of HTTP; 0 for any that is free.")
@click.option("--grpc-port", type=click.IntRange(0, 65_535), help="Of gRPC.  [default: no gRPC]")
@click.option("--name", "names", multiple=True, help="Of the model; once for each.  [default: that of its file or folder]")
@click.option(
    "--max-batch-size", type=click.IntRange(1, 65_536), default=32, show_default=True, help="Rows of one run; 1 for no batching."
)
@click.option(
    "--max-queue-delay-us",
    type=click.IntRange(0, 60_000_000),
    default=0,
    show_default=True,
    help="How long a request waits for others.",
)
@click.option("--instances", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runs of a model at a time.")
@threads_option
@click.option(
    "--queue-size", type=click.IntRange(1, 1 << 20), default=128, show_default=True, help="Requests that may wait; others get 503."
)
@click.option(
    "--timeout", type=click.FloatRange(0.001, 86_400), default=60.0, show_default=True, help="Seconds of a request, in all."
)
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="CUDA if it really works, or the one named."
)
@click.option("--token-file", type=FILE, help="Tokens, one a line: who has none gets 401.")
@click.option("--tls-certificate", type=FILE, help="PEM file; then HTTPS is spoken.")
@click.option("--tls-key", type=FILE, help="PEM file of the certificate's key.")
@click.option("--allow-rejected", is_flag=True, help="Serve files too whose own verdict is no.")
@click.option("--allow-reload", is_flag=True, help="Load and unload models over HTTP and gRPC; SIGHUP always loads all again.")
@click.option(
    "--drain-seconds", type=click.FloatRange(0, 3600), default=30.0, show_default=True, help="To finish in after SIGTERM."
)
@click.option(
    "--drain-delay",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="Seconds after SIGTERM, not ready, still open.",
)
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    common: Common,
    **options: Any,
) -> None:
    """Serve ONNX files and folders of them until SIGTERM or Ctrl-C.

    A folder holds NAME/model.onnx, or NAME/1/model.onnx with a number for each version. When it answers, stdout says where and
    what; stderr gets a line of JSON for every request, unless --quiet.
    """
    from deploykit.serving.description import contract
    from deploykit.serving.lines import Lines, logged
    from deploykit.serving.listening import Listening
    from deploykit.serving.models import Models
    from deploykit.serving.server import serve
    from deploykit.views.serving import report

    def started(listening: Listening, models: Models) -> None:
        common.emit(report(listening.address, listening.grpc_port, [contract(served) for served in models.loaded()]))
        common.note(f"listening on {listening.address}" + (f", gRPC on port {listening.grpc_port}" if listening.grpc_port else ""))

    with Lines() as lines, logged(lines):
        ended = serve(files, access_log=None if common.quiet else lines.write, started=started, **options)
    if ended == signal.SIGINT:
        ctx.exit(130)

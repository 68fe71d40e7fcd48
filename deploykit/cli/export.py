"""An ONNX file, simplified, proven to be the same network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploykit.cli._common import FILE, Common, common_options, target_options
from deploykit.cli._contract import contract_options

if TYPE_CHECKING:
    from deploykit.network.request import Request


@click.command()
@target_options
@click.option("--out", type=FILE, help="The file to write.  [default: model.onnx beside the checkpoint]")
@click.option("--opset", type=int, default=20, show_default=True, help="Version of the ONNX operator set.")
@click.option(
    "--dynamic",
    default="batch",
    show_default=True,
    metavar="AXES",
    help="Axes that may vary: batch,height,width, any other as NAME=AXIS or NAME=INPUT:AXIS, or none.",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="Of weights and arithmetic."
)
@click.option(
    "--input-names", metavar="NAME,NAME", help="Names of the file's inputs.  [default: input, or forward()'s own for several]"
)
@click.option("--simplify/--no-simplify", default=True, show_default=True, help="Run onnxsim, and check what it did.")
@click.option("--with-preprocessing", is_flag=True, help="Put resize, crop and normalization in: the file takes raw uint8 images.")
@contract_options
@click.option("--meaning", multiple=True, metavar="NAME=TEXT", help="What an output means, in words.")
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    request: Request,
    common: Common,
    out: Path | None,
    dynamic: str,
    input_names: str | None,
    meaning: tuple[str, ...],
    **options: Any,
) -> None:
    """Export TARGET to ONNX, simplify it, and prove that it is the same network.

    From --image on: what the file says of its images and its answers, checked against the graph.
    """
    from deploykit.exporter import export
    from deploykit.views.export import report

    result = export(
        request.target,
        **request.keywords(),
        out=out,
        dynamic=() if dynamic == "none" else tuple(name.strip() for name in dynamic.split(",")),
        input_names=None if input_names is None else [name.strip() for name in input_names.split(",")],
        meanings=_meanings(meaning),
        progress=common.progress(),
        **options,
    )
    common.emit(report(result))
    if not result.verdict.same:
        ctx.exit(1)


def _meanings(pairs: tuple[str, ...]) -> dict[str, str]:
    found = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(found) or not all("=" in pair for pair in pairs):
        raise click.BadParameter(f"{', '.join(pairs)[:120]!r} is not of the form NAME=TEXT", param_hint="--meaning")
    return found

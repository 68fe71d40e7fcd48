"""Is an ONNX file still the same network? Exit 1 if not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploykit.cli._common import FILE, Common, against_options, common_options, data_option, device_option
from deploykit.cli._contract import contract_options

if TYPE_CHECKING:
    from deploykit.network.request import Request


class Sizes(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.5 only
    """``1,2,5`` -> (1, 2, 5)."""

    name = "N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Whole numbers from 1 to 4096."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(p.strip().isdecimal() and 1 <= int(p) <= 4096 for p in parts):
            self.fail(f"{value!r} is no list of batch sizes such as 1,2,5", param, ctx)
        return tuple(int(p) for p in parts)


@click.command()
@click.argument("file", type=FILE)
@against_options
@data_option
@click.option("--batches", type=Sizes(), default="1,2,5", show_default=True, help="Batch sizes to try.")
@click.option("--rtol", type=click.FloatRange(0), help="Relative tolerance, instead of the derived one.")
@click.option("--atol", type=click.FloatRange(0), help="Absolute tolerance, instead of the derived one.")
@click.option("--witness", type=FILE, metavar="FILE.npz", help="Where to write inputs on which both part, and both answers.")
@device_option
@contract_options
@common_options
@click.pass_context
def command(ctx: click.Context, /, file: Path, request: Request, common: Common, witness: Path | None, **options: Any) -> None:
    """Say whether the ONNX FILE is the same network as --against; exit 1 if not.

    --arg, --input-shape and --input-dtype as they were given to export; inputs that nobody names are those of the file.
    From --image on: what TARGET's images and answers are, as it was said to export; the file's contract is compared with it.
    """
    from deploykit.verdict import validate
    from deploykit.views.verdict import report

    verdict = validate(file, against=request.target or None, **request.keywords(), **options)
    if witness is not None and verdict.witness is not None:
        from deploykit.runtime.values import write

        write(witness, verdict.witness)
    common.emit(report(verdict))
    if not verdict.passed:
        ctx.exit(1)

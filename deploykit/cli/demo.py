"""Train, export, prove, profile and ask lenet5, all into DIR."""

from __future__ import annotations

from pathlib import Path

import click

from deploykit.cli._common import FILE, Common, common_options, seed_option


@click.command()
@click.argument("folder", metavar="[DIR]", type=FILE, default=Path("demo"))
@seed_option
@common_options
@click.pass_context
def command(ctx: click.Context, /, folder: Path, seed: int, common: Common) -> None:
    """Train lenet5 on real digits, export and prove it, profile it, and predict without PyTorch; all into DIR."""
    from deploykit.demonstration import demo
    from deploykit.views.demonstration import report

    result = demo(folder, seed=seed, progress=common.progress())
    common.emit(report(result))
    if not result.export.verdict.same:
        ctx.exit(1)

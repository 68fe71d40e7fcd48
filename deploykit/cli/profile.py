"""Every layer's shape, parameters, operations and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deploykit.cli._common import (
    Common,
    Paper,
    common_options,
    complete_backends,
    complete_target,
    device_option,
    paper_options,
    target_options,
    threads_option,
)

if TYPE_CHECKING:
    from deploykit.network.request import Request


class Depth(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.5 only
    """``leaves``, or a number of levels."""

    name = "leaves|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Levels from 0 (the whole network in one row) to 100."""
        if value == "leaves" or isinstance(value, int):
            return value
        if not value.isdecimal() or int(value) > 100:
            self.fail(f"{value!r} is neither leaves nor a number of levels", param, ctx)
        return int(value)


@click.command()
@target_options
@click.option("--against", metavar="TARGET", shell_complete=complete_target, help="Another network or file to put beside it.")
@click.option("--batch", type=click.IntRange(1, 1 << 20), help="Samples per run.  [default: 1, or what the file fixes]")
@click.option(
    "--convention",
    type=click.Choice(["macs", "flops", "paddle"]),
    default="macs",
    show_default=True,
    help="What is counted.",
)
@click.option("--depth", type=Depth(), default="leaves", show_default=True, help="Every leaf module, or N levels of modules.")
@click.option(
    "--backends",
    default="torch,onnxruntime",
    show_default=True,
    metavar="A,B",
    shell_complete=complete_backends,
    help="Engines to time (`deploykit list backends`).",
)
@click.option("--tree", is_flag=True, help="Draw the modules as a tree, with the sums of each.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Measure times, or only count.")
@device_option
@threads_option
@paper_options("the layers and latencies")
@common_options
def command(request: Request, common: Common, backends: str, paper: Paper, **options: Any) -> None:
    """Report every layer of TARGET: shapes, parameters, operations and measured time, and which engine is faster."""
    from deploykit.profiler import profile
    from deploykit.views.profile import report

    found = profile(
        request.target,
        **request.keywords(),
        backends=[name.strip() for name in backends.split(",") if name.strip()],
        progress=common.progress(),
        **options,
    )
    paper.emit(common, report(found))

"""Options that several commands share, each written once, and how a command prints.

::

    @click.command()
    @target_options
    @common_options
    def command(request: Request, common: Common) -> None: ...
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from deploykit import plugins, reports
from deploykit.cli import _progress

if TYPE_CHECKING:
    from deploykit.progress import Progress
    from deploykit.reports import Report

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)


@dataclass(frozen=True)
class Common:
    """`--format`, `--debug` and `--quiet`: the same in every command. `stdout`: where the report goes, `None` for Python's own."""

    format: str
    debug: bool
    quiet: bool
    stdout: TextIO | None = None

    def emit(self, report: Report, output: Path | None = None) -> None:
        """Print the report on stdout in the chosen format, or write it to `output`."""
        with contextlib.redirect_stdout(self.stdout or sys.stdout):  # which also says whether it is a terminal
            text = reports.render(report, self.format)
            _progress.end()
            if output is None:
                click.echo(text)
                return
        from deploykit.files import write_text

        write_text(output, text + "\n")

    def progress(self) -> Progress:
        """A bar on stderr where that is a terminal; nothing in a pipe or with `--quiet`."""
        return _progress.listen(self.quiet)

    def note(self, line: str) -> None:
        """A remark on stderr, unless `--quiet`."""
        if not self.quiet:
            _progress.end()
            click.echo(line, err=True)


COMMON = (
    click.option("--quiet", is_flag=True, help="No progress, no remarks."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    click.option("--format", type=click.Choice(reports.names()), help="How to print.  [default: table]"),
)


def common_options(function: F) -> F:
    """Add the options of `Common`, which may also stand before the command; the command gets them as `common`.

    While it runs, stdout is for its report alone: what a network of the user's own prints goes to stderr.
    """

    @wraps(function)
    def wrapper(*args: Any, format: str | None, debug: bool, quiet: bool, **rest: Any) -> Any:  # noqa: A002
        before = click.get_current_context().find_root().params
        chosen = format or before.get("format") or "table"
        common = Common(chosen, debug or before.get("debug", False), quiet or before.get("quiet", False), sys.stdout)
        with contextlib.redirect_stdout(sys.stderr):
            return function(*args, common=common, **rest)

    decorated: Any = wrapper
    for option in COMMON:
        decorated = option(decorated)
    return cast(F, decorated)


@dataclass(frozen=True)
class Paper:
    """Where a report goes: to `output` in place of stdout, and as a picture to `plot`."""

    output: Path | None
    plot: Path | None

    def emit(self, common: Common, report: Report) -> None:
        """Print or write it, and draw it where that was asked for."""
        common.emit(report, self.output)
        if self.plot is not None:
            reports.draw(report, self.plot)


def paper_options(drawn: str) -> Callable[[F], F]:
    """Add `--output` and `--plot`, a picture of `drawn`; the command gets them as `paper`, checked before its long work."""

    def decorate(function: F) -> F:
        @wraps(function)
        def wrapper(*args: Any, output: Path | None, plot: Path | None, **rest: Any) -> Any:
            if output is not None:
                from deploykit.files import writable_file

                writable_file(output)
            if plot is not None:
                reports.check_picture(plot)
            return function(*args, paper=Paper(output, plot), **rest)

        decorated: Any = wrapper
        plotting = click.option("--plot", type=FILE, metavar="FILE.png", help=f"Draw {drawn} as a picture, too.")
        for option in (plotting, click.option("--output", type=FILE, help="Write the report to a file instead of stdout.")):
            decorated = option(decorated)
        return cast(F, decorated)

    return decorate


def complete_architecture(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The architectures that begin like this, with what each is; nothing is imported for it."""
    from deploykit import architectures

    known = (architectures.entry(name) for name in architectures.names())
    return [CompletionItem(entry.name, help=entry.summary) for entry in known if entry.name.startswith(begun)]


def complete_target(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The architectures that begin like this, and the files."""
    return [*complete_architecture(ctx, param, begun), CompletionItem(begun, type="file")]


def complete_files(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Files, as the shell completes them."""
    return [CompletionItem(begun, type="file")]


def complete_data(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The datasets that begin like this, and the folders."""
    names = plugins.names("deploykit.datasets")
    return [*(CompletionItem(name) for name in names if name.startswith(begun)), CompletionItem(begun, type="dir")]


def complete_backends(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The last name of a list with commas."""
    before, comma, last = begun.rpartition(",")
    names = plugins.names("deploykit.backends")
    return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last)]


def target_options(function: F) -> F:
    """Add the argument TARGET and the options that go with it; the command gets them as `request`."""
    return _with_request(function, click.argument("target", shell_complete=complete_target), seed_option)


def against_options(function: F) -> F:
    """The same with an option --against instead of the argument; the request's target is empty where it is not given."""
    naming = click.option(
        "--against", "target", metavar="TARGET", shell_complete=complete_target,
        help="A network, or another ONNX file.  [default: the one the file says it is]",
    )  # fmt: skip
    return _with_request(function, naming, click.option("--seed", type=SEED, help="Seed of the fresh weights."))


def _with_request(function: F, naming: Callable[[F], F], seeding: Callable[[F], F]) -> F:
    """`function` with every option that says something of a network, which become one `Request`."""

    @wraps(function)
    def wrapper(
        *args: Any, target: str | None, checkpoint: Path | None, untrained: bool, seed: int | None, arg: tuple[str, ...],
        input_shape: tuple[tuple[int, ...], ...], input_dtype: tuple[str, ...], inputs: Path | None, **rest: Any
    ) -> Any:  # fmt: skip
        from deploykit.network.request import Request, make_importable

        if target == "":
            raise click.BadParameter("an empty text names no network", param_hint="TARGET")
        request = Request(
            target or "", checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments_of(arg),
            input_shapes=input_shape or None, input_dtypes=input_dtype or None, inputs=inputs,
        )  # fmt: skip
        make_importable(request)
        return function(*args, request=request, **rest)

    decorated: Any = wrapper
    untrained = click.option("--untrained", is_flag=True, help="Fresh random weights, made from --seed, are fine.")
    options = (inputs_option, dtype_option, shape_option, arg_option, module_option, seeding, untrained, checkpoint_option, naming)
    for option in options:
        decorated = option(decorated)
    return cast(F, decorated)


class Shape(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.5 only
    """``3x224x224`` -> (3, 224, 224)."""

    name = "CxHxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Each size from 1 to 2^31; an empty text is a scalar per sample."""
        if isinstance(value, tuple):
            return value
        parts = [] if value == "" else value.lower().split("x")
        if not all(p.isdecimal() and 1 <= int(p) <= 1 << 31 for p in parts):
            self.fail(f"{value!r} is no shape such as 3x224x224", param, ctx)
        return tuple(int(p) for p in parts)


def arguments_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("width=64", "residual=false")`` -> {"width": 64, "residual": False}; what is no JSON value is a text."""
    import json

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"{pair!r} is not of the form key=value", param_hint="--arg")
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="--arg")
        try:
            found[key] = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        except (ValueError, RecursionError):
            found[key] = text
    return found


def _use_modules(ctx: click.Context, _param: click.Parameter, files: tuple[Path, ...]) -> None:
    """Let the files register their architectures until the command has ended."""
    if files:
        from deploykit import architectures

        with contextlib.redirect_stdout(sys.stderr):  # it may print; see `common_options`
            for file in files:
                ctx.with_resource(architectures.using(file))


module_option = click.option(
    "--module", type=FILE, multiple=True, expose_value=False, callback=_use_modules, metavar="FILE.py",
    help="A Python file that registers architectures of your own.",
)  # fmt: skip
seed_option = click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every random number.")
shape_option = click.option(
    "--input-shape", type=Shape(), multiple=True, help="Such as 3x224x224, without the batch; once per input."
)
dtype_option = click.option(
    "--input-dtype",
    metavar="TYPE",
    multiple=True,
    help="Such as int64; once per input. Without it float32, where nothing else is known.",
)
inputs_option = click.option(
    "--inputs", type=FILE, metavar="FILE.npz", help="Values of the inputs as they occur, with a batch: arrays by the inputs' names."
)
arg_option = click.option("--arg", multiple=True, metavar="KEY=VALUE", help="An argument for the network's constructor.")
checkpoint_option = click.option("--checkpoint", type=FILE, help="Weights to use: a file of safetensors or torch.save.")
device_option = click.option("--device", default="cpu", show_default=True, metavar="cpu|cuda|auto", help="Where to run.")
data_option = click.option(
    "--data", metavar="NAME_OR_DIR", shell_complete=complete_data, help="A dataset (`deploykit list datasets`) or a folder."
)
threads_option = click.option("--threads", type=click.IntRange(1, 1024), help="Threads of every engine.  [default: all cores]")

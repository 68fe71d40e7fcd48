"""The command line: one file per command, and nothing in it but parsing, calling and printing.

The name of the file is the name of the command, its first line what `deploykit --help` says of it; the file has one click command
called ``command``. A new command is one new file here. Every failure ends as one line on stderr and the exit status of
`deploykit.errors`; `--debug` adds the traceback.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from deploykit import plugins
from deploykit._version import __version__
from deploykit.cli import _progress
from deploykit.cli._common import COMMON
from deploykit.errors import DependencyMissing, DeploykitError

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a fault of deploykit's own
INTERRUPTED = 130
COMPLETION = "_DEPLOYKIT_COMPLETE"  # set by the shell that asks click for completions


class Commands(click.Group):
    """Finds the commands by file name, imports one when it is needed, and turns exceptions into lines and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        # Not list(...): a command of that name is a module of this package, and so a name in this file.
        return [*plugins.names(__name__)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, or `None`; an error inside its file surfaces."""
        if name not in plugins.names(__name__):
            return None
        command: click.Command = plugins.load(__name__, name, "command").command
        command.short_help = plugins.summary(__name__, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and the first lines of their files, of which none is imported: that would take twice as long as all else."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, plugins.summary(__name__, name)) for name in self.list_commands(ctx)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; ``deploykit help export`` is ``deploykit export --help``."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest commands in the message for an unknown one."""
        name = args[0] if args else ""
        if not name.startswith("-") and name not in self.list_commands(ctx):
            from deploykit.errors import UnknownName

            raise UnknownName.among("command", name, self.list_commands(ctx), "`deploykit --help` shows all")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, without the line break that it prints on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _debug_traceback()
            raise click.exceptions.Exit(INTERRUPTED) from None

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run one command line and exit with its status."""

        def call() -> Any:
            try:
                return super(Commands, self).main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]
            finally:
                _progress.end()

        if not standalone_mode or COMPLETION in os.environ:  # click answers the shell, and exits
            return call()
        sys.exit(_run(call))


def _run(call: Any) -> int:
    """Call it; print what went wrong as one line; give the exit status."""
    try:
        with _without_remarks():
            status = call()
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "deploykit"
        return _fail(f"{path}: {_one_line(error.format_message())}; see `{path} --help`", error.exit_code)
    except click.ClickException as error:
        return _fail(_one_line(error.format_message()), error.exit_code)
    except DeploykitError as error:
        return _fail(str(error), error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        _debug_traceback()
        return INTERRUPTED
    except SystemExit as error:
        return _fail(f"the network's own code called sys.exit({error.code!r}); let it raise an error instead", 2)
    except BrokenPipeError:
        # The reader went away (`deploykit list | head -1`): not our failure; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail("not enough memory for this; try a smaller --batch or network", 2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"the system refused: {(error.strerror or str(error)).lower()}{where}", 2)
    except Exception as error:
        missing = DependencyMissing.behind(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            return _fail(str(missing), DependencyMissing.exit_status)
        return _fail(
            f"internal error, {type(error).__name__}: {_one_line(str(error))[:300]}; --debug shows where",
            INTERNAL_ERROR,
        )
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep off stderr what libraries remark about a damaged file: what matters of it becomes the one line."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        for library in ("PIL", "torch", "deploykit"):
            for category in (UserWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=rf"{library}\.")
        yield


def _fail(line: str, status: int) -> int:
    _debug_traceback()
    click.echo(f"error: {line}", err=True)
    return status


def _debug_traceback() -> None:
    if "--debug" in sys.argv:
        import traceback

        _progress.end()
        traceback.print_exc()


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


# \b keeps click from filling a paragraph; its lines have to fit on 80 columns.
HELP = """From a PyTorch checkpoint to an ONNX file that an application can trust.

\b
deploykit train lenet5       a checkpoint, trained on real handwritten digits
deploykit export lenet5      an ONNX file, proven to be the same network
deploykit profile lenet5     every layer's shape, parameters, cost and time
deploykit predict trained/lenet5/model.onnx three.png
deploykit serve trained      over HTTP, to clients in any language
deploykit demo               all of it, in under a minute

A TARGET is an architecture (`deploykit list architectures`), torchvision:NAME, package.module:callable,
a checkpoint or an .onnx file. Exit status: 0 done, 1 the verdict is no, 2 unusable input, 3 no such device.
"""


def _with_common(function: Any) -> Any:
    for option in COMMON:
        function = option(function)
    return function


@click.group(cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="deploykit")
@_with_common
def cli(**_common: Any) -> None:
    """The whole command line; options of every command may also stand before it, where `common_options` finds them."""


def main() -> None:
    """The console script."""
    # Threads that wait for work otherwise spin; beside another program on few cores that makes training ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(prog_name="deploykit")
    finally:
        # What is left goes with the process. Looking for cycles in it first takes a tenth of a short command's time. Not beside
        # torch, which is never short: libraries made with nanobind that it loads would report all that is left as a leak.
        if "torch" not in sys.modules:
            gc.freeze()

"""A network as `torch.export` traces it with open axes, and the conditions on their sizes under which the trace is the network.

Where the forward pass asks for a size (``if height % 2``), the trace holds the branch of the example, and torch notes the
condition. `torch.onnx` drops these notes: its file then answers for the other branch with this one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from deploykit.network import calling, first_calls
from deploykit.network.running import plain_attention

Axes = Sequence[Mapping[int, str]]


@dataclass(frozen=True)
class Guard:
    """A condition on the sizes of open axes, such as ``height % 2 == 0``; where it does not hold, the trace is not proven.

    `axes`: the names of the axes in it.
    """

    text: str
    axes: tuple[str, ...]
    expression: sympy.Basic = field(repr=False)
    symbols: Mapping[sympy.Symbol, str] = field(repr=False)

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true for these sizes, by axis name; true as well where that cannot be told."""
        known = {symbol: sympy.Integer(sizes[name]) for symbol, name in self.symbols.items() if name in sizes}
        found = self.expression.xreplace(known)
        return found is not sympy.false and found is not False


@dataclass(frozen=True)
class Captured:
    """The traced program, the names of torch's symbols for open sizes, and the guards."""

    program: torch.export.ExportedProgram
    names: Mapping[str, str]
    guards: tuple[Guard, ...]


def capture(module: nn.Module, examples: Sequence[Tensor], axes: Axes) -> Captured:
    """Trace `module` on `examples`, with the `axes` of each open by name, as `torch.onnx.export` does it.

    Raises whatever `torch.export.export` and the network's own code raise.
    """
    from torch.fx.experimental import _config as config
    from torch.onnx._internal.exporter._capture_strategies import patch_dynamic_shape_rnn_decompositions

    free = any(axes)
    shapes = dynamic_shapes(module, [dict.fromkeys(each, torch.export.Dim.AUTO) for each in axes])

    def traced(strict: bool) -> torch.export.ExportedProgram:
        # Loops instead of unrolled recurrent layers, and no special case for sizes of 0 and 1.
        with (
            quiet(),
            torch.no_grad(),
            plain_attention(),
            unchecked_distributions(),
            patch_dynamic_shape_rnn_decompositions(free),
            config.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        ):
            return torch.export.export(
                module, tuple(examples), dynamic_shapes=shapes, strict=strict, prefer_deferred_runtime_asserts_over_guards=True
            )

    def either() -> torch.export.ExportedProgram:
        try:
            return traced(strict=False)
        except Exception as first:  # whatever torch or the network's own code raises
            try:
                return traced(strict=True)
            except Exception:
                raise first from None

    try:
        with first_calls.uncalled(module) as is_another:
            program = either()
    except Exception:
        if not is_another:
            raise
        program = either()  # as it is after its first call
    return Captured(program, *_conditions(program, axes))


@contextlib.contextmanager
def unchecked_distributions() -> Iterator[None]:
    """torch.distributions do not check their parameters within the block: ONNX has no operator that raises."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def dynamic_shapes(module: nn.Module, dims: Sequence[Mapping[int, Any]]) -> tuple[Any, ...]:
    """`dims` of each input as `torch.export` wants them, by the parameters of `forward`: those of ``*args`` are one tuple."""
    shapes: list[Any] = [dict(each) for each in dims]
    by_name = len(calling.parameters(module))
    if len(shapes) > by_name and calling.takes_more(module):
        return (*shapes[:by_name], tuple(shapes[by_name:]))
    return tuple(shapes)


def line_of(guard: Guard, module: nn.Module, examples: Sequence[Tensor], axes: Axes) -> str:
    """The line of code that asks for the sizes in `guard`, such as ``net.py:25``; empty where torch does not know it.

    The network is traced once more, in the way in which torch keeps the place of each condition.
    """
    shapes = dynamic_shapes(module, [dict.fromkeys(each, torch.export.Dim.AUTO) for each in axes])
    try:
        with quiet(), torch.no_grad(), plain_attention(), first_calls.uncalled(module):
            program = torch.export.export(module, tuple(examples), dynamic_shapes=shapes, strict=False)
    except Exception:  # what raises here did not raise above: there is no line to tell then
        return ""
    environment = _environment(program)
    names = _names(program, axes)
    if environment is None:
        return ""
    found = [(_by_name(noted.expr, names), _place(noted.sloc)) for noted in environment.guards]
    found += [(_by_name(symbol, names), _place(place.upper)) for symbol, place in environment.var_to_range_sloc.items()]
    wanted = _by_name(guard.expression, guard.symbols)
    same = [place for expression, place in found if place and expression in (wanted, sympy.Not(wanted))]
    alike = [place for expression, place in found if place and {s.name for s in expression.free_symbols} == set(guard.axes)]
    return next(iter(same + alike), "")


def _conditions(program: torch.export.ExportedProgram, axes: Axes) -> tuple[Mapping[str, str], tuple[Guard, ...]]:
    environment = _environment(program)
    if environment is None:
        return {}, ()
    names = _names(program, axes)
    noted = [entry.expr for entries in environment.deferred_runtime_asserts.values() for entry in entries]
    noted += [entry.expr for entry in environment.guards]
    for symbol, allowed in program.range_constraints.items():
        if symbol in names and isinstance(allowed.upper, sympy.Integer):
            noted.append(symbol <= allowed.upper)
        if symbol in names and allowed.lower > 1:
            noted.append(symbol >= allowed.lower)
    guards = {guard.text: guard for expression in noted if (guard := _guard(expression, names)) is not None}
    return {str(symbol): name for symbol, name in names.items()}, tuple(guards.values())


def _guard(expression: Any, names: Mapping[sympy.Symbol, str]) -> Guard | None:
    from torch.utils._sympy.printers import PythonPrinter

    symbols = {symbol: names[symbol] for symbol in getattr(expression, "free_symbols", ()) if symbol in names}
    if not symbols or len(symbols) < len(expression.free_symbols):
        return None  # of a value, such as the number of elements that a mask selects
    named = _by_name(expression, names)
    if named is sympy.true:  # axes of one name have one size
        return None
    text = str(PythonPrinter().doprint(named))
    return Guard(text, tuple(sorted(set(symbols.values()))), expression, symbols)


def _by_name(expression: Any, names: Mapping[sympy.Symbol, str]) -> Any:
    """The expression with the names of the axes as its symbols."""
    return expression.xreplace({symbol: sympy.Symbol(name, integer=True, positive=True) for symbol, name in names.items()})


def _names(program: torch.export.ExportedProgram, axes: Axes) -> dict[sympy.Symbol, str]:
    """Torch's symbol of each open axis -> its name; also of a symbol that torch replaced by another one."""
    found: dict[sympy.Symbol, str] = {}
    for label, size in _named_sizes(program, axes):
        if isinstance(size, torch.SymInt):
            for expression in (size.node.expr, size.node._expr):
                if isinstance(expression, sympy.Symbol):
                    found.setdefault(expression, label)
    return found


def _named_sizes(program: torch.export.ExportedProgram, axes: Axes) -> Iterator[tuple[str, Any]]:
    """The name of each open axis, and its size in the trace: torch's symbol, or a number; `None` for an input that is gone."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name, wanted in zip(program.graph_signature.user_inputs, axes, strict=False):
        value = placeholders[str(name)].meta.get("val") if str(name) in placeholders else None
        for axis, label in wanted.items():
            yield label, value.shape[axis] if isinstance(value, Tensor) and axis < value.ndim else None


def tied(captured: Captured, axes: Axes) -> tuple[str, ...]:
    """The names of open axes whose size is that of another open axis in the trace, or is made of it, such as ``2*height``."""
    owners: dict[sympy.Symbol, str] = {}
    found: dict[str, None] = {}
    for label, size in _named_sizes(captured.program, axes):
        if isinstance(size, torch.SymInt):
            expression = size.node.expr
            if not isinstance(expression, sympy.Symbol) or owners.setdefault(expression, label) != label:
                found[label] = None
    return tuple(found)


def _environment(program: torch.export.ExportedProgram) -> Any:
    """Where torch keeps what it noted of open sizes; `None` where none is open."""
    return next((size.node.shape_env for size in _open_sizes(program)), None)


def _open_sizes(program: torch.export.ExportedProgram) -> Iterator[Any]:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, Tensor):
            sizes: Sequence[Any] = value.shape
            yield from (size for size in sizes if isinstance(size, torch.SymInt))


def _place(location: Any) -> str:
    """The user's line, else the library's, by file name and number; empty for torch's own."""
    for frame in (location.maybe_user_loc, location.framework_loc):
        file, number = getattr(frame, "filename", None), getattr(frame, "lineno", None)
        if file is None and isinstance(frame, str) and frame.startswith("("):
            file, _, number = frame[1:].split(" ")[0].rpartition(":")
        if file and "torch" not in Path(file).parts and not Path(file).name.startswith("_"):
            return f"{Path(file).name}:{number}"
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's remarks from the user's terminal; what matters of them is checked on the result."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch logs the whole graph as an error before it raises one
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

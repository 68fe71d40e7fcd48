"""The text of a Python module -> every small change (`Change`) that a mutation test may make to it, and a fair draw among them.

A change is a replacement of bytes, so that all the rest of the file stays as it is written. It is found on the syntax tree:

- comparison, boundary: `<` to `<=` or `>=`, `==` to `!=`, `in` to `not in`, `is` to `is not`, and back
- arithmetic: `+` `-`, `*` `/`, `//` `%` `**` `<<` `>>` `&` `|` `^`, also in `+=`
- logic: `and` `or`, an operand dropped, `not` dropped, a condition negated
- constants: a number plus 1, minus 1, times 10; True and False
- `return x` to `return None`; break and continue
- statements dropped: a call, an assignment to something that exists already, `+=`, del, assert, raise
- calls: two neighbours among the positional arguments swapped, a keyword dropped
- slices: a bound dropped

Left alone: docstrings and other text (messages are no behaviour), annotations, imports, `__all__` and its like, what stands under
TYPE_CHECKING or `__name__ == "__main__"`, overloads, f-strings (their parts have no reliable positions before Python 3.12), and two
keywords that nothing can observe: `strict` of zip, an assertion on lengths that are equal by construction, and `slots` of dataclass.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

COMPARISONS: dict[type, tuple[str, str, tuple[str, ...]]] = {  # operator -> its name, as a regular expression, what it becomes
    ast.Lt: ("comparison", "<", ("<=", ">=")),
    ast.LtE: ("comparison", "<=", ("<", ">")),
    ast.Gt: ("comparison", ">", (">=", "<=")),
    ast.GtE: ("comparison", ">=", (">", "<")),
    ast.Eq: ("comparison", "==", ("!=",)),
    ast.NotEq: ("comparison", "!=", ("==",)),
    ast.Is: ("comparison", "is", ("is not",)),
    ast.IsNot: ("comparison", r"is\s+not", ("is",)),
    ast.In: ("comparison", "in", ("not in",)),
    ast.NotIn: ("comparison", r"not\s+in", ("in",)),
}
ARITHMETIC: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"), ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"), ast.BitXor: ("^", "&"),
}  # fmt: skip
SYMMETRIC = frozenset(
    {"min", "max", "minimum", "maximum", "array_equal", "logaddexp", "gcd"}
)  # swapping what they take changes nothing
UNOBSERVABLE = {"zip": "strict", "dataclass": "slots"}
SPACE = rb"(?:#[^\n]*|[\s()\\])*"  # what may stand between an operand and an operator
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Change:
    """One replacement: the bytes [start, end) of the module become `after`; `line` counts from 1.

    `statement` has the first and the last line of the statement around it, without the body of a compound one. `late` tells whether
    it runs when a function is called, and not already on import; `names` are what the statement binds where it is not.
    """

    kind: str
    line: int
    start: int
    end: int
    after: str
    statement: tuple[int, int]
    late: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """A `Change` in a file: `file` relative to the repository with "/", `before` and `now` the changed line, without indentation."""

    file: str
    change: Change
    before: str
    now: str

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.change.line}"

    @property
    def key(self) -> str:
        """What tells it from every other mutant of the same text of the file."""
        return f"{self.file}:{self.change.start}-{self.change.end}:{self.change.after}"


def changes(source: str) -> list[Change]:
    """Every change of a module's text, in its order. A few of them may not compile: `mutated` tells."""
    return sorted(_Finder(source).found, key=lambda change: (change.start, change.end, change.after))


def mutated(source: str, change: Change) -> str | None:
    """The text with the change made; `None` where it is no program, or the same one."""
    raw = source.encode()
    text = (raw[: change.start] + change.after.encode() + raw[change.end :]).decode()
    try:
        tree = ast.parse(text)
        compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    return None if ast.dump(tree) == ast.dump(ast.parse(source)) else text


def draw(modules: Mapping[str, str], seed: int) -> Iterator[Mutant]:
    """One mutant each of all lines that have one, in random order: every line of every file is as likely as any other.

    `modules`: file -> text. The order comes from digests of the seed, the file and the line's text, so that an edited line changes
    the place of no other line.
    """
    drawn: list[tuple[bytes, str, list[Change]]] = []
    for file, source in modules.items():
        keys = line_keys(source)
        by_line: dict[int, list[Change]] = {}
        for change in changes(source):
            by_line.setdefault(change.line, []).append(change)
        drawn += [(_digest(seed, file, keys[line - 1]), file, found) for line, found in by_line.items()]
    for digest, file, found in sorted(drawn, key=lambda entry: entry[0]):
        lines = modules[file].split("\n")
        for change in sorted(found, key=lambda change: _digest(digest, change.start - found[0].start, change.kind, change.after)):
            text = mutated(modules[file], change)
            if text is not None:
                yield Mutant(file, change, lines[change.line - 1].strip(), _changed_line(text, change.line, len(lines)))
                break


def line_keys(source: str) -> list[str]:
    """One key per line: its text, and how many lines above have the same one."""
    seen: Counter[str] = Counter()
    keys = []
    for line in source.split("\n"):
        text = line.strip()
        keys.append(f"{text} #{seen[text]}")
        seen[text] += 1
    return keys


def equivalents(file: Path) -> list[dict[str, str]]:
    """The tables `[[mutant]]` of a TOML file: file (a glob), before, now, reason. Raises `SystemExit` where a table lacks one."""
    found: list[dict[str, str]] = tomllib.loads(file.read_text()).get("mutant", []) if file.exists() else []
    for entry in found:
        if entry.keys() != {"file", "before", "now", "reason"}:
            raise SystemExit(f"{file}: a [[mutant]] has the keys {', '.join(entry)}; it needs file, before, now, reason")
    return found


def is_equivalent(mutant: Mutant, known: list[dict[str, str]]) -> bool:
    """Whether somebody has written down why no test can notice it."""
    return any(fnmatch(mutant.file, e["file"]) and (mutant.before, mutant.now) == (e["before"], e["now"]) for e in known)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).digest()


def _changed_line(text: str, line: int, before: int) -> str:
    """The line in the changed text; a change that spans lines is told by what stands there now, and how many went."""
    lines = text.split("\n")
    gone = before - len(lines)
    return (lines[line - 1].strip() or "(nothing)") + (f"  # and {gone} lines less" if gone else "")


class _Finder:
    """Walks the tree once; `found` has the changes."""

    def __init__(self, source: str) -> None:
        self.raw = source.encode()
        starts = [0]
        for line in self.raw.split(b"\n"):
            starts.append(starts[-1] + len(line) + 1)
        self.starts = starts
        self.found: list[Change] = []
        self.statement = (1, 1)
        self.late = False
        self.names: tuple[str, ...] = ()
        self.bound: dict[str, tuple[int, int]] = {}  # where the function around binds a name first
        self.building = False  # inside __init__
        for child in ast.parse(source).body:
            self.visit(child)

    # Where things are

    def start(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.raw[self.start(node) : self.end(node)].decode()

    def note(self, kind: str, start: int, end: int, after: str) -> None:
        line = self.raw.count(b"\n", 0, start) + 1
        self.found.append(Change(kind, line, start, end, after, self.statement, self.late, self.names))

    def replace(self, kind: str, node: ast.AST, after: str) -> None:
        self.note(kind, self.start(node), self.end(node), after)

    def between(self, kind: str, left: ast.AST, pattern: str, after: str) -> None:
        """Replace the operator that follows `left`."""
        found = re.compile(SPACE + b"(" + pattern.encode() + b")").match(self.raw, self.end(left))
        if found:
            self.note(kind, found.start(1), found.end(1), after)

    # Statements

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.JoinedStr)):
            return
        if isinstance(node, ast.stmt):
            self.visit_statement(node)
            return
        if isinstance(node, ast.arg):
            return  # its annotation
        method = getattr(self, f"on_{type(node).__name__}", None)
        if method:
            method(node)
        for child in ast.iter_child_nodes(node):
            self.visit(child)

    def visit_statement(self, node: ast.stmt) -> None:
        outer = self.statement, self.names
        body = getattr(node, "body", None)
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        last = max(first, body[0].lineno - 1) if body else node.end_lineno or first
        self.statement = (first, last)
        if not self.late:
            self.names = _bound_names(node) or self.names
        if isinstance(node, FUNCTIONS):
            self.visit_function(node)
        elif not _left_alone(node):
            self.on_statement(node)
            for child in _without_annotations(node):
                self.visit(child)
        self.statement, self.names = outer

    def visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Decorators and defaults run early, the body late."""
        if any(_name(decorator) == "overload" for decorator in node.decorator_list):
            return
        for child in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(child)
        outer = self.late, self.bound, self.building
        self.late, self.bound, self.building = True, _first_bindings(node), node.name == "__init__"
        for statement in node.body:
            self.visit(statement)
        self.late, self.bound, self.building = outer

    def on_statement(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.If, ast.While)):
            self.negate(node.test)
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            self.replace("return None", node.value, "None")
        elif isinstance(node, ast.Raise):
            self.replace("raise removed", node, "pass")
        elif isinstance(node, ast.Break):
            self.replace("break and continue", node, "continue")
        elif isinstance(node, ast.Continue):
            self.replace("break and continue", node, "break")
        elif self.can_go(node):
            self.replace("statement dropped", node, "pass")
        if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
            before, after = ARITHMETIC[type(node.op)]
            self.between("arithmetic", node.target, re.escape(before + "="), after + "=")

    def can_go(self, node: ast.stmt) -> bool:
        """Whether the program could work without the statement: a name or attribute that comes into being here would be missed."""
        if isinstance(node, ast.Expr):
            return isinstance(node.value, (ast.Call, ast.Await))
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return self.late and all(map(self.exists_before, targets))
        return isinstance(node, (ast.AugAssign, ast.Delete, ast.Assert))

    def exists_before(self, target: ast.expr) -> bool:
        if isinstance(target, ast.Name):
            return self.bound[target.id] < (target.lineno, target.col_offset)
        return isinstance(target, ast.Subscript) or (isinstance(target, ast.Attribute) and not self.building)

    # Expressions

    def negate(self, test: ast.expr) -> None:
        if not isinstance(test, (ast.Compare, ast.UnaryOp)):
            self.replace("logic", test, f"not ({self.text(test)})")

    def on_IfExp(self, node: ast.IfExp) -> None:  # noqa: N802
        self.negate(node.test)

    def on_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negate(test)

    def on_Compare(self, node: ast.Compare) -> None:  # noqa: N802
        for left, operator in zip([node.left, *node.comparators], node.ops, strict=False):
            kind, pattern, becomes = COMPARISONS[type(operator)]
            for after in becomes:
                self.between(kind, left, pattern, after)

    def on_BinOp(self, node: ast.BinOp) -> None:  # noqa: N802
        texts = any(isinstance(side, ast.JoinedStr) or _is(side, str, bytes) for side in (node.left, node.right))
        types = isinstance(node.op, ast.BitOr) and not self.late  # `int | str`
        if type(node.op) in ARITHMETIC and not texts and not types:
            before, after = ARITHMETIC[type(node.op)]
            self.between("arithmetic", node.left, re.escape(before), after)

    def on_BoolOp(self, node: ast.BoolOp) -> None:  # noqa: N802
        before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left in node.values[:-1]:
            self.between("logic", left, before, after)
        loose = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.NamedExpr)
        texts = [f"({self.text(value)})" if isinstance(value, loose) else self.text(value) for value in node.values]
        for index in range(len(texts)):
            self.replace("operand dropped", node, f" {before} ".join(texts[:index] + texts[index + 1 :]))

    def on_UnaryOp(self, node: ast.UnaryOp) -> None:  # noqa: N802
        found = re.compile(rb"not\b\s*").match(self.raw, self.start(node))
        if isinstance(node.op, ast.Not) and found:
            self.note("logic", found.start(), found.end(), "")

    def on_Constant(self, node: ast.Constant) -> None:  # noqa: N802
        value = node.value
        if isinstance(value, bool):
            self.replace("constant", node, str(not value))
        elif isinstance(value, (int, float)):
            for other in dict.fromkeys((value + 1, value - 1, value * 10)):
                if other != value and abs(other) != float("inf"):
                    self.replace("constant", node, repr(other))

    def on_Call(self, node: ast.Call) -> None:  # noqa: N802
        hidden = UNOBSERVABLE.get(_name(node))
        node.keywords = [keyword for keyword in node.keywords if keyword.arg is None or keyword.arg != hidden]
        if _name(node) not in SYMMETRIC:
            for one, two in zip(node.args, node.args[1:], strict=False):
                if not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred) and self.text(one) != self.text(two):
                    gap = self.raw[self.end(one) : self.start(two)].decode()
                    self.note("arguments swapped", self.start(one), self.end(two), self.text(two) + gap + self.text(one))
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.drop_keyword(node, keyword)

    def drop_keyword(self, node: ast.Call, keyword: ast.keyword) -> None:
        """With the comma behind it, or else the one before."""
        start, end = self.start(keyword), self.end(keyword)
        behind = re.compile(rb"\s*,[^\S\n]*").match(self.raw, end)
        before = re.compile(rb",\s*\Z").search(self.raw[self.start(node) : start])
        if behind:
            end = behind.end()
        elif before:
            start = self.start(node) + before.start()
        self.note("keyword dropped", start, end, "")

    def on_Slice(self, node: ast.Slice) -> None:  # noqa: N802
        for bound in (node.lower, node.upper):
            if bound is not None:
                self.replace("slice bound dropped", bound, "")


def _left_alone(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):  # nobody writes an else to these
        return "TYPE_CHECKING" in ast.dump(node.test) or "'__main__'" in ast.dump(node.test)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
    return False


def _without_annotations(node: ast.stmt) -> Iterator[ast.AST]:
    hidden = {id(node.annotation)} if isinstance(node, ast.AnnAssign) else set()
    hidden |= {id(base) for base in node.bases} if isinstance(node, ast.ClassDef) else set()
    return (child for child in ast.iter_child_nodes(node) if id(child) not in hidden)


def _bound_names(node: ast.stmt) -> tuple[str, ...]:
    """What a statement on the level of a module or a class gives a name to."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return tuple(name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name))


def _first_bindings(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, tuple[int, int]]:
    """Name -> line and column of where the function first binds it; (0, 0) for what it is called with or takes from outside."""
    found: dict[str, tuple[int, int]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            place = node.lineno, node.col_offset
            found[node.id] = min(place, found.get(node.id, place))
    outside = [name for node in ast.walk(function) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names]
    return found | dict.fromkeys([*outside, *(n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg))], (0, 0))


def _name(node: ast.AST) -> str:
    """`f` of `f(x)`, `a.f(x)`, `a.f` and `f`."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is(node: ast.AST, *types: type) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, types)

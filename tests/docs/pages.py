"""A page of the documentation as blocks, and a session that runs them in order as a reader would type them.

What is run, by the word after the three backticks:

- ``console``: lines that begin with ``$ `` are typed, what follows is what they print. ``$ echo $?`` shows the exit status, which
  has to be 0 where nothing shows it.
- ``python``: run in one namespace per page; an ``output`` block after it is what it prints.
- ``{code-block}`` with a ``:caption:``: the file of that name, written into the folder of the session.
- ``bash norun``: what needs a network or a machine of its own; only the programs of `NOT_RUN`.

An HTML comment ``<!-- have: lenet5 digits -->`` says what the reader has from an earlier page: see `have.py`.

Shown lines are compared with printed ones in their order: figures with a decimal point or an exponent may differ, ``...`` stands for
anything, in a line or as lines of its own, and spaces and rules do not count.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOT_RUN = ("pip", "python3", "make", "npm", "git", "curl", "eval", "source", ".venv/bin/pip", "_DEPLOYKIT_COMPLETE=fish_source")
WIDTH = 88  # columns of the terminal that the pages show

_FIGURE = re.compile(r"\d[\d,]*\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+", re.IGNORECASE)
_SHELL = re.compile(r"[|;&`]|\$\(|(?<!-)>")


@dataclass(frozen=True)
class Block:
    """A fenced block, or the names of an HTML comment ``have``. `info`: what stands after the backticks."""

    info: str
    text: str
    line: int

    @property
    def word(self) -> str:
        return self.info.split()[0] if self.info else ""

    @property
    def caption(self) -> str | None:
        found = re.match(r":caption: (\S+)\n", self.text)
        return found[1] if found and self.word == "{code-block}" else None

    @property
    def code(self) -> str:
        """The text without the options of a directive."""
        return re.sub(r"\A(:\w+:.*\n)+\n*", "", self.text)


def pages() -> list[Path]:
    """Every page, in the order of its path."""
    return sorted(path for path in DOCS.rglob("*.md") if not any(part.startswith("_") for part in path.relative_to(DOCS).parts))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page and its comments ``have``, in order, those within lists and directives too."""
    found = []
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            found.append(Block(token.info.strip(), token.content, line))
        elif token.type == "html_block" and (names := re.match(r"<!-- have: (.*?) -->", token.content)):
            found.append(Block("have", names[1], line))
    return found


class Session:
    """One page being followed in the current folder. `printed`: what every command printed, for messages and for `main`."""

    def __init__(self, have: dict[str, Any], validate: Any = None) -> None:
        self.have, self.validate = have, validate
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.status = 0
        self.printed: list[tuple[str, str]] = []
        self._output = ""

    def run(self, block: Block) -> None:
        """Follow one block. Raises `AssertionError` where it does not do what the page says."""
        if block.word == "have":
            for name in block.text.split():
                self.have[name]()
        elif block.caption:
            path = Path(block.caption)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        elif block.word == "console":
            for command, shown in commands(block.text):
                self._command(command, shown)
        elif block.word == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * block.line + block.text, "page", "exec"), self.names)
            self._output = out.getvalue()
            self.printed.append((f"python, line {block.line}", self._output))
        elif block.word == "output":
            compare(block.text, self._output)
        elif block.info == "bash norun":
            for line in block.text.splitlines():
                assert not line.strip() or line.startswith((*NOT_RUN, "#", " ")), f"{line!r} could be run: make it a console block"
        else:
            assert block.word not in ("bash", "sh", "shell", "py"), f"a block of {block.word} is not run: console or python is"

    def _command(self, command: str, shown: str) -> None:
        if command == "echo $?":
            assert shown.strip() == str(self.status), f"exit status {self.status}, the page says {shown.strip()}"
            self.status = 0
            return
        assert self.status == 0, f"exit status {self.status} before {command!r}, and no `echo $?` shows it:\n{self._output}"
        self.status, self._output = typed(command)
        self.printed.append((command, self._output))
        compare(shown, self._output)
        if self.validate and command.startswith("deploykit ") and "--format json" in command:
            file = re.search(r"> (\S+)$", command)
            self.validate(command, json.loads(Path(file[1]).read_text() if file else self._output))

    def end(self) -> None:
        """Raise `AssertionError` if the last command failed and nothing shows that it should."""
        assert self.status == 0, f"the page ends with exit status {self.status}:\n{self._output}"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block and what is shown below it; a backslash at the end of a line continues the command."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        lines = part.splitlines()
        command = lines.pop(0)
        while command.endswith("\\"):
            command = f"{command[:-1].rstrip()} {lines.pop(0).removeprefix('>').strip()}"
        yield re.sub(r"\s+# .*", "", command), "\n".join(lines)


def typed(command: str) -> tuple[int, str]:
    """Exit status and output of a command: deploykit within this process, everything else in one of its own."""
    into = re.fullmatch(r"(.*\S) > (\S+)", command)
    plain = into[1] if into else command
    if plain.startswith("deploykit ") and not _SHELL.search(plain):
        from click.testing import CliRunner

        from deploykit.cli import cli

        done = CliRunner().invoke(cli, list(_words(plain))[1:], prog_name="deploykit")
        if into:
            Path(into[2]).write_text(done.stdout)
        return done.exit_code, done.stderr if into else done.output
    script = f'deploykit() {{ "{sys.executable}" -m deploykit "$@"; }}; python() {{ "{sys.executable}" "$@"; }}; {command}'
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    return ran.returncode, ran.stdout + ran.stderr


def _words(command: str) -> Iterator[str]:
    """The words of a command; patterns become the files they match, as in a shell, unless they are quoted."""
    for word in shlex.split(command):
        quoted = f"'{word}'" in command or f'"{word}"' in command
        matches = sorted(glob.glob(word)) if glob.has_magic(word) and not quoted else []
        yield from matches or [word]


def compare(shown: str, printed: str) -> None:
    """Raise `AssertionError` unless every shown line was printed, in this order; where lines are folded does not matter."""
    text, place = _plain(printed), 0
    for line in filter(None, map(_plain, shown.splitlines())):
        if line == "...":
            continue
        words = r"\S*\s?.*?".join(re.escape(part.strip()) for part in line.split("..."))
        found = re.compile(rf"(?<!\S){words}(?!\S)" if not line.endswith("...") else words).search(text, place)
        assert found is not None, f"the page shows\n  {line}\nprinted was\n{printed}"
        place = found.end()


def _plain(text: str) -> str:
    """A text in one line, without what may differ: figures that were measured, the width of columns, rules."""
    return " ".join(_FIGURE.sub("#", re.sub(r"[─━]+", "", text)).split())


def main() -> None:
    """Follow one page in the current folder and print what its commands print: for who writes it."""
    import have

    from deploykit.reports import table

    table.UNLIMITED = WIDTH
    sys.path.insert(0, "")
    session = Session(have.makers())
    for block in blocks(DOCS / sys.argv[1]):
        try:
            session.run(block)
        except AssertionError as error:
            print(f"!! {block.line}: {str(error).splitlines()[:3]}")
            session.status = 0
        for command, printed in session.printed:
            print(f"$ {command}\n{printed}")
        session.printed.clear()


if __name__ == "__main__":
    main()

"""A message says first what is wrong and then what to do: no error is made with the two exchanged."""

from __future__ import annotations

import re
from pathlib import Path

import deploykit
from deploykit import errors

# The words that advice begins with. No problem begins with one of them.
ADVICE = {
    "add", "ask", "check", "choose", "clean", "convert", "copy", "crop", "decorate", "do", "drop", "export", "fetch", "free", "give",
    "install", "leave", "let", "make", "name", "pass", "put", "remove", "rename", "return", "run", "save", "say", "see", "send", "start",
    "take", "train", "tune", "update", "use", "write",
}  # fmt: skip
ADVISED = 200  # errors with a problem and advice that are both written where they are raised, at least
TEXT = r'f?r?"((?:[^"\\]|\\.)*)"'


def test_the_problem_is_first_and_advice_second():
    kinds = "|".join(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception))
    made = re.compile(rf"\b(?:{kinds})\(\s*{TEXT}(?:,\s*{TEXT})?")
    wrong, advised = [], 0
    for file in sorted(Path(deploykit.__file__).parent.rglob("*.py")):
        for problem, advice in made.findall(file.read_text()):
            advised += advice.partition(" ")[0] in ADVICE
            if problem.partition(" ")[0] in ADVICE:
                wrong.append(f"{file.name}: {problem}")
    assert not wrong
    assert advised >= ADVISED

"""Hold back what native code prints on stderr while it does one thing.

onnxruntime reports a provider that cannot be loaded on the process's stderr, and nowhere else: the reason must be read there,
and an application's users must not see it.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

_ONE_AT_A_TIME = threading.Lock()
_LINE = re.compile(r"\[[VIWEF]:onnxruntime:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STDERR = 2


class Held:
    """What was printed: `text` is onnxruntime's part, known after the block."""

    text = ""


@contextlib.contextmanager
def held_stderr() -> Iterator[Held]:
    """Collect what onnxruntime prints on file descriptor 2; everybody else's lines are printed when the block ends."""
    held = Held()
    with _ONE_AT_A_TIME:
        try:
            original = os.dup(_STDERR)
        except OSError:  # no stderr at all (a service, a window): nothing can leak
            yield held
            return
        import tempfile  # with all it imports, more than the rest of this package

        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), _STDERR)
            try:
                yield held
            finally:
                os.dup2(original, _STDERR)
                os.close(original)
                file.seek(0)
                held.text = _sort(file.read())


def _sort(printed: bytes) -> str:
    """Print the lines that are not onnxruntime's; give those that are, without colours."""
    ours, theirs = [], []
    for line in printed.decode("utf-8", "replace").splitlines(keepends=True):
        plain = _COLOUR.sub("", line)
        if _LINE.search(plain):
            ours.append(plain)
        elif plain.strip():
            theirs.append(line)
    if theirs:
        with contextlib.suppress(OSError):
            os.write(_STDERR, "".join(theirs).encode("utf-8", "replace"))
    return "".join(ours)

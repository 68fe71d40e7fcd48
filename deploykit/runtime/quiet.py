"""Hold back what native code prints on stderr while it does one thing.

onnxruntime reports a provider that cannot be loaded on the process's stderr, and nowhere else: the reason must be read there,
and an application's users must not see it. libtiff prints there what is wrong with an image, beside the exception.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

_ONE_AT_A_TIME = threading.Lock()
ONNXRUNTIME = re.compile(r"\[[VIWEF]:onnxruntime:")
# "TIFFFillStrip: Read error on strip 0; got 575 bytes, expected 576.", "tempfile.tif: Using code not yet in table."
LIBTIFF = re.compile(r"^(tempfile\.tif|\w+): .*\.$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STDERR = 2


class Held:
    """`text`: the lines that the library printed, without colours; "" until the block of `held_stderr` has ended."""

    text = ""


@contextlib.contextmanager
def held_stderr(lines: re.Pattern[str] = ONNXRUNTIME) -> Iterator[Held]:
    """Collect what a library prints on file descriptor 2, known by its `lines`; other lines are printed when the block ends."""
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
                held.text = _sort(file.read(), lines)


def _sort(printed: bytes, lines: re.Pattern[str]) -> str:
    """Print the lines that are not the library's; give those that are, without colours."""
    library, others = [], []
    for line in printed.decode("utf-8", "replace").splitlines(keepends=True):
        plain = _COLOUR.sub("", line)
        if lines.search(plain):
            library.append(plain)
        elif plain.strip():
            others.append(line)
    if others:
        with contextlib.suppress(OSError):
            os.write(_STDERR, "".join(others).encode("utf-8", "replace"))
    return "".join(library)

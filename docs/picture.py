"""Draw what a command prints, as the SVG that the README shows.

deploykit demo | python docs/picture.py "deploykit demo" docs/demo.svg
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main(title: str, out: Path) -> None:
    """Read the text from stdin; bold what people look for first."""
    lines = sys.stdin.read().rstrip().splitlines()
    console = Console(record=True, width=max(len(line) for line in lines) + 1, file=io.StringIO())
    for line in [f"$ {title}", *lines]:
        text = Text(line)
        text.highlight_regex(r"^\$.*|^verdict: same.*", "bold green")
        text.highlight_regex(r"\d+\.\d+x faster|test accuracy \S+ %|10 of 10 right", "bold")
        console.print(text)
    svg = console.export_svg(title=title)
    # No fonts from elsewhere: the picture loads nothing.
    out.write_text(re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.S))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

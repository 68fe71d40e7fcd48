"""``python -m deploykit`` is the command ``deploykit``; torchrun starts it this way."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Where an application installed deploykit without its command line, one line says what is missing."""
    try:
        from deploykit import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        from deploykit.errors import DependencyMissing

        sys.stderr.write(f"error: {DependencyMissing.of(error.name, 'cli')}\n")
        sys.exit(DependencyMissing.exit_status)
    cli.main()


if __name__ == "__main__":
    main()

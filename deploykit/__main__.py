"""``python -m deploykit`` is the command ``deploykit``; torchrun starts it this way."""

from deploykit.cli import main

if __name__ == "__main__":
    main()

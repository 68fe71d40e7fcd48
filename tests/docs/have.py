"""What the reader of a page has from an earlier one, made without training: by name, a function that puts it into the current folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]


def makers() -> dict[str, Callable[[], object]]:
    """The names that a page may ask for."""
    return {"lenet5": lenet5, "digits": digits, "examples": examples, "crops": crops, "shapes": shapes}


def lenet5() -> None:
    """The trained network that ships, with its export: `trained/lenet5/`."""
    shutil.copytree(ROOT / "trained" / "lenet5", Path("trained") / "lenet5")


def digits() -> None:
    """Ten digits that no network was trained on in `digits/`, and one of them as `three.png`."""
    from deploykit import datasets

    split = datasets.load("digits").test.take(30)
    Path("digits").mkdir()
    seen: set[int] = set()
    for image, label in zip(split.images(), map(int, split.targets), strict=True):
        if label not in seen:
            seen.add(label)
            image.save(Path("digits") / f"{label}.png")
    shutil.copy(Path("digits") / "3.png", "three.png")


def examples() -> None:
    """The folder `examples/`, without what npm installed there."""
    shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("node_modules", "__pycache__"))


def crops() -> None:
    """Colour pictures in a folder per class: 30 red ones in `crops/ripe` and 30 green ones in `crops/unripe`."""
    for kind, colour in (("ripe", (200, 40, 30)), ("unripe", (60, 170, 40))):
        folder = Path("crops") / kind
        folder.mkdir(parents=True)
        for number in range(30):
            image = Image.new("RGB", (40, 40), (90, 80 + number, 70))
            box = (6 + number % 5, 8, 30 + number % 7, 32)
            ImageDraw.Draw(image).ellipse(box, fill=(colour[0], colour[1] + number, colour[2]))
            image.save(folder / f"{number:02}.png")


def shapes() -> None:
    """Pictures with a bright disc in `shapes/images`, and in `shapes/masks` where it is."""
    for kind in ("images", "masks"):
        (Path("shapes") / kind).mkdir(parents=True)
    (Path("shapes") / "classes.txt").write_text("ground\ndisc\n")
    for number in range(20):
        box = (4 + number % 9, 3 + number % 5, 20 + number % 9, 19 + number % 5)
        for kind, mode, colour in (("images", "RGB", (200, 60 + number, 40)), ("masks", "L", 1)):
            image = Image.new(mode, (40, 32), (30, 60, 90 + number) if mode == "RGB" else 0)
            ImageDraw.Draw(image).ellipse(box, fill=colour)
            image.save(Path("shapes") / kind / f"{number}.png")

"""The options that say how an image becomes the input of a network and what it gives back: those of `export` and `validate`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast, get_args

import click

from deploykit.runtime.contract.words import Activation, Convention, Fit, Interpolation, Placement, Task, Units

F = TypeVar("F", bound=Callable[..., Any])


class Side(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.5 only
    """``224`` or ``480x640`` -> (height, width)."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Two whole numbers, or one for both."""
        if isinstance(value, tuple):
            return cast("tuple[int, int]", value)
        parts = value.lower().split("x")
        if len(parts) not in (1, 2) or not all(part.isdecimal() and len(part) < 9 for part in parts):
            self.fail(f"{value!r} is no size such as 224 or 480x640 (height x width)", param, ctx)
        return int(parts[0]), int(parts[-1])


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.5 only
    """``0.5`` or ``0.485,0.456,0.406`` -> a tuple of numbers; fractions such as ``1/255`` too."""

    name = "N[,N,N]"

    def __init__(self, kind: type[int] | type[float] = float) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """At least one number."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(map(self._number, value.split(",")))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is no number, and no list of numbers", param, ctx)

    def _number(self, text: str) -> float:
        above, slash, below = text.partition("/")
        return self.kind(above) / self.kind(below) if slash else self.kind(above)


IMAGE = (
    click.option("--image", type=Side(), help="Size of the image that the network takes: 224, or HEIGHTxWIDTH."),
    click.option("--channels", type=click.Choice(["rgb", "bgr", "grey"]), help="Of that image, in this order.  [default: rgb]"),
    click.option("--mean", type=Numbers(), help="Subtracted after --scale; one, or one per channel."),
    click.option("--std", type=Numbers(), help="What is divided by last; one, or one per channel."),
    click.option("--scale", type=Numbers(), metavar="N", help="First factor.  [default: 1/255]"),
    click.option("--fit", type=click.Choice(get_args(Fit)), help="How the image gets its size.  [default: stretch]"),
    click.option("--resize", type=click.IntRange(1), metavar="N", help="Pixels of the shorter side before a center-crop."),
    click.option("--interpolation", type=click.Choice(get_args(Interpolation)), help="Of the resize.  [default: bilinear]"),
    click.option("--padding", type=Numbers(int), help="Colour beside a letterboxed image, 0..255.  [default: 0]"),
    click.option("--placement", type=click.Choice(get_args(Placement)), help="Of a letterboxed image.  [default: center]"),
)
OUTPUT = (
    click.option("--task", type=click.Choice(get_args(Task)), help="What the network is for."),
    click.option("--labels", metavar="FILE_OR_LIST", help="A file with one per line (or JSON), or cat,dog."),
    click.option("--activation", type=click.Choice(get_args(Activation)), help="What makes probabilities of the output."),
    click.option("--output", "name", metavar="NAME", help="The output that is meant.  [default: the first]"),
    click.option("--threshold", type=Numbers(), help="Least score of what is given; of multilabel also one per label."),
    click.option("--units", metavar="UNIT,UNIT", help="Of the numbers of a regression."),
    click.option("--normalize", is_flag=True, default=None, help="Divide an embedding by its length."),
    click.option("--class-axis", type=click.Choice(["1", "3", "none"]), help="Where a mask has its labels; none: indices."),
    click.option("--boxes", metavar="NAME", help="The output of boxes.  [default: boxes]"),
    click.option("--scores", metavar="NAME", help="The output of their scores.  [default: scores]"),
    click.option("--classes", metavar="NAME", help="The output of their labels' indices, where scores has one number per box."),
    click.option("--convention", type=click.Choice(get_args(Convention)), help="Of the boxes.  [default: xyxy]"),
    click.option("--box-units", type=click.Choice(get_args(Units)), help="Of the boxes.  [default: pixels]"),
    click.option("--background", type=click.IntRange(0), metavar="N", help="The index of the label that stands for no object."),
    click.option("--nms", type=click.FloatRange(0, 1), metavar="IOU", help="Drop boxes that overlap a better one by more."),
    click.option("--max-detections", type=click.IntRange(1), help="Of one image.  [default: 100]"),
    click.option("--class-agnostic", is_flag=True, default=None, help="Boxes of other labels are dropped by --nms, too."),
)  # fmt: skip
_IMAGE_NAMES = ("image", "channels", "mean", "std", "scale", "fit", "resize", "interpolation", "padding", "placement")
_OUTPUT_NAMES = {
    "task": "task", "labels": "labels", "activation": "activation", "name": "name", "threshold": "threshold", "units": "units",
    "normalize": "normalize", "class_axis": "class_axis", "boxes": "boxes", "scores": "scores", "classes": "classes",
    "convention": "convention", "box_units": "units", "background": "background", "nms": "iou_threshold",
    "max_detections": "max_detections", "class_agnostic": "class_wise",
}  # fmt: skip


def contract_options(function: F) -> F:
    """Add them; the command gets `image` and `output` as `export` takes them, `None` where nothing was said."""

    @wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        image = {key: value for key in _IMAGE_NAMES if (value := options.pop(key)) is not None}
        output = {key: value for key in _OUTPUT_NAMES if (value := options.pop(key)) is not None}
        return function(*args, image=_image(image) or None, output=_output(output) or None, **options)

    decorated: Any = wrapper
    for option in reversed((*IMAGE, *OUTPUT)):
        decorated = option(decorated)
    return cast(F, decorated)


def _image(given: dict[str, Any]) -> dict[str, Any]:
    size = given.pop("image", None)
    if size is not None:
        given["height"], given["width"] = size
    if "scale" in given:
        given["scale"] = _one(given["scale"], "--scale")
    return given


def _output(given: dict[str, Any]) -> dict[str, Any]:
    if "units" in given and "box_units" in given:
        raise click.BadParameter(
            "--units are those of a regression, --box-units those of boxes; give one of them", param_hint="--units"
        )
    found = {_OUTPUT_NAMES[key]: value for key, value in given.items()}
    if "threshold" in found and len(found["threshold"]) == 1:
        found["threshold"] = found["threshold"][0]
    if "units" in given:
        found["units"] = tuple(part.strip() for part in given["units"].split(","))
    if "class_axis" in found:
        found["class_axis"] = None if found["class_axis"] == "none" else int(found["class_axis"])
    if "class_wise" in found:
        found["class_wise"] = False
    return found


def _one(values: tuple[float, ...], option: str) -> float:
    if len(values) != 1:
        raise click.BadParameter("one number is needed", param_hint=option)
    return values[0]

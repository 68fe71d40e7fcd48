"""What a user says of a network's images and outputs: by options, in Python, or by the attributes `image_input` and `output`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from deploykit.errors import InputError, first_line, kind_of
from deploykit.network.input_specs import InputSpec
from deploykit.runtime.contract import (
    MAX_LABELS,
    TASKS,
    ArrayInput,
    DetectionOutput,
    EmbeddingOutput,
    ImageInput,
    Output,
    RegressionOutput,
    SegmentationOutput,
    Task,
)
from deploykit.runtime.contract.requirements import is_int, is_text

# What public functions take: whole rules, some of their fields, or either by the name of an input.
GivenImage: TypeAlias = "ImageInput | Mapping[str, Any]"
GivenOutput: TypeAlias = "Output | Mapping[str, Any]"
Rules: TypeAlias = "ImageInput | ArrayInput"

MAX_LABEL_BYTES = 4 << 20  # of a file of labels
IMAGE_FIELDS = tuple(each.name for each in fields(ImageInput) if each.name != "kind")
_CHANNELS: dict[str, tuple[int, str]] = {"rgb": (3, "rgb"), "bgr": (3, "bgr"), "grey": (1, "rgb"), "gray": (1, "rgb")}
# Keys that only one task has, so that nobody need name it.
_TELLING: dict[Task, type[Output]] = {
    "detection": DetectionOutput, "segmentation": SegmentationOutput, "embedding": EmbeddingOutput, "regression": RegressionOutput,
}  # fmt: skip
_COMMON = ("activation", "labels", "name", "threshold")


@dataclass(frozen=True)
class Declared:
    """`image`: the rules of an `ImageInput`, some of its fields, or either of them by the names of inputs. `output`: the same."""

    image: GivenImage | None = None
    output: GivenOutput | None = None
    meanings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, image: object, output: object, meanings: object = None) -> Declared:
        """What a caller gave, looked at. Raises `InputError` for what cannot be meant."""
        if not (image is None or isinstance(image, (ImageInput, Mapping))):
            raise InputError(f"image cannot be {kind_of(image)}", "give an ImageInput, or a dict of its fields")
        if not (output is None or isinstance(output, (Output, Mapping))):
            raise InputError(f"output cannot be {kind_of(output)}", 'give an Output, or a dict such as {"labels": [...]}')
        if not (meanings is None or isinstance(meanings, Mapping)):
            raise InputError(f"meanings cannot be {kind_of(meanings)}", "give a dict of texts by the names of outputs")
        return cls(image, output, {} if meanings is None else dict(meanings))

    @classmethod
    def by_module(cls, module: nn.Module) -> Declared:
        """By the attributes `image_input` and `output`; a layer that is called so, or anything else, says nothing."""
        image, output = getattr(module, "image_input", None), getattr(module, "output", None)
        return cls(
            image if isinstance(image, ImageInput) or (isinstance(image, Mapping) and bool(image)) else None,
            output if isinstance(output, Output) or (isinstance(output, Mapping) and "task" in output) else None,
        )

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(channels, height, width) of a single image whose size is said."""
        if isinstance(self.image, ImageInput):
            return (self.image.channels, self.image.height, self.image.width)
        if self.image is None or _is_by_name(self.image):
            return None
        given = _plain(self.image)
        if not all(is_int(given.get(key)) for key in ("height", "width")):
            return None
        return (given.get("channels", 3), given["height"], given["width"])


def rules_of(image: GivenImage, specs: Sequence[InputSpec], known: Sequence[Rules], target: str) -> tuple[Rules, ...]:
    """The rules of every input, `known` where nothing is said. Raises `InputError` for an image that the network does not take."""
    found = list(known)
    for place, given in _by_place(image, specs, known, target).items():
        found[place] = _image(given, specs[place], known[place], target)
    return tuple(found)


def output_of(given: GivenOutput, known: Output, target: str) -> Output:
    """What is said of the output, over what is `known`. Raises `InputError`."""
    if isinstance(given, Output):
        return given
    task = _task(given, known, target)
    cls = TASKS[task]
    values: dict[str, Any] = {}
    if known.task == task and type(known) is cls:
        values = asdict(known)
    elif task == "classification":
        values = {"activation": "softmax"}
    values |= {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key != "task"}
    unknown = sorted(set(values) - {each.name for each in fields(cls)}, key=str)
    if unknown:
        raise InputError(f"the output of {target} has no {unknown[0]!r:.80}", f"it is of the task {task}")
    if values.get("labels") is not None:
        values["labels"] = labels_of(values["labels"])
    if cls is DetectionOutput:
        values = {"boxes": "boxes", "scores": "scores", **values}
    found = cls(**values)
    if found.task != task:
        raise InputError(f"the output of {target} cannot be {task} without labels and activation", "give --labels, or --activation")
    return found


def labels_of(given: object) -> tuple[str, ...]:
    """Labels from a list, from a text with commas, or from a file: a label per line, or JSON (a list, or indices to labels)."""
    if isinstance(given, Path) or (isinstance(given, str) and _is_file(given)):
        return _from_file(Path(given))
    if isinstance(given, str):
        found = tuple(part.strip() for part in given.split(","))
        if not all(found):
            raise InputError(
                f"one of the labels {given!r:.80} is empty", "give a name for each: cat,dog, or a file with one per line"
            )
        return found
    if isinstance(given, Sequence) and not isinstance(given, (bytes, bytearray)) and all(is_text(each) for each in given):
        return tuple(given)
    raise InputError(f"labels cannot be {given!r:.80}", "give a list of texts, or a file with a label per line")


def _is_file(text: str) -> bool:
    """Whether a text names a file: one that is there, or one that by its end was meant to be."""
    try:
        there = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False
    return there or ("," not in text and Path(text).suffix.lower() in (".txt", ".json", ".names", ".csv"))


def _from_file(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise InputError(f"{path} is larger than {MAX_LABEL_BYTES:,} bytes", "give a file with a label per line")
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the labels in {path} cannot be read ({first_line(error, 120)})", "write a label per line, in UTF-8"
        ) from error
    found = (
        _from_json(text, path) if path.suffix.lower() == ".json" else [line.strip() for line in text.splitlines() if line.strip()]
    )
    if not found or len(found) > MAX_LABELS:
        raise InputError(f"{path} holds {len(found):,} labels", f"write 1 to {MAX_LABELS:,}, one per line")
    return labels_of(found)


def _from_json(text: str, path: Path) -> list[Any]:
    """A list; or a dict from indices to labels, or from labels to indices, as torchvision's `class_to_idx` is."""
    how = 'write ["cat", "dog"] or {"0": "cat", "1": "dog"}'
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({first_line(error, 120)})", how) from error
    if isinstance(found, dict):
        if all(is_int(value) for value in found.values()):
            found = {str(value): key for key, value in found.items()}
        wanted = [str(index) for index in range(len(found))]
        if set(wanted) != set(found):
            raise InputError(f"{path} does not name the labels 0 to {len(found) - 1}", how)
        found = [found[index] for index in wanted]
    if not isinstance(found, list):
        raise InputError(f"{path} holds no list of labels", how)
    return found


def _task(given: Mapping[str, Any], known: Output, target: str) -> Task:
    """As it is said, as one key tells it, or as it is known."""
    said = given.get("task")
    if said is not None:
        task = next((name for name in TASKS if name == said), None)
        if task is None:
            raise InputError(f"unknown task {said!r:.80}", f"choose one of {', '.join(TASKS)}")
        return task
    if known.task != "raw":
        return known.task
    for task, cls in _TELLING.items():
        if set(given) & ({each.name for each in fields(cls)} - set(_COMMON)):
            return task
    if "threshold" in given:
        raise InputError(f"the threshold of {target} is that of which task?", "add --task multilabel, segmentation or detection")
    return "classification" if {"labels", "activation"} & set(given) else "raw"


def _is_by_name(image: Mapping[str, Any]) -> bool:
    return bool(image) and all(isinstance(value, (ImageInput, Mapping)) for value in image.values())


def _by_place(image: GivenImage, specs: Sequence[InputSpec], known: Sequence[Rules], target: str) -> dict[int, GivenImage]:
    """What is said of the input at each place."""
    if isinstance(image, Mapping) and _is_by_name(image):
        names = [spec.name for spec in specs]
        wrong = next((name for name in image if name not in names), None)
        if wrong is not None:
            raise InputError(f"{target} has no input {wrong!r:.80} for an image", f"its inputs are {', '.join(names)[:200]}")
        return {names.index(name): given for name, given in image.items()}
    pictures = [place for place, rules in enumerate(known) if isinstance(rules, ImageInput)]
    pictures += [place for place, spec in enumerate(specs) if _looks_like_an_image(spec)]
    if not pictures:
        shapes = ", ".join("x".join(map(str, spec.shape)) or "a scalar" for spec in specs)
        raise InputError(f"{target} takes no image: its inputs are {shapes}, without the batch", "an image is 1xHxW or 3xHxW")
    return {pictures[0]: image}


def left_out(image: GivenImage, specs: Sequence[InputSpec], described: Collection[int]) -> tuple[str, ...]:
    """A remark where one image was described without its name, and other inputs look like images, too."""
    if isinstance(image, Mapping) and _is_by_name(image):
        return ()
    others = [spec.name for place, spec in enumerate(specs) if place not in described and _looks_like_an_image(spec)]
    if not others or not described:
        return ()
    first = specs[min(described)].name
    named = f"{{{first!r}: ..., {others[0]!r}: ...}}"
    return (
        f"{first!r:.60} was described as an image, {others[0]!r:.60} takes an array; for both give image={named[:120]} in Python",
    )


def _looks_like_an_image(spec: InputSpec) -> bool:
    return len(spec.shape) == 3 and spec.shape[0] in (1, 3)


def _image(given: GivenImage, spec: InputSpec, known: Rules, target: str) -> ImageInput:
    if isinstance(given, ImageInput):
        found = given
    else:
        plain = _plain(given)
        unknown = sorted(set(plain) - set(IMAGE_FIELDS), key=str)
        if unknown:
            raise InputError(f"an image has no {unknown[0]!r:.80}", f"it has {', '.join(IMAGE_FIELDS)}")
        base = known if isinstance(known, ImageInput) else _by_shape(spec, target)
        if plain.get("channels", base.channels) != base.channels:
            base = replace(base, mean=(0.0,), std=(1.0,), order="rgb", padding=(0,))
        if plain.get("fit", base.fit) != base.fit:
            base = replace(base, fit="stretch", resize=None, padding=(0,), placement="center")
        if "center-crop" in (plain.get("fit"), base.fit):
            sides = (plain.get("height", base.height), plain.get("width", base.width))
            plain.setdefault("resize", max([base.resize or 1, *(side for side in sides if is_int(side))]))
        found = replace(base, **plain)
    shape = (found.channels, found.height, found.width)
    if shape != spec.shape and spec.example is not None:
        problem = f"{target} takes {'x'.join(map(str, spec.shape))}, the image is {'x'.join(map(str, shape))}"
        raise InputError(problem, "say its size with --image HxW and --channels")
    return found


def _by_shape(spec: InputSpec, target: str) -> ImageInput:
    """What the shape of an input tells of its images."""
    if not _looks_like_an_image(spec):
        raise InputError(
            f"{target} takes {'x'.join(map(str, spec.shape)) or 'a scalar'}, which is no image", "1xHxW or 3xHxW is one"
        )
    channels, height, width = spec.shape
    return ImageInput(channels, height, width)


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as `ImageInput` takes them: "bgr" is an order of three channels, and a number alone stands for every channel."""
    found = dict(given)
    channels = found.get("channels")
    if isinstance(channels, str):
        if channels not in _CHANNELS:
            raise InputError(f"unknown channels {channels!r:.80}", f"choose one of {', '.join(_CHANNELS)}")
        found["channels"], order = _CHANNELS[channels]
        found.setdefault("order", order)
    for key in ("mean", "std", "padding"):
        value = found.get(key)
        if value is not None:
            found[key] = (
                (value,) if isinstance(value, (int, float)) else tuple(value) if isinstance(value, (list, tuple)) else value
            )
    return found

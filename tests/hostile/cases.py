"""One case: a kind of file, made bad from a seed, and the way deploykit reads it. The same number makes the same case again."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from mutations import mutate_bytes, mutate_json, mutate_message
from seeds import IMAGE, NETWORK, VECTOR, safetensors

from deploykit.cli import cli
from deploykit.runtime.contract import KEY, Contract, Output, loads

Seeds = dict[str, bytes]
Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """What is done with which bad file."""

    kind: str
    work: Work


def make(number: int, seeds: Seeds, folder: Path) -> Case:
    """Case `number`, its files written into the empty `folder`."""
    rng = random.Random(number)
    kind = rng.choices(tuple(_KINDS), tuple(weight for weight, _ in _KINDS.values()))[0]
    return Case(kind, _KINDS[kind][1](rng, seeds, folder))


def set_share(kind: str, factor: float) -> None:
    """Make more or fewer cases of a kind; the numbers of cases then mean other cases."""
    weight, maker = _KINDS[kind]
    _KINDS[kind] = (weight * factor, maker)


def _checkpoint(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    from deploykit.network import target

    data = seeds["seed.safetensors"]
    if rng.random() < 0.6:  # the JSON inside, or the one around it
        size = struct.unpack("<Q", data[:8])[0]
        header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
        if rng.random() < 0.7:
            inner = json.dumps(mutate_json(json.loads(header["__metadata__"][KEY]), rng))
            header["__metadata__"][KEY] = inner
        else:
            header = mutate_json(header, rng)
        data = safetensors(header, rest)
    else:
        data = mutate_bytes(data, rng, 1000)
    path = _write(folder / "bad.safetensors", data)
    if rng.random() < 0.1:
        return _command("profile", path, "--no-latency", "--format", "json")
    return lambda: target.resolve(str(path))


def _weights(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    from deploykit.network import target

    name = rng.choice(("seed.pt", "seed.pt", "old.pt"))
    path = _write(folder / rng.choice(("bad.pt", "bad.pth")), mutate_bytes(seeds[name], rng, 3000))
    return lambda: target.resolve(NETWORK, checkpoint=path)


def _resume(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    from deploykit.network import checkpoint

    path = _write(folder / "resume.pt", mutate_bytes(seeds["resume.pt"], rng, 3000))
    return lambda: checkpoint.read_resume(path)


def _onnx(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    path = _write(folder / "bad.onnx", _bad_model(rng, seeds["model.onnx"]))
    command = rng.choices(("predict", "profile", "validate", "simplify", "timed"), (4, 4, 4, 1, 0.1))[0]
    if command == "predict":
        image = _write(folder / "good.png", seeds["image.png"])
        return _command("predict", path, image, "--format", "json", "--quiet")
    if command == "profile":
        return _command("profile", path, "--no-latency", "--format", "json", "--quiet")
    if command == "timed":
        return _command("profile", path, "--format", "json", "--quiet")
    if command == "validate":
        return _command("validate", path, "--against", NETWORK, "--untrained", "--format", "json", "--quiet")
    return _command("simplify", path, "--out", folder / "out.onnx", "--format", "json", "--quiet")


def _bad_model(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    model = onnx.ModelProto.FromString(data)
    try:
        mutate_message(model, rng)
        return model.SerializeToString()
    except (ValueError, TypeError, UnicodeError):  # a value that protobuf itself does not let in
        return mutate_bytes(data, rng)


def _contract(rng: random.Random, seeds: Seeds, _folder: Path) -> Work:
    text = seeds["contract.json"].decode()
    if rng.random() < 0.6:
        text = json.dumps(mutate_json(json.loads(text), rng))
    else:
        text = mutate_bytes(text.encode(), rng).decode("utf-8", "surrogateescape")

    def work() -> None:
        found = loads(text)
        assert loads(found.dumps()) == found

    return work


def _predictor(rng: random.Random, seeds: Seeds, _folder: Path) -> Work:
    """A good graph with a bad contract: they may be at odds."""
    from deploykit.runtime import Predictor

    model = onnx.ModelProto.FromString(seeds["flat.onnx"])
    model.metadata_props[0].value = json.dumps(mutate_json(json.loads(model.metadata_props[0].value), rng))
    image, data = seeds["image.png"], model.SerializeToString()

    def work() -> None:
        with Predictor(data, "cpu", threads=1) as predictor:
            predictor.predict(image)

    return work


def _image(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    from deploykit.runtime.samples import sample_of

    name = rng.choice(sorted(name for name in seeds if name.startswith("image.")))
    path = _write(folder / "bad.png", mutate_bytes(seeds[name], rng, 120))
    return lambda: sample_of(path, Contract(IMAGE, _OUTPUT), 100_000_000)


def _array(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    from deploykit.runtime.samples import sample_of

    path = _write(folder / "bad.npy", mutate_bytes(seeds["vector.npy"], rng, 128))
    return lambda: sample_of(path, Contract(VECTOR, _OUTPUT), 100_000_000)


def _dataset(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    kind = rng.choice(("mnist", "cifar"))
    names = sorted(name for name in seeds if name.startswith(kind))
    bad = rng.choice(names)
    for name in names:
        _write(folder / name, mutate_bytes(seeds[name], rng, 64) if name == bad else seeds[name])
    return lambda: _load(folder / kind)


def _image_folder(rng: random.Random, seeds: Seeds, folder: Path) -> Work:
    images = sorted(name for name in seeds if name.startswith("image."))
    for label in ("cats", "dogs"):
        for number in range(3):
            _write(folder / "data" / label / f"{number}.png", seeds["image.png"])
    _write(folder / "data" / "cats" / "bad.png", mutate_bytes(seeds[rng.choice(images)], rng, 120))
    return lambda: _load(folder / "data")


def _load(folder: Path) -> None:
    from deploykit import datasets

    found = datasets.load(str(folder))
    for split in (found.train, found.validation, found.test):
        list(split.images())


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _command(*arguments: object) -> Work:
    """The whole command; its exit status is the case's."""
    return lambda: cli.main([str(argument) for argument in arguments], prog_name="deploykit", standalone_mode=False)


_OUTPUT = Output("none")
_KINDS: dict[str, tuple[float, Callable[[random.Random, Seeds, Path], Work]]] = {
    "checkpoint (.safetensors)": (20, _checkpoint),
    "weights (.pt, .pth)": (15, _weights),
    "training state (resume.pt)": (5, _resume),
    "ONNX file": (10, _onnx),
    "contract (JSON)": (12, _contract),
    "contract at odds with its graph": (4, _predictor),
    "image": (20, _image),
    "array (.npy)": (6, _array),
    "dataset (IDX, CIFAR)": (6, _dataset),
    "folder of images": (2, _image_folder),
}

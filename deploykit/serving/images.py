"""`POST /v2/models/M/predict`: images in, the contract's answers out. Images come as files, as base64 or as numbers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import ContractError, InputError, Unavailable, kind_of
from deploykit.runtime.answering import answer_all
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput
from deploykit.runtime.cores import cores
from deploykit.runtime.images import MAX_PIXELS
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.waiting import Answer
from deploykit.serving import documents, numbers
from deploykit.serving.models import Served
from deploykit.serving.refusals import Refusal
from deploykit.serving.work import LARGE, worked

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_IMAGES = 256  # of one request

# An unpacked image may have a hundred times the bytes of its file: few are unpacked at a time.
_unpacking = threading.Semaphore(max(1, cores().usable))


async def sources(body: bytes, content_type: str, served: Served) -> list[Any]:
    """The images in a body: several files of a form, one file as it is, or a JSON document.

    Raises `InputError` for a body without any, `ContractError` where the file does not say how an image becomes its input.
    """
    contract = served.predictor.contract
    if contract is None:
        raise ContractError(f"the model {served.name!r} has no contract: nothing says how an image becomes its input", "use infer")
    served.predictor.answering(_no_run)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _of_form(body, content_type)
    elif kind == "application/json":
        found = await worked(len(body), _of_document, body, contract)
    else:
        found = [body]
    if not found or (len(found) == 1 and isinstance(found[0], bytes) and not found[0]):
        raise InputError("the request holds no image", "send a file as the body, files in a form, or JSON with images")
    several = len(served.predictor.inputs) > 1
    if (several or isinstance(contract.input, ArrayInput)) and any(isinstance(source, bytes) for source in found):
        what = "several inputs" if several else "arrays, not images"
        raise InputError(f"the model {served.name!r} takes {what}", 'send JSON: {"inputs": [...]}')
    return found


def _no_run(_names: list[str], _feeds: dict[str, Any]) -> list[Any]:
    raise AssertionError("nothing is run where only the way to an answer is asked for")


class Asking:
    """The answers to one request, worked out in a thread; `cancel` gives up what has not begun."""

    def __init__(self, served: Served, top: int, timeout: float | None) -> None:
        self._served, self._top, self._timeout = served, top, timeout
        self._futures: list[Future[Answer]] = []
        self._given_up = False
        self._unavailable: tuple[str, str, str] | None = None  # why a run was refused that no image is to blame for

    def answers(self, given: list[Any]) -> list[Prediction]:
        """One per image, in order; what cannot be read has `error`.

        Raises what the network raises for all of them, and `Unavailable` where it was not asked for each: no image is to blame.
        """
        network = self._served.predictor.answering(self._run)
        found: list[Prediction | None] = [None] * len(given)
        samples: dict[int, Any] = {}
        for place, source in enumerate(given):
            if self._given_up:
                raise Refusal(499, "the caller went away", "cancelled")
            try:
                with _unpacking:
                    samples[place] = network.prepare(source, MAX_PIXELS)
            except InputError as error:
                found[place] = Prediction(error=str(error))
        rows = self._served.max_batch_size or 1
        for place, answer in zip(samples, answer_all(list(samples.values()), network, self._top, rows), strict=True):
            found[place] = answer
        answers = [answer for answer in found if answer is not None]
        if self._unavailable is not None and any(answer.error is not None for answer in answers):
            raise Unavailable(*self._unavailable)
        return answers

    def written(self, given: list[Any]) -> tuple[list[Prediction], bytes]:
        """`answers`, and the same as the body of a response."""
        found = self.answers(given)
        return found, documents.write_long(_document(found, self._served))

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._given_up = True
        for future in list(self._futures):
            future.cancel()

    def _run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        try:
            future = self._served.submit(feeds, self._timeout)
            self._futures.append(future)
            if self._given_up:
                future.cancel()
            outputs = future.result().outputs
        except Unavailable as error:
            self._unavailable = error.reason, error.problem, error.hint
            raise
        return [outputs[name] for name in names]


def _document(answers: list[Prediction], served: Served) -> dict[str, Any]:
    """The answers as JSON. A network without labels gives `values`; those that are not finite are an error already."""
    return {
        "model_name": served.name,
        "model_version": served.version,
        "predictions": [{key: value for key, value in answer.as_dict().items() if key != "path"} for answer in answers],
    }


def top_of(text: str | None) -> int:
    """`?top=3`. Raises `InputError`."""
    if text is None:
        return 1
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 6 and int(text)):
        raise InputError(f"top must be a whole number from 1, not {text!r:.40}")
    return int(text)


async def _of_form(body: bytes, content_type: str) -> list[bytes]:
    """The files of a multipart form, in order. Reading a large one waits for nothing, but takes time: it has a loop of its own."""
    if len(body) < LARGE:
        return await _files_of(body, content_type)
    return await asyncio.to_thread(lambda: asyncio.run(_files_of(body, content_type)))


async def _files_of(body: bytes, content_type: str) -> list[bytes]:
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield body

    headers = Headers({"content-type": content_type})
    try:
        form = await MultiPartParser(headers, stream(), max_files=MAX_IMAGES, max_fields=16, max_part_size=1 << 20).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise InputError(f"the form cannot be read: {error.message}") from error
    except (KeyError, ValueError, UnicodeError) as error:
        raise InputError("the form cannot be read: it has no boundary, or is no form") from error
    try:
        return [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    finally:
        await form.close()


def _of_document(body: bytes, contract: Contract) -> list[Any]:
    """`{"images": ["base64", ...]}`, and `{"inputs": [numbers, ...]}`, which are pixels where the network takes images.

    With several inputs an entry of `inputs` is an object: numbers by name, or base64 for one that is an image.
    They are counted before anything is made of them.
    """
    said = documents.parse(body)
    if ("images" in said) == ("inputs" in said):
        raise InputError('the JSON needs either "images" (base64 of files) or "inputs" (arrays of numbers)')
    given = said.get("images", said.get("inputs"))
    if not isinstance(given, list):
        raise InputError("images and inputs are lists, with one entry for each answer")
    if len(given) > MAX_IMAGES:
        raise InputError(f"the request holds {len(given)} images or inputs", f"send at most {MAX_IMAGES} at a time")
    if "images" in said:
        return [_decoded(text) for text in given]
    rules = contract.rules()
    if not contract.inputs:
        return [_array(value, contract.input) for value in given]
    return [_by_name(value, {str(name): each for name, each in rules.items()}) for value in given]


def _by_name(value: object, rules: dict[str, ImageInput | ArrayInput]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(rules):
        raise InputError(f"an entry of inputs must be an object with {', '.join(map(repr, list(rules)[:12]))}")
    found: dict[str, Any] = {}
    for name, each in value.items():
        is_file = isinstance(each, str) and isinstance(rules[name], ImageInput)
        found[name] = _decoded(each) if is_file else _array(each, rules[name])
    return found


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise InputError(f"an image in JSON is a text of base64, not {kind_of(text)}")
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("an image in JSON is no valid base64") from error


def _array(value: object, rules: ImageInput | ArrayInput) -> NDArray[Any]:
    if isinstance(rules, ArrayInput):
        wanted = np.dtype(rules.dtype)
        return numbers.array_of(value, wanted, "an input", str(wanted))
    pixels = numbers.array_of(value, np.dtype(np.float64), "an image", "uint8")
    wrong = pixels[(pixels < 0) | (pixels > 255) | (pixels != np.floor(pixels))]
    if wrong.size:
        raise InputError(
            f"the pixels of an image are whole numbers from 0 to 255, not {wrong.flat[0]:g}",
            "give 255 times what lies between 0 and 1, rounded",
        )
    return pixels.astype(np.uint8)


def threads() -> int:
    """How many requests with images are worked on at a time: enough to fill a batch while others unpack."""
    return min(64, 4 * (os.cpu_count() or 1) + 28)

"""`POST /v2/models/M/predict`: images in, the contract's answers out. Images come as files, as base64 or as numbers."""

from __future__ import annotations

import base64
import binascii
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import ContractError, InputError
from deploykit.runtime.answering import RunWithContract, answer_all
from deploykit.runtime.contract import ArrayInput, Contract
from deploykit.runtime.cores import cores
from deploykit.runtime.images import MAX_PIXELS
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.samples import sample_of
from deploykit.runtime.waiting import Answer
from deploykit.serving import documents
from deploykit.serving.models import Models, Served
from deploykit.serving.refusals import Refusal

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
    if contract is None or len(served.predictor.inputs) != 1:
        why = "has no contract" if contract is None else f"takes {len(served.predictor.inputs)} inputs"
        raise ContractError(f"the model {served.name!r} {why}, so no image or array can be asked about by itself", "use infer")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _of_form(body, content_type)
    elif kind == "application/json":
        found = _of_document(documents.parse(body), contract)
    else:
        found = [body]
    if not found or (len(found) == 1 and isinstance(found[0], bytes) and not found[0]):
        raise InputError("the request holds no image", "send a file as the body, files in a form, or JSON with images")
    if len(found) > MAX_IMAGES:
        raise InputError(f"the request holds {len(found)} images", f"send at most {MAX_IMAGES} at a time")
    if isinstance(contract.input, ArrayInput) and not all(isinstance(source, np.ndarray) for source in found):
        raise InputError(f"the model {served.name!r} takes arrays, not images", 'send JSON: {"inputs": [...]}')
    return found


class Asking:
    """The answers to one request, worked out in a thread; `cancel` gives up what has not begun."""

    def __init__(self, models: Models, served: Served, top: int, timeout: float | None) -> None:
        self._models, self._served, self._top, self._timeout = models, served, top, timeout
        self._futures: list[Future[Answer]] = []
        self._given_up = False

    def answers(self, given: list[Any]) -> list[Prediction]:
        """One per image, in order; what cannot be read has `error`. Raises what the network raises for all of them."""
        contract = self._contract()
        found: list[Prediction | None] = [None] * len(given)
        samples: dict[int, NDArray[Any]] = {}
        for place, source in enumerate(given):
            if self._given_up:
                raise Refusal(499, "the caller went away", "cancelled")
            try:
                with _unpacking:
                    samples[place] = sample_of(source, contract, MAX_PIXELS)
            except InputError as error:
                found[place] = Prediction(error=str(error))
        predictor = self._served.predictor
        network = RunWithContract(self._run, predictor.inputs[0], predictor.outputs[0], contract)
        rows = self._served.max_batch_size or 1
        for place, answer in zip(samples, answer_all(list(samples.values()), network, self._top, rows), strict=True):
            found[place] = answer
        return [answer for answer in found if answer is not None]

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._given_up = True
        for future in list(self._futures):
            future.cancel()

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        future = self._models.submit(self._served, {self._served.predictor.inputs[0].name: batch}, self._timeout)
        self._futures.append(future)
        if self._given_up:
            future.cancel()
        found: NDArray[Any] = future.result().outputs[self._served.predictor.outputs[0].name]
        return found

    def _contract(self) -> Contract:
        contract = self._served.predictor.contract
        assert contract is not None  # noqa: S101  # `sources` has looked
        return contract


def document(answers: list[Prediction], served: Served) -> dict[str, Any]:
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
    """The files of a multipart form, in order."""
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


def _of_document(said: dict[str, Any], contract: Contract) -> list[Any]:
    """`{"images": ["base64", ...]}` and `{"inputs": [numbers, ...]}`, which are uint8 pixels for a network of images."""
    if ("images" in said) == ("inputs" in said):
        raise InputError('the JSON needs either "images" (base64 of files) or "inputs" (arrays of numbers)')
    given = said.get("images", said.get("inputs"))
    if not isinstance(given, list):
        raise InputError("images and inputs are lists, with one entry for each answer")
    if "images" in said:
        return [_decoded(text) for text in given]
    return [_array(value, contract) for value in given]


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise InputError(f"an image in JSON is a text of base64, not a {type(text).__name__}")
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("an image in JSON is no valid base64") from error


def _array(value: object, contract: Contract) -> NDArray[Any]:
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise InputError("an input is ragged or holds something else than numbers") from error
    if array.dtype.kind not in "iufb":
        raise InputError("an input holds something else than numbers")
    if isinstance(contract.input, ArrayInput):
        wanted = np.dtype(contract.input.dtype)
        if array.dtype.kind in "iu" and wanted.kind in "iuf":
            array = _within(array, wanted)
        return array
    if array.size and (array.min() < 0 or array.max() > 255):
        raise InputError("the pixels of an image are numbers from 0 to 255")
    return array.astype(np.uint8)


def _within(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InputError(f"an input holds numbers that {wanted} has not")
    return array.astype(wanted)


def threads() -> int:
    """How many requests with images are worked on at a time: enough to fill a batch while others unpack."""
    return min(64, 4 * (os.cpu_count() or 1) + 28)

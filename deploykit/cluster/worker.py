"""What an actor does: one `Predictor`, opened once, answers part after part."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from deploykit import errors
from deploykit.cluster import places
from deploykit.cluster.connecting import versions
from deploykit.cluster.folder import Folder, name_of
from deploykit.cluster.planning import Part
from deploykit.cluster.tables import file_of
from deploykit.errors import DeploykitError, InputError, first_line
from deploykit.runtime import Prediction, Predictor
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.stream import Named


@dataclass(frozen=True)
class Asked:
    """How the parts are answered: `threads` within a run, `decoders` that prepare ahead; `task` and `kind` as `file_of` has them.

    `out`: the URI of the folder to which the workers write themselves, `None` where the driver does.
    """

    device: str
    threads: int
    decoders: int
    batch_size: int
    top: int
    task: str
    kind: str
    out: str | None = None


@dataclass(frozen=True)
class Done:
    """A part that is answered: its number, rows, how many of them have an error, and its file, `None` where that is written."""

    number: int
    rows: int
    errors: int
    data: bytes | None


class Worker:
    """Is asked packed parts; gives the bytes of their files, or has written them.

    `model`: the bytes of the ONNX file, or its path where its weights lie beside it.
    """

    def __init__(self, model: bytes | str, asked: Asked) -> None:
        self._given, self._asked = model, asked

    @cached_property
    def _model(self) -> Predictor:
        """Opened when the first part comes: what is raised in a constructor Ray hands on as a text."""
        return Predictor(self._given, self._asked.device, threads=self._asked.threads, spinning=False)  # others could use the time

    def ready(self) -> tuple[str, dict[str, str | None]]:
        """The name of the machine and the versions there, when the actor is there: it may have come after all were looked at."""
        return socket.gethostname(), versions()

    def ask(self, packed: bytes) -> Done | str:
        """A packed `Part` -> what became of it; where that is an error, a text as `told_by` takes it."""
        part = Part.unpacked(packed)
        try:
            if part.inputs is None:
                part = Folder(self._asked.out or "").part(part.number)
            answers = self.answer(part)
            data = file_of(answers, part.first, self._asked.task, self._asked.kind)
            errors = sum(not answer.ok for answer in answers)
            if self._asked.out is None:
                return Done(part.number, part.rows, errors, data)
            Folder(self._asked.out).write(name_of(part.number, self._asked.kind), data)
        except DeploykitError as error:
            return as_text(error)
        return Done(part.number, part.rows, errors, None)

    def answer(self, part: Part) -> list[Prediction]:
        """One answer per row of the part. Raises `InputError` where its whole source has vanished."""
        if isinstance(part.inputs, list):
            found = [Named(place, places.Remote(place)) if places.is_uri(place) else place for place in part.inputs]
            answers = list(self._asking(found))
            if not any(answer.ok for answer in answers):
                _require_source(part.inputs)
            return answers
        return list(self._asking(self._rows(part)))

    def _asking(self, sources: Any) -> Iterator[Prediction]:
        asked = self._asked
        return self._model.predict_many(sources, asked.batch_size, asked.top, workers=asked.decoders)

    def _rows(self, part: Part) -> Iterator[Named]:
        """The cells of a column of a Parquet file, called "FILE#ROW" with the number of the row in the file."""
        import pyarrow.parquet as pq

        where = part.inputs
        place, rows = where["file"], self._asked.batch_size
        contract = self._model.contract
        as_given = contract is None or isinstance(contract.input, ImageInput)
        try:
            with places.opened(place) as stream, pq.ParquetFile(stream) as file:
                cells = (cell for batch in file.iter_batches(rows, [where["group"]], [where["column"]]) for cell in batch.column(0))
                for row, cell in enumerate(islice(cells, where["skip"], where["skip"] + part.rows), where["first"] + where["skip"]):
                    data = cell.as_py()
                    data = data.get("bytes") if isinstance(data, dict) else data
                    yield Named(f"{place}#{row}", data if as_given or data is None else io.BytesIO(data))
        except FileNotFoundError as error:
            raise _gone(place) from error
        except OSError as error:
            raise InputError(f"{place} cannot be read: {first_line(error)}", "then add --resume") from error


def as_text(error: DeploykitError) -> str:
    """An error for the way to the driver: Ray would hand on its text within others."""
    return json.dumps([type(error).__name__, *error.__reduce__()[1]])


def told_by(text: str) -> DeploykitError:
    """The other way."""
    name, *given = json.loads(text)
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, DeploykitError)):
        return DeploykitError(*given[:2])
    found: DeploykitError = kind(*given)
    return found


def _require_source(inputs: list[str]) -> None:
    """Raise `InputError` where none of these files is there any more, nor what they lay in: that is no bad image."""
    if any(places.is_there(place) for place in inputs):
        return
    folders = sorted({places.folder_of(place) for place in inputs})
    if not any(places.is_there(folder) for folder in folders):
        raise _gone(folders[0])


def _gone(place: str) -> InputError:
    return InputError(f"the source {place!r:.200} is not there any more", "bring it back, then add --resume")

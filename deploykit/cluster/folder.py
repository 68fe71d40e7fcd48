"""The folder of a run: a file for every part that is answered, each whole or not there, and what the run is about.

``part-00000042.parquet`` (or ``.jsonl``) is the answer to part 42, whoever computed it and however often: the name makes that each
row is there once. In ``_deploykit``, which readers of Parquet folders pass over, lie ``run.json`` (file, contract, sources,
versions), the list of the inputs in files of 64 parts, and ``inputs.json`` with their number, written when the list is complete.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deploykit import files
from deploykit.cluster import places
from deploykit.cluster.planning import CHUNK, Part
from deploykit.cluster.tables import counts_in
from deploykit.errors import InputError, OutputError, first_line

HOME = "_deploykit"
RUN, INPUTS = f"{HOME}/run.json", f"{HOME}/inputs.json"
_PART = re.compile(r"part-(\d{8,})\.(?:parquet|jsonl)")


class Folder:
    """A folder here or in a store: `out` is its path or URI. Every write is whole or not there."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.shared = places.is_uri(out)
        if not self.shared and Path(out).exists() and not Path(out).is_dir():
            raise OutputError(f"{out} is no folder", "name a folder with --out")

    def write(self, name: str, data: bytes) -> None:
        """Raises `OutputError`."""
        if not self.shared:
            files.write_bytes(Path(self.out) / name, data)
            return
        store, path = places.store_of(f"{self.out.rstrip('/')}/{name}")
        try:
            if store.type_name == "local":
                files.write_bytes(Path(path), data)
                return
            with store.open_output_stream(path, compression=None) as stream:  # is there when it is closed, not before
                stream.write(data)
        except OSError as error:
            raise OutputError(f"cannot write {self.out}/{name}: {first_line(error)}", "choose another --out") from error

    def read(self, name: str) -> bytes | None:
        """`None` where there is no such file. Raises `InputError` for one that cannot be read."""
        try:
            return places.read(f"{self.out.rstrip('/')}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"cannot read {self.out}/{name}: {first_line(error)}", "choose another --out") from error

    def names(self) -> list[str]:
        """The files in it."""
        if not self.shared:
            return sorted(path.name for path in Path(self.out).iterdir()) if Path(self.out).is_dir() else []
        from pyarrow import fs

        store, path = places.store_of(self.out)
        try:
            below = store.get_file_info(fs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise OutputError(
                f"{self.out} cannot be listed: {first_line(error)}", "check the address and its credentials"
            ) from error
        return sorted(each.base_name for each in below)

    def begin(self, run: Mapping[str, Any], resume: bool) -> bool:
        """Claim the folder for `run`, which says what its answers are made of; gives whether they were begun before.

        Raises `InputError` for a folder of another run, of this one without `resume`, and one with other files in it.
        """
        kept = _parsed(self.read(RUN))
        if kept is not None:
            other = next((key for key, value in run.items() if kept.get(key) != json.loads(json.dumps(value))), None)
            if other is not None:
                raise InputError(
                    f"{self.out} belongs to another run: its {other} is {kept.get(other)!r:.80}, not {run[other]!r:.80}",
                    "choose another --out, or ask as that run did",
                )
            if not resume:
                raise InputError(f"{self.out} has a run of these inputs already", "add --resume to go on, or choose another --out")
            return True
        foreign = [name for name in self.names() if name != HOME]
        if foreign:
            raise InputError(f"{self.out} has files of something else ({foreign[0]!r:.80})", "choose a new folder with --out")
        self.write(RUN, (json.dumps(run, indent=2) + "\n").encode())
        return False

    def keep_list(self, parts: Iterable[Part]) -> dict[str, int]:
        """Write the list of the inputs; gives `{parts, rows}`. Raises `OutputError`."""
        count = rows = 0
        chunk: list[Any] = []
        for part in parts:
            chunk.append([part.number, part.first, part.rows, part.inputs])
            count, rows = count + 1, rows + part.rows
            if len(chunk) == CHUNK:
                self._write_chunk(count // CHUNK - 1, chunk)
                chunk = []
        if chunk:
            self._write_chunk(count // CHUNK, chunk)
        found = {"parts": count, "rows": rows}
        self.write(INPUTS, (json.dumps(found) + "\n").encode())
        return found

    def _write_chunk(self, number: int, chunk: list[Any]) -> None:
        self.write(f"{HOME}/inputs-{number:06}.json.z", zlib.compress(json.dumps(chunk).encode(), 6))

    def listed(self) -> dict[str, int] | None:
        """`{parts, rows}` of a list that is complete."""
        return _parsed(self.read(INPUTS))

    def parts(self, count: int, done: set[int]) -> Iterator[Part]:
        """The parts of the list that are not `done`. Raises `InputError` for a damaged list."""
        for number in range(-(-count // CHUNK)):
            if all(each in done for each in range(number * CHUNK, min(count, (number + 1) * CHUNK))):
                continue
            yield from (part for part in self._chunk(number) if part.number not in done)

    def part(self, number: int) -> Part:
        """One part of the list. Raises `InputError` for a damaged list."""
        return self._chunk(number // CHUNK)[number % CHUNK]

    def _chunk(self, number: int) -> list[Part]:
        data = self.read(f"{HOME}/inputs-{number:06}.json.z")
        try:
            return [Part(*each) for each in json.loads(zlib.decompress(data or b""))]
        except (ValueError, TypeError, zlib.error) as error:
            raise InputError(f"the list of inputs in {self.out} is damaged", "begin again with another --out") from error

    def done(self) -> set[int]:
        """The numbers of the parts that are answered."""
        return {int(found[1]) for name in self.names() if (found := _PART.fullmatch(name))}

    def counts(self, number: int, kind: str) -> tuple[int, int]:
        """The rows of a part that is answered, and how many of them have an error. Raises `InputError` for a damaged file."""
        place = f"{self.out.rstrip('/')}/{name_of(number, kind)}"
        try:
            with places.opened(place) as stream:
                return counts_in(stream, kind)
        except Exception as error:  # pyarrow has errors of its own
            raise InputError(f"{place} is damaged: {first_line(error)}", "remove it, then add --resume") from error


def name_of(number: int, kind: str) -> str:
    """The file of a part; `kind`: "parquet" or "jsonl"."""
    return f"part-{number:08}.{kind}"


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    try:
        found = None if data is None else json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

"""What people name -> single inputs: files, folders, patterns, lists in a file, columns of Parquet; here or in a store."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from deploykit.cluster import places
from deploykit.errors import InputError, first_line
from deploykit.runtime import expand
from deploykit.runtime.contract import Contract, ImageInput
from deploykit.runtime.images import SUFFIXES

LIST, TABLE = ".txt", ".parquet"
TOGETHER = 1024  # files that are looked at before the first of them is given
READERS = 16  # of Parquet files, which in a store answer after some 20 ms
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class RowGroup:
    """A group of rows of a Parquet file: `number` within it, how many `rows`, the first of them `first` within the file."""

    file: str
    number: int
    first: int
    rows: int
    column: str


def inputs_of(sources: Iterable[str], contract: Contract, column: str | None = None) -> Iterator[str | RowGroup]:
    """The single inputs, in the order given, folders in the order of their names: paths, URIs and groups of rows.

    `column`: that of Parquet files which holds the images; without it the only one of bytes. Raises `InputError` for a source
    that is not there, or has no inputs.
    """
    arrays = (".npz",) if len(contract.inputs) > 1 else (".npy",)
    suffixes = SUFFIXES if len(contract.inputs) < 2 and isinstance(contract.input, ImageInput) else arrays
    for source in sources:
        found = iter(_in_store(source, suffixes) if places.is_uri(source) else _local(source, contract))
        empty = True
        while several := list(islice(found, TOGETHER)):
            empty = False
            yield from _behind(several, column)
        if empty:
            raise InputError(f"there are no inputs in {source!r:.200}", f"files that end in {', '.join(suffixes)} or {TABLE} are")


def _behind(several: list[str], column: str | None) -> Iterator[str | RowGroup]:
    """The inputs behind files, in their order; what Parquet files say of themselves is read from many at a time."""
    tables = [place for place in several if place.lower().endswith(TABLE)]
    if len(tables) > 1:
        with ThreadPoolExecutor(READERS) as pool:
            groups = dict(zip(tables, pool.map(lambda place: list(_groups(place, column)), tables), strict=True))
    else:
        groups = {place: list(_groups(place, column)) for place in tables}
    for place in several:
        if place in groups:
            yield from groups[place]
        elif place.lower().endswith(LIST):
            yield from _listed(place)
        else:
            yield place


def _local(source: str, contract: Contract) -> Iterator[str]:
    if glob.has_magic(source) and not os.path.lexists(source):
        for match in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207 (pathlib has no absolute patterns)
            yield from _local(match, contract) if os.path.isdir(match) else [match]  # noqa: PTH112
    elif os.path.isdir(source):  # noqa: PTH112
        first = None
        for first in expand(source, contract):  # an empty folder is given back as it is
            if first != source:
                yield first
        if first == source:
            yield from map(str, sorted(Path(source).rglob(f"*{TABLE}")))
    elif os.path.lexists(source):
        yield source
    else:
        raise InputError(f"there is no file or folder {source!r:.200}", "check the path; a pattern needs quotes")


def _in_store(source: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    from pyarrow import fs

    store, path = places.store_of(source)
    magic = _MAGIC.search(path)
    base = path[: path.rfind("/", 0, magic.start())] if magic else path
    try:
        found = store.get_file_info(base)
        if found.type == fs.FileType.File:
            yield source
            return
        below = store.get_file_info(fs.FileSelector(base, recursive=True)) if found.type == fs.FileType.Directory else []
    except OSError as error:
        raise InputError(f"{source} cannot be listed: {first_line(error)}", "check the address and its credentials") from error
    if found.type == fs.FileType.NotFound:
        raise InputError(f"there is nothing at {source!r:.200}", "check the address")
    for each in sorted(below, key=lambda info: info.path):
        wanted = fnmatch.fnmatch(each.path, path) if magic else each.path.lower().endswith((*suffixes, TABLE))
        if each.type == fs.FileType.File and wanted:
            yield places.joined(source, each.path)


def _listed(place: str) -> Iterator[str]:
    """The lines of a list; a path that is no absolute one begins at the current folder."""
    try:
        text = places.read(place).decode(errors="surrogateescape")
    except OSError as error:
        raise InputError(f"the list {place!r:.200} cannot be read: {first_line(error)}", "check the path") from error
    for line in text.split("\n"):
        if line.removesuffix("\r"):
            yield line.removesuffix("\r")


def _groups(place: str, column: str | None) -> Iterator[RowGroup]:
    import pyarrow.parquet as pq

    try:
        with places.opened(place) as stream, pq.ParquetFile(stream) as file:
            chosen = _column(place, file.schema_arrow, column)
            rows = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    except InputError:
        raise
    except Exception as error:  # pyarrow has errors of its own
        raise InputError(f"{place!r:.200} is no readable Parquet file: {first_line(error)}", "write it again") from error
    first = 0
    for number, count in enumerate(rows):
        yield RowGroup(place, number, first, count, chosen)
        first += count


def _column(place: str, schema: Any, asked: str | None) -> str:
    import pyarrow as pa

    def is_image(kind: Any) -> bool:
        plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        return plain or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    known = [field.name for field in schema if is_image(field.type)]
    if asked is None and len(known) == 1:
        return str(known[0])
    if asked is not None and asked in known:
        return asked
    said = f"its columns of bytes are {', '.join(known)}" if known else "it has no column of bytes"
    wrong = "does not say which column holds the images" if asked is None else f"has no column of bytes {asked!r:.80}"
    raise InputError(f"{place!r:.200} {wrong}", f"{said}: choose one with --column" if known else said)

from __future__ import annotations

import gc
import itertools
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.errors import InputError
from deploykit.runtime import Prediction, Predictor
from deploykit.runtime import stream as streams
from deploykit.runtime.images import MAX_PIXELS
from deploykit.runtime.stream import LIGHT_SECONDS, Pace, ahead, stream


@pytest.fixture
def model(digits_file: Path) -> Iterator[Predictor]:
    with Predictor(digits_file, device="cpu") as predictor:
        yield predictor


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(30):
        Image.fromarray(picture(index)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def decoders() -> int:
    return sum(thread.name.startswith("deploykit-decode") for thread in threading.enumerate())


@pytest.mark.parametrize("batch_size", [1, 2, 7, 30, 31, 1000])
def test_the_answers_of_predict_in_order(model: Predictor, folder: Path, batch_size: int) -> None:
    paths = sorted(folder.iterdir())
    many = list(model.predict_many(paths, batch_size=batch_size, top=2))
    for path, answer in zip(paths, many, strict=True):
        alone = model.predict(path, top=2)
        assert answer.path == str(path)
        assert [c.label for c in answer.top] == [c.label for c in alone.top]
        assert answer.score == pytest.approx(alone.score, abs=1e-6)


def test_nothing_in_nothing_out(model: Predictor) -> None:
    assert list(model.predict_many([])) == []
    assert decoders() == 0


def test_each_bad_input_spoils_only_itself(model: Predictor, folder: Path) -> None:
    from test_images import png_of

    paths = sorted(folder.iterdir())
    bad = {3: folder / "corrupt.png", 11: folder / "huge.png", 17: folder / "empty.png", 23: folder / "missing.png", 29: folder}
    bad[3].write_bytes(paths[3].read_bytes()[:60])
    bad[11].write_bytes(png_of(50_000, MAX_PIXELS // 50_000 + 1))
    bad[17].write_bytes(b"")
    mixed = [bad.get(index, path) for index, path in enumerate(paths)]
    answers = list(model.predict_many(mixed, batch_size=4))
    assert len(answers) == 30
    for index, answer in enumerate(answers):
        assert answer.path == str(mixed[index])
        if index in bad:
            assert not answer.ok
            assert bad[index].name in (answer.error or "")
            assert answer.label is None
        else:
            assert answer.label == model.predict(paths[index]).label
    assert [
        ("truncated" in (answers[3].error or "")),
        ("too large" in (answers[11].error or "")),
        ("empty" in (answers[17].error or "")),
    ] == [True] * 3


def test_all_bad(model: Predictor) -> None:
    assert [a.ok for a in model.predict_many([b"x"] * 5, batch_size=2)] == [False] * 5


def test_it_reads_only_a_bounded_distance_ahead(model: Predictor) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        for index in itertools.count():
            taken += 1
            yield picture(index % 10)

    answers = model.predict_many(endless(), batch_size=16)
    assert taken == 0
    for _ in range(40):
        assert next(answers).ok
    assert taken <= 40 + 4 * 16
    answers.close()  # type: ignore[attr-defined]
    assert decoders() == 0


def test_an_error_of_the_source_comes_through_and_leaves_no_threads(model: Predictor) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield picture(0)
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="camera"):
        list(model.predict_many(broken()))
    assert decoders() == 0
    assert model.predict(picture(0)).ok


def test_a_fault_of_our_own_is_not_swallowed() -> None:
    def faulty(_item: object) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream([1, 2], faulty, lambda samples: [], 4, heavy=False))


def test_a_batch_ends_early_at_its_most_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole photographs, say: samples of 400 bytes and at most 1,000 bytes make batches of three, whatever `batch_size`."""
    monkeypatch.setattr(streams, "MAX_BATCH_BYTES", 1000)
    batches: list[int] = []

    def answer(samples: list[np.ndarray]) -> list[Prediction]:
        batches.append(len(samples))
        return [Prediction(label=str(int(sample[0]))) for sample in samples]

    def prepare(item: int) -> np.ndarray:
        if item == 4:
            raise InputError("not this one")
        return np.full(400, item % 256, np.uint8)

    for heavy in (False, True):
        batches.clear()
        found = list(streams.stream(range(11), prepare, answer, 64, heavy))
        assert batches == [3, 3, 3, 1]
        assert [answer.label for answer in found] == [None if item == 4 else str(item) for item in range(11)]


@pytest.mark.parametrize("batch_size", [0, -3, 1.5, True, 10**9])
def test_unusable_batch_sizes_are_refused_at_once(model: Predictor, batch_size: object) -> None:
    with pytest.raises(InputError, match="batch_size cannot be"):
        model.predict_many([], batch_size=batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 2 * LIGHT_SECONDS])
def test_ahead_is_map_with_threads(seconds: float) -> None:
    def square(x: int) -> int:
        time.sleep(seconds)
        return x * x

    for workers, alone, together in ((1, Pace(1, 1), Pace(1, 1)), (2, Pace(9, 1), Pace(3, 4)), (8, Pace(64, 1), Pace(100, 2))):
        assert list(ahead(range(57), square, workers, alone, together)) == [x * x for x in range(57)]


@pytest.mark.parametrize(("seconds", "several"), [(0.0, False), (5 * LIGHT_SECONDS, True)])
def test_light_items_stay_in_one_thread_and_heavy_ones_get_all(
    seconds: float, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`seconds` is what the clock says, however busy the machine is."""
    at_work, most, lock = 0, 0, threading.Lock()
    timed = streams._timed

    def by_another_clock(function: Callable[[int], None], part: list[int]) -> tuple[list[None], float]:
        return timed(function, part)[0], seconds

    monkeypatch.setattr(streams, "_timed", by_another_clock)

    def prepare(_item: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(seconds)
        with lock:
            at_work -= 1

    assert len(list(ahead(range(200), prepare, 4, Pace(16, 1), Pace(2, 8)))) == 200
    assert (most > 1) == several


def test_preparing_goes_on_while_the_network_works() -> None:
    """The network takes as long with the first batch as it takes until the second one has been prepared."""
    from deploykit.runtime.prediction import Prediction

    ahead_of_the_network = threading.Event()
    waited = []

    def prepare(item: int) -> np.ndarray:
        if item >= 8:
            ahead_of_the_network.set()
        return np.zeros(1)

    def answer(samples: list[np.ndarray]) -> list[Prediction]:
        waited.append(ahead_of_the_network.wait(60))
        return [Prediction() for _ in samples]

    assert len(list(stream(range(80), prepare, answer, 8, heavy=False))) == 80
    assert all(waited)


def memory_mb() -> float:
    gc.collect()
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.mark.slow
def test_memory_stays_flat_over_20000_images(model: Predictor, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    source = itertools.islice(itertools.cycle(paths), 20_000)
    answers = model.predict_many(source, batch_size=64)
    for _ in range(2000):
        next(answers)
    before = memory_mb()
    assert sum(answer.ok for answer in answers) == 18_000
    assert memory_mb() - before < 20


@pytest.mark.slow
def test_memory_stays_flat_over_50000_predictions(model: Predictor) -> None:
    pictures = [picture(k) for k in range(10)]
    for k in range(2000):
        model.predict(pictures[k % 10])
    before = memory_mb()
    for k in range(50_000):
        model.predict(pictures[k % 10])
    assert memory_mb() - before < 20


def test_memory_stays_flat_over_many_errors_and_loads(digits_file: Path) -> None:
    def load_and_fail() -> None:
        with Predictor(digits_file, device="cpu") as predictor:
            with pytest.raises(InputError):
                predictor.run(np.zeros((1, 2), np.float32))
            predictor.run(np.zeros((64, 1, 8, 8), np.float32))

    for _ in range(30):
        load_and_fail()
    before = memory_mb()
    for _ in range(150):
        load_and_fail()
    assert memory_mb() - before < 20

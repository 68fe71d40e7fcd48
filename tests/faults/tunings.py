"""Kill one tuning again and again: it must go on where it was, ask nothing twice, and never leave half a file."""

from __future__ import annotations

import json
import random
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from warm import Finished, Job, Warm

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NAME = "tuned.onnx"
RESULTS = (NAME, "tuned.tune.sh")


@dataclass
class Killed:
    """`answers`: how many the journal had after each kill; `finished`: runs that were faster than their kill."""

    answers: list[int] = field(default_factory=list)
    finished: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Scene:
    """A folder with a network, and the tuning of it that will be killed there."""

    def __init__(self, folder: Path, warm: Warm, seconds: float) -> None:
        self.folder, self.warm = folder, warm
        (folder / "tmp").mkdir()
        shutil.copy(Path(__file__).parents[2] / "trained" / "lenet5" / "model.onnx", folder / "model.onnx")
        self.args = ("tune", "model.onnx", "--data", "digits", "--seconds", f"{seconds:g}", "--out", NAME, "--format", "json")
        self.kept: dict[str, object] = {}

    def run(self, after: float | None = None, number: int = signal.SIGKILL) -> Finished:
        """The command, killed after so many seconds."""
        return self.warm.run(Job(self.args, str(self.folder), after, number, temporary=str(self.folder / "tmp")))[0]

    def look(self, result: Killed) -> None:
        """After a kill: the journal is whole and has lost nothing, every file beside it is whole, and there is no result yet."""
        work = self.folder / f"{NAME}.work"
        journal = work / "journal.json"
        answers = json.loads(journal.read_text())["answers"] if journal.is_file() else {}
        result.answers.append(len(answers))
        if changed := [question for question, answer in self.kept.items() if answers.get(question) != answer]:
            result.wrong.append(f"the answer to {changed[0]} was lost, or asked again")
        self.kept = answers
        for file in work.glob("*.onnx"):
            try:
                onnx.checker.check_model(onnx.load(file))
            except Exception as error:
                result.wrong.append(f"{file.name} is half a file: {error}")
        result.wrong += [f"{name} is there before the end" for name in RESULTS if (self.folder / name).exists()]

    def finish(self, done: Finished, result: Killed) -> None:
        """A run that came to its end: its result is whole, and nothing else is left."""
        left = sorted(path.name for path in self.folder.iterdir())
        if left != sorted(["model.onnx", "tmp", *RESULTS]):
            result.wrong.append(f"after the end there are {left}")
        elif json.loads(done.out)["file"] != NAME or not onnx.load(self.folder / NAME).graph.node:
            result.wrong.append("the result is not what was asked for")
        for name in RESULTS:
            (self.folder / name).unlink(missing_ok=True)
        self.kept = {}


def kill_tunings(count: int, folder: Path, warm: Warm, seed: int = 0, seconds: float = 60.0) -> Killed:
    """`count` kills at random moments of a tuning of `seconds`, each of which goes on where the last one was killed; then its end."""
    result, draw = Killed(), random.Random(seed)
    scene = Scene(folder, warm, seconds)
    for _ in range(count):
        number = draw.choice(SIGNALS)
        done = scene.run(draw.uniform(0.3, 0.4 * seconds), number)
        result.seconds += done.seconds
        if done.status == 0:
            result.finished += 1
            scene.finish(done, result)
            continue
        if done.status != (130 if number == signal.SIGINT else -number):
            result.wrong.append(f"exit status {done.status} after {signal.Signals(number).name}: {done.error[-300:]}")
        if done.orphans:
            result.wrong.append("a process that it started outlives it")
        if number == signal.SIGINT and done.error:
            result.wrong.append(f"Ctrl-C is not quiet: {done.error[-300:]}")
        scene.look(result)
    done = scene.run()
    result.seconds += done.seconds
    if done.status:
        result.wrong.append(f"it does not go on after the last kill: {done.error}")
    else:
        scene.finish(done, result)
    result.wrong += [f"{path.name} stays behind" for path in (folder / "tmp").glob(".deploykit-*")]
    return result

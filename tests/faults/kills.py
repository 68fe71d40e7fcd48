"""Kill commands at random moments, and look at what they leave: every file is the old one or the new one, nothing else stays."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from warm import Finished, Job, Warm

from deploykit.network.checkpoint import load_checkpoint, read_resume

TRAIN = ("train", "lenet5", "--epochs", "4", "--limit", "200", "--device", "cpu", "--quiet")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Result:
    """How the kills ended, by command; `wrong` says what should not have been."""

    killed: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Target:
    """A command in its two variants, the file that it writes, and what that file may hold: the digest by variant."""

    name: str
    variants: tuple[tuple[str, ...], tuple[str, ...]]
    output: str | None = None
    digests: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Scene:
    """A folder with two checkpoints, their exports and some images, and the commands that will be killed there."""

    def __init__(self, folder: Path, warm: Warm) -> None:
        self.folder, self.warm = folder, warm
        self.temporary = folder / "tmp"
        for name in ("tmp", "out", "digits"):
            (folder / name).mkdir()
        self._make_sources()
        both = [(f"{name}.safetensors", f"{name}.onnx") for name in "ab"]
        self.targets = [
            Target("export", tuple(("export", c, "--out", "out/model.onnx", "--quiet") for c, _ in both), "out/model.onnx"),  # type: ignore[arg-type]
            Target("simplify", tuple(("simplify", o, "--out", "out/simple.onnx", "--quiet") for _, o in both), "out/simple.onnx"),  # type: ignore[arg-type]
            Target("validate", tuple(("validate", o, "--against", c, "--quiet") for c, o in both)),  # type: ignore[arg-type]
            Target("predict", tuple(("predict", o, "digits", "--quiet") for _, o in both)),  # type: ignore[arg-type]
            Target(
                "profile",
                tuple(
                    (
                        "profile",
                        "a.onnx",
                        "--no-latency",
                        "--convention",
                        c,
                        "--format",
                        "json",
                        "--output",
                        "out/p.json",
                        "--quiet",
                    )
                    for c in ("macs", "flops")
                ),  # type: ignore[arg-type]
                "out/p.json",
            ),
        ]
        for target in self.targets:
            self._learn(target)
        done = self._run(*TRAIN, "--out", "whole")
        assert done.status == 0, done.error
        self.train_seconds = done.seconds
        self.whole = _digest(folder / "whole" / "model.safetensors")

    def _make_sources(self) -> None:
        from deploykit import datasets

        for name, seed in (("a", 1), ("b", 2)):
            done = self._run("train", "lenet5", "--epochs", "1", "--limit", "64", "--seed", seed, "--out", name, "--device", "cpu")
            assert done.status == 0, done.error
            shutil.move(self.folder / name / "model.safetensors", self.folder / f"{name}.safetensors")
            done = self._run("export", f"{name}.safetensors", "--out", f"{name}.onnx")
            assert done.status == 0, done.error
        for index, image in enumerate(datasets.load("digits").test.take(8).images()):
            image.save(self.folder / "digits" / f"{index}.png")

    def _learn(self, target: Target) -> None:
        """Let it run to its end in both variants: how long it takes, what it writes."""
        for variant in target.variants:
            done = self._run(*variant)
            assert done.status == 0, (variant, done.error)
            target.seconds = max(target.seconds, done.seconds)
            if target.output:
                target.digests.append(_digest(self.folder / target.output))
        self.before = self._digests()

    def _run(self, *args: object, after: float | None = None, number: int = signal.SIGKILL) -> Finished:
        job = Job(tuple(map(str, args)), str(self.folder), after, number, temporary=str(self.temporary))
        return self.warm.run(job)[0]

    def kill_command(self, rng: random.Random, result: Result) -> None:
        """Kill one of the commands once."""
        target = rng.choice(self.targets)
        variant, number = rng.randrange(2), rng.choice(SIGNALS)
        output = self.folder / target.output if target.output else None
        allowed = {_digest(output), target.digests[variant]} if output else set()
        done = self._run(*target.variants[variant], after=target.seconds * rng.uniform(0.0, 1.1), number=number)
        self._judge(target.name, done, number, result)
        if output and _digest(output) not in allowed:
            result.wrong.append(f"{target.name}: {target.output} is neither the old file nor the new one")
        if self._sources() != {name: digest for name, digest in self.before.items() if not name.startswith("out/")}:
            result.wrong.append(f"{target.name}: a file that it only reads was changed")

    def kill_training(self, rng: random.Random, result: Result) -> None:
        """Kill a training run once, which goes on where the last one was killed."""
        cut, number = self.folder / "cut", rng.choice(SIGNALS)
        resume = ["--resume"] if (cut / "resume.pt").exists() else []
        done = self._run(*TRAIN, "--out", "cut", *resume, after=self.train_seconds * rng.uniform(0.05, 1.1), number=number)
        self._judge("train", done, number, result)
        try:
            if (cut / "model.safetensors").exists():
                load_checkpoint(cut / "model.safetensors").build()
            if (cut / "resume.pt").exists():
                assert read_resume(cut / "resume.pt")["state"]["epoch"] >= 1
        except Exception as error:
            result.wrong.append(f"train: a file cannot be read: {error}")
        if done.status == 0:
            self.check_training(result)

    def check_training(self, result: Result) -> None:
        """A run that came to its end, however often it was killed, has the weights of one that was left alone."""
        if _digest(self.folder / "cut" / "model.safetensors") != self.whole:
            result.wrong.append("train: the weights are not those of an uninterrupted run")
        if stray := self._stray("cut"):
            result.wrong.append(f"train: {stray[0]} stays behind")
        shutil.rmtree(self.folder / "cut")

    def finish(self, result: Result) -> None:
        """Every command once more, to its end: then nothing of the killed ones is left."""
        resume = ["--resume"] if (self.folder / "cut" / "resume.pt").exists() else []
        done = self._run(*TRAIN, "--out", "cut", *resume)
        if done.status:
            result.wrong.append(f"train does not go on after the last kill: {done.error}")
        else:
            self.check_training(result)
        for target in self.targets:
            done = self._run(*target.variants[0])
            if done.status or (target.output and _digest(self.folder / target.output) != target.digests[0]):
                result.wrong.append(f"{target.name} does not work after the kills: {done.error}")
        # Nobody but profiling makes scratch folders, so profiling is who clears them away.
        for stray in (*self._stray("out"), *self._stray("."), *(p.name for p in self.temporary.glob(".deploykit-*"))):
            result.wrong.append(f"{stray} stays behind")

    def _judge(self, name: str, done: Finished, number: int, result: Result) -> None:
        expected = 130 if number == signal.SIGINT else -number
        if done.status == 0:
            result.finished[name] += 1
        elif done.status == expected:
            result.killed[name] += 1
        else:
            result.wrong.append(f"{name}: exit status {done.status} after {signal.Signals(number).name}: {done.error[-300:]}")
        if number == signal.SIGINT and done.error:
            result.wrong.append(f"{name}: Ctrl-C is not quiet: {done.error[-300:]}")
        if done.orphans:
            result.wrong.append(f"{name}: a process that it started outlives it")

    def _digests(self) -> dict[str, str]:
        places = [*self.folder.glob("*.*"), *self.folder.glob("out/*"), *self.folder.glob("digits/*")]
        return {str(path.relative_to(self.folder)): _digest(path) for path in sorted(places) if path.is_file()}

    def _sources(self) -> dict[str, str]:
        return {name: digest for name, digest in self._digests().items() if not name.startswith("out/")}

    def _stray(self, folder: str) -> list[str]:
        return [path.name for path in (self.folder / folder).glob(".*.tmp")]


def kill_many(count: int, folder: Path, warm: Warm, seed: int = 0) -> Result:
    """`count` kills, a third of them of training runs."""
    result, rng = Result(), random.Random(seed)
    scene = Scene(folder, warm)
    for index in range(count):
        scene.kill_training(rng, result) if index % 3 == 0 else scene.kill_command(rng, result)
    scene.finish(result)
    return result


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"

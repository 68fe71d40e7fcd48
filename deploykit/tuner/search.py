"""The search: which candidates are made and timed, in which order, until when; and which of them is proven and chosen.

1. Each kind of candidate proposes, is told what was measured, and proposes again (see `candidates`); all do so side by side, so
   that a short search has seen something of each. Candidates are timed beside the baseline; only those that are faster are compared
   on the samples of the selection, or those that take no time to ask.
2. The best few are timed once more, with what is left of the time: the interval that decides is one that nobody chose by.
3. Of these the best one whose proof will probably hold is asked about the samples of the proof, it alone and once; where the clock
   cannot tell it from others, the one that promises most (see `_promise`); where no proof will probably hold, the likeliest. If it
   fails, no other one is asked: the answer is float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deploykit.errors import DeploykitError, InputError
from deploykit.progress import Progress
from deploykit.tuner.bench import Instruments
from deploykit.tuner.candidates import Kind, Proposal, Steps, Task
from deploykit.tuner.result import Candidate, Goal, Measured, Timing
from deploykit.verdict.same_decisions import Judged

AT_ONCE = 4  # candidates that are timed beside the baseline in one go
SEARCHED = 0.62  # of the seconds: after that nothing new is begun, unless what is faster loses decisions
LEAST_SEARCHED = 0.5  # of the seconds: until then something new may be begun, whatever the proof will take
AGAIN = 0.12  # of the seconds, that are left for timing the best once more
ASIDE = 0.01  # of the seconds: what is not faster is asked for its answers if that takes no longer, for the picture
TIMED = 0.05  # of the seconds: how long one go may take
LEAST_TIMED = 1.0
FINALISTS = 3
OVERHEAD = 4.0  # seconds that a go takes beside what it is asked for: processes start, engines warm up


@dataclass(frozen=True)
class Found:
    """What the search has found. `proof`: the judgement on the proof's samples, `None` where nothing had to be proven."""

    baseline: Measured
    chosen: Measured
    candidates: tuple[Measured, ...]
    proof: Judged | None = None
    unproven: Measured | None = None
    cut: bool = False


def search(task: Task, kinds: Iterable[Kind], tools: Instruments, seconds: float, goal: Goal, progress: Progress) -> Found:
    """Make, time and choose among the candidates of all `kinds`. `seconds`: of the whole tuning, from the clock of `tools` on."""
    return _Search(task, tools, seconds, goal, progress).run(kinds)


class _Search:
    def __init__(self, task: Task, tools: Instruments, seconds: float, goal: Goal, progress: Progress) -> None:
        self.task, self.tools, self.seconds, self.goal, self.progress = task, tools, seconds, goal, progress
        self.measured: dict[str, Measured] = {}
        self.baseline = Measured(task.baseline, tools.size("fp32"), None, None, True, "the file as it is given, on onnxruntime")
        self.cut = False

    def run(self, kinds: Iterable[Kind]) -> Found:
        self._explore(kinds)
        winners = [entry for entry in self._timed_again(self._finalists()) if self._wins(entry)]
        free = next((entry for entry in winners if _needs_no_proof(entry)), None)
        faster = winners if free is None else winners[: winners.index(free)]
        chosen, proof, unproven = free or self.baseline, None, None
        asked = self._to_be_proven(faster)
        if asked is not None:
            proof = self.tools.judge(asked.candidate, "proof")
            proven = replace(asked, judged=proof, kept=proof.kept, proven=True, reason=proof.reason)
            self.measured[asked.candidate.name] = proven
            chosen, unproven = (proven, None) if proof.kept else (chosen, proven)
        return Found(self.baseline, chosen, (self.baseline, *self.measured.values()), proof, unproven, self.cut)

    def _finalists(self) -> list[Measured]:
        """The best few; where the proof of none of them will probably hold, the last one makes room for the best that is likely."""
        ordered = sorted((entry for entry in self.measured.values() if self._may_win(entry)), key=self._order)
        found = ordered[:FINALISTS]
        likely = next((entry for entry in ordered[FINALISTS:] if entry.likely), None)
        return found if likely is None or any(entry.likely for entry in found) else [*found[:-1], likely]

    def _to_be_proven(self, winners: Sequence[Measured]) -> Measured | None:
        """The one that the proof is asked of, see above; of those before it is said why they were passed over."""
        likely = [entry for entry in winners if entry.likely]
        asked = max(self._as_good_as_first(likely), key=_promise) if likely else max(winners, key=_chance, default=None)
        for entry in winners[: winners.index(asked)] if asked is not None else ():
            reason = f"{entry.reason}; a proof would hold with a chance of {100 * _chance(entry):.0f} % only"
            self.measured[entry.candidate.name] = replace(entry, reason=reason)
        return asked

    def _as_good_as_first(self, ordered: Sequence[Measured]) -> Sequence[Measured]:
        """Those that may be as fast as the first one, by their intervals. Sizes are known without."""
        fastest = ordered[0].timing.ratio if ordered[0].timing else 0.0
        as_fast = [entry for entry in ordered if entry.timing is not None and entry.timing.high >= fastest]
        return ordered[:1] if self.goal == "size" else as_fast

    def _explore(self, kinds: Iterable[Kind]) -> None:
        """All kinds step by step, side by side, until none has more to propose or the time is over."""
        active: dict[Steps, list[Measured] | None] = {kind.propose(self.task): None for kind in kinds}
        while active and not self._stops():
            proposed = {steps: self._next(steps, told) for steps, told in active.items()}
            asked = {steps: proposals for steps, proposals in proposed.items() if proposals is not None}
            self._measure([proposal for proposals in asked.values() for proposal in proposals])
            names = {steps: [proposal.candidate.name for proposal in proposals] for steps, proposals in asked.items()}
            active = {steps: [self.measured[name] for name in names[steps] if name in self.measured] for steps in asked}
        for steps in active:
            steps.close()

    def _next(self, steps: Steps, told: list[Measured] | None) -> list[Proposal] | None:
        """What a kind proposes next, `None` at its end. Why it cannot go on is a note."""
        try:
            return next(steps) if told is None else steps.send(told)
        except StopIteration:
            return None
        except InputError as error:
            self.task.notes.append(str(error))
            return None

    def _measure(self, proposals: Sequence[Proposal]) -> None:
        """Make and time what was not yet, on engines that were asked for; a few at once, as long as there is time."""
        new = list(
            {
                proposal.candidate.name: proposal
                for proposal in proposals
                if proposal.candidate.name not in self.measured and proposal.candidate.engine in self.task.engines
            }.values()
        )
        for begin in range(0, len(new), AT_ONCE):
            ready = [each.candidate for each in new[begin : begin + AT_ONCE] if not self._stops() and self._make(each)]
            if ready:
                self._time(ready)

    def _stops(self) -> bool:
        """Whether it is too late to begin anything; said in the result."""
        self.cut = self.cut or self.tools.late(self._latest())
        return self.cut

    def _make(self, proposal: Proposal) -> bool:
        """Whether the candidate's file is there. Why it cannot be made is a note."""
        if proposal.how is None:
            return True
        try:
            self.tools.make(proposal.candidate.build, proposal.how)
        except DeploykitError as error:
            if str(error) not in self.task.notes:
                self.task.notes.append(str(error))
            return False
        return True

    def _time(self, candidates: Sequence[Candidate]) -> None:
        self.progress.advance(0, note=", ".join(candidate.name for candidate in candidates))
        timings = self.tools.time(self.task.baseline, candidates, max(LEAST_TIMED, TIMED * self.seconds))
        self.baseline = replace(self.baseline, timing=timings[0])
        for candidate, timing in zip(candidates, timings[1:], strict=True):
            self.measured[candidate.name] = self._selected(candidate, timing)

    def _selected(self, candidate: Candidate, timing: Timing) -> Measured:
        """A candidate that was timed; where it may win, with its answers to the samples of the selection."""
        size = self.tools.size(candidate.build)
        if timing.ratio == 0:
            return Measured(candidate, size, None, None, False, f"cannot run on {candidate.engine}")
        asking = self._is_worth_asking(timing, size)
        if not asking and self.tools.answering("selection") > ASIDE * self.seconds * timing.ratio:
            return Measured(candidate, size, timing, None, False, "not faster")
        judged = self.tools.judge(candidate, "selection")
        if not asking:
            return Measured(candidate, size, timing, judged, False, "not faster")
        return Measured(candidate, size, timing, judged, judged.kept, judged.reason)

    def _is_worth_asking(self, timing: Timing, size: int) -> bool:
        if self.goal == "size":
            return size < self.baseline.bytes and timing.high >= 1
        return timing.ratio > 1

    def _latest(self) -> float:
        """When the last go may begin."""
        again = max(AGAIN * self.seconds, self.tools.going(FINALISTS))
        longer = max(0.0, self.tools.going(AT_ONCE) - TIMED * self.seconds)
        latest = self.seconds - again - self._proving() - longer
        if not self._lacks_decisions():
            latest = min(latest, SEARCHED * self.seconds - longer)
        return max(LEAST_SEARCHED * self.seconds, latest) - OVERHEAD

    def _lacks_decisions(self) -> bool:
        """Whether something is faster, but nothing that is may be chosen: then a more exact file is worth all the time there is."""
        faster = [entry for entry in self.measured.values() if entry.timing is not None and entry.timing.ratio > 1]
        return bool(faster) and not any(entry.kept for entry in faster)

    def _proving(self) -> float:
        """The seconds of the proof: the answers of the given file, and of one that is faster."""
        return 1.5 * self.tools.answering("proof")

    def _may_win(self, entry: Measured) -> bool:
        return entry.kept and entry.timing is not None

    def _order(self, entry: Measured) -> tuple[float, float]:
        """The best first: by time, or by size and then by time."""
        ratio = entry.timing.ratio if entry.timing else 0.0
        return (float(entry.bytes), -ratio) if self.goal == "size" else (-ratio, float(entry.bytes))

    def _timed_again(self, finalists: Sequence[Measured]) -> list[Measured]:
        if not finalists:
            return []
        left = self.seconds - self.tools.now() - OVERHEAD - self._proving()
        self.progress.advance(0, note="the best ones once more")
        names = replace(self.task.baseline, name=f"{self.task.baseline.name}, once more")
        timings = self.tools.time(names, [entry.candidate for entry in finalists], max(LEAST_TIMED, left * 0.6))
        self.baseline = replace(self.baseline, timing=timings[0])
        found = [replace(entry, timing=timing) for entry, timing in zip(finalists, timings[1:], strict=True)]
        self.measured |= {entry.candidate.name: entry for entry in found}
        return sorted(found, key=self._order)

    def _wins(self, entry: Measured) -> bool:
        """Whether its interval excludes that the baseline is as fast; of a smaller file, that the baseline is faster."""
        if entry.timing is None or entry.timing.ratio == 0:
            return False
        if self.goal == "size":
            return entry.timing.high >= 1 and entry.bytes < self.baseline.bytes
        won = entry.timing.low > 1
        if not won:
            lost = replace(entry, kept=False, reason="no faster than the file as it is, timed once more")
            self.measured[entry.candidate.name] = lost
        return won


def _needs_no_proof(entry: Measured) -> bool:
    return entry.candidate.is_float and entry.judged is not None and entry.judged.same


def _chance(entry: Measured) -> float:
    """How likely its proof will hold, as far as the samples of the selection tell."""
    return 1.0 if entry.judged is None or entry.judged.chance is None else entry.judged.chance


def _promise(entry: Measured) -> float:
    """What a proof may be expected to bring: the chance that it holds, times the logarithm of how many times as fast it is."""
    return _chance(entry) * math.log(max(1.0, entry.timing.ratio)) if entry.timing else 0.0

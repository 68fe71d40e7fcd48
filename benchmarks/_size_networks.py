"""Small networks that branch on the size of their input, made at random: what a verdict on open sizes must not be fooled by."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Condition = Callable[[int, int, int], bool]


class Branching(nn.Module):
    """`then` where the condition on batch, height and width holds, `otherwise` where it does not."""

    def __init__(self, condition: Condition, then: nn.Module, otherwise: nn.Module, words: str) -> None:
        super().__init__()
        self.condition, self.then, self.otherwise, self.words = condition, then, otherwise, words

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        if self.condition(batch, height, width):
            return self.then(x)
        return self.otherwise(x)


class Looping(nn.Module):
    """As many rounds as the height holds `step` rows."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.words = step, f"for _ in range(h // {step})"

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(x.shape[2] // self.step):
            y = y + 0.1 * x
        return y


class Apply(nn.Module):
    """One operation that keeps the shape."""

    def __init__(self, words: str, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.words, self.operation = words, operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x)


OPERATIONS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("x * 2", lambda x: x * 2),
    ("x + 1", lambda x: x + 1),
    ("flip", lambda x: x.flip(-1)),
    ("pad and crop", lambda x: F.pad(x, (1, 0, 1, 0))[..., : x.shape[2], : x.shape[3]]),
    ("minus its mean", lambda x: x - x.mean((2, 3), keepdim=True)),
    ("area and back", lambda x: F.interpolate(F.avg_pool2d(x, 2, ceil_mode=True), size=x.shape[-2:])),
    ("relu", lambda x: x.relu()),
    ("roll", lambda x: torch.cat([x[:, 1:], x[:, :1]], 1)),
)


def network(seed: int) -> Branching | Looping:
    """A network in eval mode; equal seeds give equal ones. `words` says what it asks for."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    if chance.random() < 0.1:
        return Looping(chance.choice([2, 3, 4, 5, 8])).eval()
    return _branch(chance, 1 if chance.random() < 0.35 else 0).eval()


def _branch(chance: random.Random, depth: int) -> Branching:
    condition, words = _condition(chance)
    then, otherwise = _side(chance, depth), _side(chance, depth)
    if chance.random() < 0.15:
        otherwise = then  # asks, and does the same: a right file
    return Branching(condition, then, otherwise, f"{words} ? {then.words} : {otherwise.words}")


def _side(chance: random.Random, depth: int) -> Branching | Apply:
    if depth and chance.random() < 0.6:
        return _branch(chance, depth - 1)
    return Apply(*chance.choice(OPERATIONS))


def _condition(chance: random.Random) -> tuple[Condition, str]:
    """A question about sizes; the numbers lie where a network of small images could have them."""
    k, t = chance.choice([2, 3, 4, 5, 7, 8, 16]), chance.randrange(3, 90)
    r, area = chance.randrange(k), chance.randrange(20, 4000)
    some = chance.choice([2, 3, 4, 6, 9, 17])
    alone, other, many = chance.randrange(100, 400), chance.randrange(3, 90), chance.choice([64, 100, 128])
    kinds: list[tuple[Condition, str]] = [
        (lambda b, h, w: h % k == r, f"h % {k} == {r}"),
        (lambda b, h, w: w % k != r, f"w % {k} != {r}"),
        (lambda b, h, w: (h + w) % k == r, f"(h + w) % {k} == {r}"),
        (lambda b, h, w: h > t, f"h > {t}"),
        (lambda b, h, w: w <= t, f"w <= {t}"),
        (lambda b, h, w: h > w, "h > w"),
        (lambda b, h, w: h * 2 >= w * 3, "2 h >= 3 w"),
        (lambda b, h, w: h == w, "h == w"),
        (lambda b, h, w: h * w > area, f"h * w > {area}"),
        (lambda b, h, w: b % some == 0, f"b % {some} == 0"),
        (lambda b, h, w: b > some, f"b > {some}"),
        (lambda b, h, w: b == some, f"b == {some}"),
        (lambda b, h, w: b * h > t, f"b * h > {t}"),
        (lambda b, h, w: h // k == r + 1, f"h // {k} == {r + 1}"),
        (lambda b, h, w: max(h, w) > t, f"max(h, w) > {t}"),
        (lambda b, h, w: h == alone, f"h == {alone}"),
        (lambda b, h, w: w in (alone, 2 * alone), f"w in ({alone}, {2 * alone})"),
        (lambda b, h, w: h % alone == 0, f"h % {alone} == 0"),
        (lambda b, h, w: b % many == 0, f"b % {many} == 0"),
        (lambda b, h, w: b == many, f"b == {many}"),
        (lambda b, h, w: (2 if h > t else 1) * (2 if w > other else 1) == 4, f"(h > {t}) * (w > {other})"),
        (lambda b, h, w: (2 if h > t else 1) * (2 if b > some else 1) == 4, f"(h > {t}) * (b > {some})"),
    ]
    first = chance.choice(kinds)
    if chance.random() < 0.2:
        second = chance.choice(kinds)
        if chance.random() < 0.5:
            return (lambda b, h, w: first[0](b, h, w) and second[0](b, h, w)), f"({first[1]} and {second[1]})"
        return (lambda b, h, w: first[0](b, h, w) or second[0](b, h, w)), f"({first[1]} or {second[1]})"
    return first

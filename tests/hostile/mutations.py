"""How a good file becomes a bad one: at random places in its bytes, or at random fields of a protobuf message or a JSON document.

Every function takes the random numbers that it needs, so that a case can be made again from its seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

EXTREMES = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**31),
    -(2**63),
)
TEXTS = (
    "",
    "x",
    "..",
    "../x",
    "/etc/passwd",
    "a\0b",
    "\x1b[2J",
    "é" * 40,
    "\u202e",
    "A" * 5000,
    "input",
    "logits",
    "%s%n",
    "{}",
    "0" * 400,
)


def mutate_bytes(data: bytes, rng: random.Random, head: int = 256) -> bytes:
    """One to four changes; half of them within the first `head` bytes, where headers lie."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = rng.choice(_BYTES)(found, rng, head)
    return bytes(found)


def _place(data: bytearray, rng: random.Random, head: int) -> int:
    return rng.randrange(min(len(data), head) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytearray, rng: random.Random, head: int) -> bytearray:
    if data:
        data[_place(data, rng, head)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random, head: int) -> bytearray:
    place, width = _place(data, rng, head), rng.choice((1, 2, 4, 8))
    value = rng.choice(EXTREMES) % (1 << (8 * width))
    data[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return data


def _truncate(data: bytearray, rng: random.Random, head: int) -> bytearray:
    return data[: _place(data, rng, head)]


def _delete(data: bytearray, rng: random.Random, head: int) -> bytearray:
    place = _place(data, rng, head)
    del data[place : place + rng.choice((1, 1, 4, 64))]
    return data


def _insert(data: bytearray, rng: random.Random, head: int) -> bytearray:
    place = _place(data, rng, head)
    data[place:place] = rng.randbytes(rng.choice((1, 2, 8, 300)))
    return data


def _repeat(data: bytearray, rng: random.Random, head: int) -> bytearray:
    place = _place(data, rng, head)
    data[place:place] = data[place : place + rng.choice((1, 8, 100))] * rng.choice((1, 3, 50))
    return data


def _move(data: bytearray, rng: random.Random, head: int) -> bytearray:
    a, b, size = _place(data, rng, head), _place(data, rng, head), rng.choice((1, 4, 32))
    data[b : b + size] = data[a : a + size]
    return data


_BYTES: tuple[Callable[[bytearray, random.Random, int], bytearray], ...] = (
    _flip, _flip, _overwrite, _overwrite, _truncate, _delete, _insert, _repeat, _move,
)  # fmt: skip


def mutate_message(message: Any, rng: random.Random) -> None:
    """Change a protobuf message in one to three places: numbers become extreme, parts vanish, are doubled, change places."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        owner, field = rng.choice(list(_fields(message)))
        if field.is_repeated:
            _change_list(getattr(owner, field.name), field, rng)
        elif field.type == field.TYPE_MESSAGE:
            owner.ClearField(field.name) if rng.random() < 0.7 else getattr(owner, field.name).SetInParent()
        elif rng.random() < 0.1:
            owner.ClearField(field.name)
        else:
            setattr(owner, field.name, _value(getattr(owner, field.name), field, rng))


def _fields(message: Any) -> Any:
    """Every field that is set, with its message; and a few that are not."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                yield from _fields(part)


def _change_list(values: Any, field: Any, rng: random.Random) -> None:
    place = rng.randrange(len(values))
    action = rng.random()
    if action < 0.3:
        del values[place]
    elif field.type == field.TYPE_MESSAGE:
        if action < 0.6:
            values.add().CopyFrom(values[place])
        else:
            values[place].CopyFrom(values[rng.randrange(len(values))])
    elif action < 0.5:
        values.append(values[place])
    else:
        values[place] = _value(values[place], field, rng)


def _value(old: Any, field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice((*TEXTS, old[:-1], old + "x"))
    if field.type == field.TYPE_BYTES:
        return mutate_bytes(old, rng) if old else rng.randbytes(8)
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf"), -float("inf")))
    if field.type == field.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    low, high = (-(2**31), 2**31 - 1) if field.type == field.TYPE_INT32 else (-(2**63), 2**63 - 1)
    if field.type == field.TYPE_UINT64:
        low, high = 0, 2**64 - 1
    return min(high, max(low, rng.choice((*EXTREMES, old + 1, old - 1, 3 * old))))


def mutate_json(document: Any, rng: random.Random) -> Any:
    """Change one value anywhere in a JSON document, or drop or add a key."""
    if isinstance(document, dict) and document and rng.random() < 0.8:
        key, found = rng.choice(sorted(document)), dict(document)
        if rng.random() < 0.2:
            del found[key]
        elif rng.random() < 0.1:
            found[rng.choice(TEXTS)] = found[key]
        else:
            found[key] = mutate_json(document[key], rng)
        return found
    if isinstance(document, list) and document and rng.random() < 0.7:
        items = list(document)
        place = rng.randrange(len(items))
        items[place] = mutate_json(items[place], rng)
        return items
    return rng.choice(
        (*EXTREMES, *TEXTS, None, True, False, [], {}, [[]], 1e308, -0.5, 10**400, [0] * 1000, {"kind": "image"}, "\ud800")
    )

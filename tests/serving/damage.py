"""Bodies of requests with a few bytes changed at random, for the tests and for benchmarks/serving_faults.py."""

from __future__ import annotations

import random


def mutated(random_: random.Random, body: bytes) -> bytes:
    """The body with a few bytes exchanged, dropped, doubled or put in."""
    data = bytearray(body)
    for _ in range(random_.randint(1, 6)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(4)
        if kind == 0 and at < len(data):
            data[at] = random_.randrange(256)
        elif kind == 1:
            del data[at : at + random_.randint(1, 9)]
        elif kind == 2:
            data[at:at] = random_.choice([b"[", b"{", b'"', b"-", b"0", b"e999", b"null", b"\xff", b"\\", b"9" * 40])
        else:
            data[at:at] = data[at : at + random_.randint(1, 30)]
    return bytes(data)

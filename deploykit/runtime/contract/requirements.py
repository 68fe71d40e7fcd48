"""What every value of a contract is asked: is it a whole number, a finite one, a text that can be written?"""

from __future__ import annotations

import math

from deploykit.errors import ContractError


def require(holds: bool, what: str, value: object) -> None:
    """Raise `ContractError` where it does not hold: "the contract's `what` cannot be `value`"."""
    if not holds:
        raise ContractError(f"the contract's {what} cannot be {short(value)}")


def short(value: object) -> str:
    """A value for a message, at most 60 characters."""
    text = repr(value[:4] if isinstance(value, (tuple, list)) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_int(value: object) -> bool:
    """A whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def is_text(value: object, longest: int = 1000) -> bool:
    """A text that can be written: JSON can smuggle in halves of surrogate pairs."""
    try:
        return isinstance(value, str) and len(value) <= longest and value.encode() is not None
    except UnicodeEncodeError:
        return False

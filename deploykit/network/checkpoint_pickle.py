"""What the pickle inside a PyTorch file asks for, read from its opcodes alone: nothing in it is looked up, built or called.

A file that ``weights_only=True`` refuses is refused here by the name of what it holds, with the line that saves its weights anew.

NumPy's scalars stay among what is refused, although torch could be told to let them in: a dtype takes its flags from the file
(`numpy.dtype.__setstate__`), and with lying flags the scalar's bytes are followed as a pointer. torch's list of what is let in
would hold for every thread of the process, too.
"""

from __future__ import annotations

import contextlib
import io
import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.errors import CheckpointError

MAX_BYTES = 16 << 20  # read of a pickle that is no record of an archive
MAX_OPCODES = 2_000_000
MAX_GLOBALS = 200  # names that are remembered
NAMED = 5  # of them in a message
STREAMS = 5  # pickles in a row, in the format before PyTorch 1.6; the fourth is the content

# Where weights usually lie. Of two that fit a network the former is taken, and what is averaged comes last.
KEYS = (
    "state_dict", "model_state_dict", "model", "model_state", "net", "network", "module", "generator", "params", "weights", "state",
    "params_ema", "model_ema", "ema",
)  # fmt: skip

MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the number that torch.save wrote first before PyTorch 1.6
_ORDINARY = re.compile(
    r"torch\._utils\._rebuild\w+|torch\._tensor\.\w+|torch\.(storage\.)?\w*(Storage|Tensor)|torch\.nn\.(parameter\.)?\w*Parameter"
    r"|torch\.(Size|device|bool|uint\d+|int\d+|b?float\w+|complex\w+|q\w+)|torch\.serialization\._get_layout"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|(__builtin__|builtins)\.(set|bytearray)"
)
_RUNS_CODE = re.compile(
    r"(os|posix|nt|sys|subprocess|runpy|importlib|imp|shutil|socket|ctypes|code|codeop|pty|pdb|bdb|timeit|trace|profile|cProfile"
    r"|webbrowser|marshal|pickle|_pickle|types|multiprocessing|asyncio|urllib|http|ftplib|smtplib|requests|pip|torch\.hub"
    r"|commands|platform|threading|signal|tempfile|dill|cloudpickle|joblib)\..*"
    r"|(__builtin__|builtins)\.(eval|exec|execfile|compile|open|input|apply|getattr|setattr|delattr|vars|globals|locals|breakpoint"
    r"|__import__)|torch\.(load|jit\..*)|numpy\.(load|testing\..*)|\?"
)
_PLAIN_NAME = re.compile(r"[\w./+\- ]+")


@dataclass(frozen=True)
class Asked:
    """`names`: the globals of a pickle, in its order, "?" for one whose name is made up on the way.

    `key`: the one of `KEYS` under which, furthest out, a dict or, `object_under_key`, an object of another class begins.
    `protocol`: of pickle.
    """

    names: tuple[str, ...]
    key: str | None = None
    object_under_key: bool = False
    protocol: int = 0

    @property
    def foreign(self) -> tuple[str, ...]:
        """What is no part of tensors in dicts."""
        return tuple(name for name in self.names if not _ORDINARY.fullmatch(name))

    @property
    def runs_code(self) -> tuple[str, ...]:
        """What nobody needs who saves weights, settings or a module."""
        return tuple(name for name in self.foreign if _RUNS_CODE.fullmatch(name))


def asked_by(path: Path) -> Asked:
    """What the pickle of a PyTorch file asks for; nothing where it cannot be read."""
    data = _content(path)
    stream = io.BytesIO(data)
    found, whole = _scan(stream)
    for _ in range(STREAMS - 1):
        if not whole or MAGIC not in data[:32]:
            break
        one, whole = _scan(stream)
        found = Asked(
            tuple(dict.fromkeys((*found.names, *one.names))),
            found.key or one.key,
            found.object_under_key or (found.key is None and one.object_under_key),
            max(found.protocol, one.protocol),
        )
    return found


def refusal(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that torch refused with `error`: the name of what it holds, and how its weights are saved anew."""
    asked = asked_by(path)
    if asked.runs_code:
        return CheckpointError(
            f"{path} was refused: it wants to run code ({_listed(asked.runs_code)}); only tensors are read",
            "save model.state_dict() with torch.save or safetensors",
        )
    if asked.foreign:
        return CheckpointError(
            f"{path} was refused: beside tensors it holds objects of {_listed(asked.foreign)}, and only tensors are read",
            f"if you trust it, save its weights anew where these can be imported: {_saving(path, asked)}",
        )
    if asked.protocol > 2 and asked.names:
        return CheckpointError(
            f"{path} was refused: it is a pickle of protocol {asked.protocol}, and only that of torch.save, 2, is read safely",
            f"if you trust it, save its weights anew: {_saving(path, asked)}",
        )
    kind = type(error).__name__
    return CheckpointError(f"{path} cannot be read as a PyTorch checkpoint ({kind}): it is damaged", "is the file whole?")


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:80] for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _saving(path: Path, asked: Asked) -> str:
    """The line that writes the weights alone, as far as the opcodes tell where they lie."""
    file = str(path) if _PLAIN_NAME.fullmatch(str(path)) else "FILE"
    plain = _is_plain(path)
    content = f"pickle.load(open('{file}', 'rb'))" if plain else f"torch.load('{file}', map_location='cpu', weights_only=False)"
    module = any(name.startswith("torch.nn.modules.") for name in asked.foreign)
    if asked.key is not None:
        weights = f"{content}['{asked.key}']" + (".state_dict()" if asked.object_under_key else "")
    elif module:
        weights = f"{content}.state_dict()"
    elif plain:
        weights = f"{{k: torch.as_tensor(v) for k, v in {content}.items()}}"
    else:
        weights = f"{{k: v for k, v in {content}.items() if torch.is_tensor(v)}}"
    return f"python -c \"import {'pickle, ' if plain else ''}torch; torch.save({weights}, 'weights.pth')\""


def _is_plain(path: Path) -> bool:
    """Whether it is a pickle that `torch.save` did not write."""
    with path.open("rb") as stream:
        head = stream.read(32)
    return not head.startswith(b"PK\3\4") and MAGIC not in head


def _content(path: Path) -> bytes:
    """The pickle: the record of an archive (`checkpoint_guard` has bounded it), else the file's beginning."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if name is None:
                return b""
            with archive.open(name) as record:
                return record.read(MAX_BYTES)
    except Exception:  # no archive, or a damaged one: there are many ways
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES)


def _scan(stream: io.BytesIO) -> tuple[Asked, bool]:
    """What one pickle asks for up to its end, or to where it is damaged; and whether it is whole."""
    scanner = _Scanner()
    with contextlib.suppress(Exception):  # a damaged pickle ends here; what was asked for before it is known
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number > MAX_OPCODES or len(scanner.names) > MAX_GLOBALS:
                break
            scanner.see(opcode, argument)
            if opcode.name == "STOP":
                return scanner.asked(), True
    return scanner.asked(), False


class _Scanner:
    """Follows the values that opcodes push, as far as they matter: a text, a `_Global`, an empty dict, `None` for all others."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.memo: dict[int, Any] = {}
        self.recent: list[Any] = [None] * 3
        self.key: str | None = None
        self.object_under_key = False
        self.place = (1 << 30, 0)  # of the key: how many containers are open around it, and its rank in `KEYS`
        self.open = 0
        self.protocol = 0

    def see(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """One opcode."""
        self.open += (opcode.name == "MARK") - (pickletools.markobject in opcode.stack_before)
        if opcode.name == "PROTO":
            self.protocol = int(argument)
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else int(argument)] = self.recent[-1]
        elif opcode.stack_after:
            self._push(self._value(opcode.name, argument))

    def asked(self) -> Asked:
        """What was asked for so far."""
        return Asked(tuple(self.names), self.key, self.object_under_key, self.protocol)

    def _value(self, name: str, argument: Any) -> Any:
        if name in ("GET", "BINGET", "LONG_BINGET"):
            return self.memo.get(int(argument))
        if name in ("GLOBAL", "INST"):
            return _Global(".".join(argument.split(" ", 1)))
        if name == "STACK_GLOBAL":
            parts = [part if isinstance(part, str) else "" for part in self.recent[-2:]]
            self.recent = [None, None, *self.recent[:-2]]
            return _Global(".".join(parts) if all(parts) else "?")
        if name.startswith("EXT"):
            return _Global("?")
        if name == "EMPTY_DICT":
            return {}
        return argument if "UNICODE" in name else None

    def _push(self, value: Any) -> None:
        if isinstance(value, _Global):
            self.names[value.name] = None
        key = self.recent[-1]
        if isinstance(value, (_Global, dict)) and isinstance(key, str) and key in KEYS:
            place = (self.open, KEYS.index(key))
            if place < self.place:
                self.key, self.place = key, place
                self.object_under_key = isinstance(value, _Global) and not _ORDINARY.fullmatch(value.name)
        self.recent = [*self.recent[-2:], value]


@dataclass(frozen=True)
class _Global:
    name: str

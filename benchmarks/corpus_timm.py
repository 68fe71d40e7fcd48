"""timm's architectures with random weights: is deploykit's word on each exported file right?

    pip install timm
    python benchmarks/corpus_timm.py --resume timm.jsonl     # some hours on two cores; stop it and go on at will
    python benchmarks/corpus_timm.py --only '^(test_resnet|mobilevit_xxs)'
    python benchmarks/corpus_timm.py --measure               # after a new timm: which are the smallest of each family

A family is a module of timm.models. The smallest network of each comes first, by parameters, then the second smallest. Each is
exported with an open batch; the smallest of the 40 smallest families also with open sides, as NAME/sides. Every file, also a
rejected one, is run in plain onnxruntime beside PyTorch at batches and sizes that the verdict does not use.

Expected: no wrong file is called same, and at most 2 % of the right ones are refused.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from functools import partial
from pathlib import Path

import timm
import torch
from _corpora import Row, finish, parser, rows_of
from _networks import Case, Size, ask, liven, report
from timm.models import model_entrypoint
from torch import Tensor, nn

SMALLEST = Path(__file__).parent / "timm_smallest.json"
LARGEST = 30_000_000  # parameters: a larger one takes some ten minutes of a core, and there are enough smaller ones
ARCHITECTURES = 122
WITH_SIDES = 40  # families
SIDES = "/sides"
OTHER_SIDES = ((97, 131), (163, 101), (160, 224), (224, 96))  # PyTorch refuses some: the others are tried


def case_of(name: str) -> Case:
    """A row's name -> what is asked: with open sides after ``/sides``."""
    architecture = name.removesuffix(SIDES)
    channels, height, width = timm.get_pretrained_cfg(architecture, allow_unregistered=True).input_size
    own = (height, width)
    if not name.endswith(SIDES):
        others: tuple[tuple[int, Size], ...] = ((7, own), (3, own))
        dynamic: tuple[str, ...] = ("batch",)
    else:
        others = tuple((3, sides) for sides in OTHER_SIDES)
        dynamic = ("batch", "height", "width")
    return Case(name, family(architecture), partial(_built, architecture), partial(_image, channels), (2, own), others, dynamic)


def network(name: str) -> nn.Module:
    """What deploykit is asked to export: ``corpus_timm:network`` with a row's name."""
    return case_of(name).network()


def family(architecture: str) -> str:
    """The module of timm.models that it is from."""
    return model_entrypoint(architecture).__module__.rpartition(".")[2]


def row(name: str) -> Row:
    """Everything about one network, in this process."""
    return ask(case_of(name), "corpus_timm:network")


def names(architectures: int) -> list[str]:
    """Rows in their order: smallest of each family, second smallest, ...; those with open sides after the plain ones."""
    families = json.loads(SMALLEST.read_text()).values()
    small = [[name for name, size in members.items() if size <= LARGEST] for members in families]
    sizes = {name: size for members in families for name, size in members.items()}
    ranks = [sorted(filter(None, rank), key=sizes.__getitem__) for rank in itertools.zip_longest(*small)]
    return list(itertools.chain(*ranks))[:architectures] + [name + SIDES for name in ranks[0][:WITH_SIDES]]


def measure() -> None:
    """Build all of timm without weights and write the three smallest of each family."""
    families: dict[str, dict[str, int]] = {}
    for name in timm.list_models():
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            built = timm.create_model(name)
        families.setdefault(family(name), {})[name] = sum(parameter.numel() for parameter in built.parameters())
    lines = []
    for each, members in sorted(families.items()):
        smallest = dict(sorted(members.items(), key=lambda item: (item[1], item[0]))[:3])
        lines.append(f" {json.dumps(each)}: {json.dumps(smallest)}")
    SMALLEST.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _built(architecture: str) -> nn.Module:
    return liven(timm.create_model(architecture, pretrained=False))


def _image(channels: int, batch: int, size: Size) -> dict[str, Tensor]:
    return {"x": torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(batch))}


def options() -> argparse.ArgumentParser:
    """The common ones and this corpus' own."""
    made = parser(__doc__)
    made.add_argument("--architectures", type=int, default=ARCHITECTURES, metavar="N", help=f"how many; {ARCHITECTURES} by default")
    made.add_argument("--measure", action="store_true", help=f"write {SMALLEST.name} and nothing else")
    return made


def main() -> int:
    """Ask all, print, judge."""
    asked = options().parse_args()
    if asked.measure:
        measure()
        return 0
    groups = {name: family(name.removesuffix(SIDES)) for name in names(asked.architectures)}
    rows = rows_of(groups, row, asked)
    return finish("corpus_timm", report("timm with random weights", rows), asked)


if __name__ == "__main__":
    sys.exit(main())

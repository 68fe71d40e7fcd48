"""What a file must not be asked: numbers with which an operator, here or in PyTorch, reads beyond its memory or never ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploykit.onnx_file import walk
from deploykit.verdict import file_constants, file_sizes
from deploykit.verdict.deployed import Deployed

# Places of pixels that are computed: torchvision's kernel of deformable convolution reads at NaN, and that of regions takes as many
# samples as a region is large.
PLACING = frozenset({"DeformConv", "RoiAlign", "MaxRoiPool"})
# Whose sign of NaN is nobody's word: PyTorch gives 0, onnxruntime NaN, and ONNX says nothing.
UNDEFINED_AT_NAN = frozenset({"Sign"})
SORTING = frozenset({"TopK"})  # where NaN sorts is nobody's word either, and infinities become NaN on the way
# Operators that make something as large as a number says, and the inputs that say it.
MAKING: Mapping[str, tuple[int, ...]] = {
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "OneHot": (1,),
    "Loop": (0,),
}
# Operators that divide by a number that is given to them: onnxruntime ends the process where it is 0.
STEPPING: Mapping[str, tuple[int, ...]] = {"STFT": (1, 3)}


@dataclass(frozen=True)
class Limits:
    """Whether an input may hold NaN, an infinity, finite numbers far larger than usual, and whole numbers of all sizes."""

    nan: bool = True
    infinity: bool = True
    far: bool = True
    whole: bool = True


ALL = Limits()


def limits(deployed: Deployed) -> Limits:
    """What a file, and the network that it is to be, may be asked."""
    if deployed.operators & PLACING:
        return Limits(False, False, False)
    is_far = not _is_computed(deployed, MAKING)
    sorts = bool(deployed.operators & SORTING)
    is_whole = not _is_computed(deployed, STEPPING)
    return Limits(not sorts and not deployed.operators & UNDEFINED_AT_NAN, is_far and not sorts, is_far, is_whole)


def _is_computed(deployed: Deployed, kinds: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether such an operator, at one of these inputs, takes what is neither stored nor a size: something that values decide."""
    known = file_sizes.sizes_in(deployed) | file_constants.small(deployed).keys()
    known |= {tensor.name for graph in walk.graphs(deployed.model) for tensor in graph.initializer}
    for node in walk.nodes(deployed.model):
        places = kinds.get(node.op_type, ())
        if any(place < len(node.input) and node.input[place] and node.input[place] not in known for place in places):
            return True
    return False

"""torchvision's segmentation, detection, video and flow networks, and small ones of transformers: is deploykit's word right?

    pip install transformers
    python benchmarks/corpus_networks.py --resume networks.jsonl
    python benchmarks/corpus_networks.py --only '^(bert|lraspp)'

All have random weights. Networks of transformers have small configurations and stand in a wrapper with `example_inputs`, as a user
would write it: ids below the vocabulary, masks that hide the end of some samples. Every file, also a rejected one, is run in plain
onnxruntime beside PyTorch at batches and sizes that the verdict does not use. Detectors, whose forward pass takes a list of
images, are exported with one image of fixed size.

Expected: no wrong file is called same, and at most 2 % of the right ones are refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # transformers is not to look for anything elsewhere

import torch
import transformers
from _corpora import Row, finish, parser, rows_of
from _networks import Case, Size, ask, liven, report
from torch import Tensor, nn
from torchvision import models
from transformers.models.whisper.modeling_whisper import WhisperEncoder

VOCABULARY = 97
LENGTHS: Sequence[tuple[int, Size]] = ((7, (13,)), (3, (29,)), (1, (7,)), (4, (16,)))
TEXT = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
SPEECH = {**{key: TEXT[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")},
          "conv_dim": (32, 32), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2,
          "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}  # fmt: skip
OPEN_IMAGE = ("batch", "height", "width")


class Text(nn.Module):
    """A language model that takes ids and their mask, both (batch, length), and gives its last states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """-> (batch, length, width)."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class First(nn.Module):
    """A network of transformers that takes one tensor, called `key`, and gives the first of its outputs."""

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model = model
        self.key = key

    def forward(self, values: Tensor) -> Tensor:
        """-> its first tensor."""
        return self.model(**{self.key: values}).to_tuple()[0]


class Detector(nn.Module):
    """A detector of torchvision for one image: (1, 3, height, width) -> its boxes, labels and scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """-> what torchvision gives for an image."""
        found: dict[str, Tensor] = self.model([images[0]])[0]
        return found


def _generator(batch: int) -> torch.Generator:
    return torch.Generator().manual_seed(batch)


def ids(batch: int, size: Size, mask: bool = True) -> dict[str, Tensor]:
    """Token ids of (batch, length), never that of the padding, and a mask that leaves out the end of every second sample."""
    tokens = torch.randint(3, VOCABULARY, (batch, *size), generator=_generator(batch))
    if not mask:
        return {"values": tokens}
    kept = torch.ones_like(tokens)
    kept[1::2, -2:] = 0
    return {"input_ids": tokens, "attention_mask": kept}


def values(batch: int, size: Size, channels: int = 3, name: str = "values") -> dict[str, Tensor]:
    """Noise of (batch, channels, *size); without channels where that is 0."""
    shape = (batch, channels, *size) if channels else (batch, *size)
    return {name: torch.randn(shape, generator=_generator(batch))}


def pixels(batch: int, size: Size, name: str = "images") -> dict[str, Tensor]:
    """An image of numbers in 0..1, as detectors take it."""
    return {name: torch.rand(batch, 3, *size, generator=_generator(size[0] + batch))}


def pair(batch: int, size: Size) -> dict[str, Tensor]:
    """Two images in -1..1, for optical flow."""
    first, second = (torch.rand(batch, 3, *size, generator=_generator(batch + shift)) * 2 - 1 for shift in (0, 100))
    return {"image1": first, "image2": second}


def _transformer(name: str, **changes: Any) -> nn.Module:
    """`BertModel` and its `BertConfig`, small."""
    model = getattr(transformers, f"{name}Model", None) or getattr(transformers, name)
    return liven(model(getattr(transformers, f"{name.removesuffix('Model')}Config")(**changes)))


def _text(
    name: str, dynamic: Sequence[str] = ("batch", "length=1"), build: Callable[..., nn.Module] = _transformer, **changes: Any
) -> Case:
    config = {**TEXT, **changes}
    return Case(name.lower(), "text", lambda: Text(build(name, **config)), ids, (2, (16,)), LENGTHS, dynamic)


def _vision(name: str, own: Size, others: Sequence[Size] = (), **changes: Any) -> Case:
    trials = [(7, own), (3, own), *((3, size) for size in others)]
    dynamic = OPEN_IMAGE if others else ("batch",)
    return Case(
        name.lower(), "image", lambda: First(_transformer(name, **changes), "pixel_values"), values, (2, own), trials, dynamic
    )


def _audio(name: str, key: str, build: Callable[[], nn.Module], own: tuple[int, Size], others: Sequence[tuple[int, Size]],
           dynamic: Sequence[str], channels: int) -> Case:  # fmt: skip
    return Case(name, "audio", lambda: First(liven(build()), key), partial(values, channels=channels), own, others, dynamic)


def texts() -> list[Case]:
    """Encoders and decoders, their length open."""
    decoder = {"use_cache": False}
    t5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
    distil = {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}
    gpt2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **decoder}
    mobile = {"embedding_size": 32, "hidden_size": 64, "intra_bottleneck_size": 32, "num_feedforward_networks": 2}
    clip = {**TEXT, "projection_dim": 16, "eos_token_id": 2}
    deberta = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    exact = {"distilbert": distil, "gpt2": gpt2, "t5encoder": t5}
    names = {"distilbert": "DistilBert", "gpt2": "GPT2", "t5encoder": "T5Encoder"}
    return [
        *(_text(name) for name in ("Bert", "Roberta", "MPNet", "XLMRoberta", "LayoutLM", "Nystromformer")),
        _text("SqueezeBert", embedding_size=32),
        _text("Albert", embedding_size=16),
        _text("Electra", embedding_size=16),
        _text("MobileBert", **mobile),
        _text("Deberta", **deberta),
        _text("DebertaV2", **deberta),
        _text("ModernBert", local_attention=8, global_attn_every_n_layers=2),
        _text("OPT", ffn_dim=64, word_embed_proj_dim=32, **decoder),
        _text("Llama", num_key_value_heads=2, **decoder),
        _text("Bloom", n_layer=2, n_head=4, **decoder),
        _text("CLIPText", **clip),
        *(Case(name, "text", partial(_exact_text, names[name], changes), ids, (2, (16,)), LENGTHS, ("batch", "length=1"))
          for name, changes in exact.items()),
    ]  # fmt: skip


def _exact_text(name: str, changes: Mapping[str, Any]) -> nn.Module:
    """One whose configuration has other names than BERT's."""
    if name == "T5Encoder":
        return Text(liven(transformers.T5EncoderModel(transformers.T5Config(**changes))))
    return Text(_transformer(name, **changes))


def images() -> list[Case]:
    """Vision networks of transformers; those that take any size with open sides."""
    odd = ((45, 61), (64, 97), (33, 32))
    stages = {"depths": [2, 2], "hidden_sizes": [16, 32]}
    return [
        *(_vision(name, (32, 32), **VISION) for name in ("ViT", "DeiT", "Beit", "CLIPVision", "SiglipVision")),
        _vision("Dinov2", (32, 32), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8),
        _vision("Swin", (32, 32), image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4),
        _vision("ConvNext", (32, 32), odd, num_stages=2, **stages),
        _vision("ResNet", (32, 32), odd, embedding_size=16, layer_type="basic", **stages),
        _vision("Segformer", (64, 64), ((96, 64), (65, 81)), num_encoder_blocks=2, depths=[1, 1], hidden_sizes=[16, 32],
                num_attention_heads=[1, 2], sr_ratios=[4, 2], patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2]),
        _vision("PoolFormer", (64, 64), ((97, 67), (96, 64)), depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 32]),
        _vision("MobileViT", (64, 64), hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64], num_attention_heads=2,
                image_size=64),
    ]  # fmt: skip


def sounds() -> list[Case]:
    """Raw waves with an open length; spectrograms of the fixed size that Whisper wants."""
    wave, waves = (2, (800,)), [(7, (1201,)), (3, (797,)), (1, (640,))]
    whisper = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "max_source_positions": 20,
               "num_mel_bins": 16, "vocab_size": VOCABULARY, "pad_token_id": 0}  # fmt: skip
    return [
        *(_audio(name.lower(), "input_values", partial(_transformer, name, **SPEECH), wave, waves, ("batch", "length=1"), 0)
          for name in ("Wav2Vec2", "Hubert")),
        _audio("whisper_encoder", "input_features", lambda: WhisperEncoder(transformers.WhisperConfig(**whisper)), (2, (40,)),
               [(7, (40,)), (3, (40,))], ("batch",), 16),
    ]  # fmt: skip


def _torchvision(name: str, **given: Any) -> nn.Module:
    return liven(models.get_model(name, weights=None, **given))


def segmentation() -> list[Case]:
    """As they are, their sides open."""
    names = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_resnet50")
    trials = [(3, (97, 131)), (7, (64, 64)), (2, (33, 101))]
    return [Case(name, "segmentation", partial(_torchvision, name, weights_backbone=None),
                 partial(values, name="input" if name.startswith("lraspp") else "x"), (2, (64, 64)), trials, OPEN_IMAGE)
            for name in names]  # fmt: skip


def detection() -> list[Case]:
    """One image of a fixed size; thresholds so low that random weights find something."""
    small = {"min_size": 96, "max_size": 128, "box_score_thresh": 1e-4, "box_detections_per_img": 20}
    low = {"min_size": 96, "max_size": 128, "score_thresh": 1e-4, "detections_per_img": 20}
    options: dict[str, tuple[Mapping[str, Any], Size]] = {
        "ssdlite320_mobilenet_v3_large": ({"score_thresh": 1e-4, "detections_per_img": 20}, (320, 320)),
        "ssd300_vgg16": ({"score_thresh": 1e-4, "detections_per_img": 20}, (300, 300)),
        "fasterrcnn_mobilenet_v3_large_320_fpn": (small, (96, 128)),
        "fasterrcnn_resnet50_fpn": (small, (96, 128)),
        "retinanet_resnet50_fpn": (low, (96, 128)),
        "fcos_resnet50_fpn": (low, (96, 128)),
        "maskrcnn_resnet50_fpn": (small, (96, 128)),
        "keypointrcnn_resnet50_fpn": (small, (96, 128)),
    }
    return [Case(name, "detection", partial(_detector, name, given), pixels, (1, size), [(1, size)], ())
            for name, (given, size) in options.items()]  # fmt: skip


def _detector(name: str, given: Mapping[str, Any]) -> nn.Module:
    return Detector(models.get_model(name, weights=None, weights_backbone=None, **given))


def video() -> list[Case]:
    """Clips of (batch, 3, frames, height, width); those without a position table with open frames and columns."""
    clip = partial(values, name="x")
    free = ("batch", "frames=2", "columns=4")
    trials = [(3, (11, 64, 61)), (7, (8, 64, 64))]
    found = [Case(name, "video", partial(_torchvision, name), clip, (2, (8, 64, 64)), trials, free)
             for name in ("r3d_18", "mc3_18", "r2plus1d_18")]  # fmt: skip
    found.append(Case("s3d", "video", partial(_torchvision, "s3d"), clip, (2, (16, 224, 224)), [(3, (16, 224, 224))], ("batch",)))
    found.append(
        Case("swin3d_t", "video", partial(_torchvision, "swin3d_t"), clip, (2, (4, 64, 64)), [(3, (4, 64, 64))], ("batch",))
    )
    found.append(
        Case("mvit_v2_s", "video", partial(_torchvision, "mvit_v2_s"), clip, (1, (16, 224, 224)), [(3, (16, 224, 224))], ("batch",))
    )
    flow = partial(_torchvision, "raft_small")
    found.append(Case("raft_small", "optical flow", flow, pair, (2, (128, 128)), [(3, (128, 128)), (5, (128, 128))], ("batch",)))
    return found


def cases() -> dict[str, Case]:
    """All of them, by name."""
    found = [*texts(), *images(), *sounds(), *segmentation(), *detection(), *video()]
    return {case.name: case for case in found}


def network(name: str) -> nn.Module:
    """What deploykit is asked to export: ``corpus_networks:network`` with a row's name."""
    return cases()[name].network()


def row(name: str) -> Row:
    """Everything about one network, in this process."""
    return ask(cases()[name], "corpus_networks:network")


def main() -> int:
    """Ask all, print, judge."""
    asked = parser(__doc__).parse_args()
    rows = rows_of({name: case.group for name, case in cases().items()}, row, asked)
    return finish("corpus_networks", report("networks of torchvision and transformers with random weights", rows), asked)


if __name__ == "__main__":
    sys.exit(main())

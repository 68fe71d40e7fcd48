"""Checkpoints as torchvision publishes them, which are not as its networks are built today. Nothing is downloaded: made here."""

from __future__ import annotations

import re

import pytest
import torch
from torchvision import models

from deploykit import files
from deploykit.errors import CheckpointError
from deploykit.network import target
from deploykit.network import torchvision as torchvision_zoo


def publish(monkeypatch, entry, file):
    """As if torchvision had published `file` under this entry."""
    monkeypatch.setattr(entry.value, "url", f"https://download.example/net-{files.sha256(file)[:8]}.pth")


def test_auxiliary_heads_are_left_out_and_the_inputs_transformed_as_the_weights_expect(tmp_path, monkeypatch):
    file = tmp_path / "googlenet.pth"
    whole = models.googlenet(init_weights=False)
    torch.save(whole.state_dict(), file)
    network = target.resolve("torchvision:googlenet", checkpoint=file)
    assert not network.module.transform_input, "weights of one's own were trained as the user trained them"
    publish(monkeypatch, models.GoogLeNet_Weights.DEFAULT, file)
    network = target.resolve("torchvision:googlenet", checkpoint=file)
    assert network.module.transform_input
    assert any("without its auxiliary heads" in note and "torchvision counts" in note for note in network.notes)
    whole.eval().transform_input = True
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.module(inputs), whole(inputs))


def test_densenet_files_have_names_of_an_older_torchvision_and_no_counters(tmp_path):
    own = models.densenet121()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
        for name, tensor in own.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121.pth")
    network = target.resolve("torchvision:densenet121", checkpoint=tmp_path / "densenet121.pth")
    name = "features.denseblock2.denselayer3.conv2.weight"
    assert torch.equal(network.module.state_dict()[name], own.state_dict()[name])


def test_each_published_file_has_the_preprocessing_that_it_was_trained_with(tmp_path, monkeypatch):
    file = tmp_path / "mine.pth"
    torch.save(models.mobilenet_v3_large().state_dict(), file)
    first, second = models.MobileNet_V3_Large_Weights.IMAGENET1K_V1, models.MobileNet_V3_Large_Weights.IMAGENET1K_V2
    assert target.resolve("torchvision:mobilenet_v3_large", checkpoint=file).rules.resize == 232, "the newest, where nobody knows"
    for entry, resize in ((first, 256), (second, 232)):
        with monkeypatch.context() as patched:
            publish(patched, entry, file)
            assert target.resolve("torchvision:mobilenet_v3_large", checkpoint=file).rules.resize == resize


def test_weights_for_larger_images_make_a_larger_vision_transformer():
    entry = models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    assert torchvision_zoo.keywords("vit_b_16", entry) == {"image_size": 384}
    assert torchvision_zoo.rules(entry).height == 384
    assert torchvision_zoo.keywords("vit_b_16", None) == {"image_size": 224}
    positions = {"encoder.pos_embedding": torch.zeros(1, 1 + 24 * 24, 768)}
    assert torchvision_zoo.keywords("vit_b_16", None, positions) == {"image_size": 384}
    assert torchvision_zoo.usual("vit_b_16", {"image_size": 384}) is entry
    assert torchvision_zoo.rules(torchvision_zoo.usual("vit_h_14", {"image_size": 224})).height == 224, "its default is for 518"
    assert torchvision_zoo.rules(torchvision_zoo.usual("vit_b_16", {"image_size": 96}), 96).resize == 96


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "net.model.module."]
)
def test_one_prefix_before_all_names_is_taken_off(tmp_path, prefix):
    own = models.squeezenet1_1().state_dict()
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in own.items()}}, tmp_path / "wrapped.pth")
    network = target.resolve("torchvision:squeezenet1_1", checkpoint=tmp_path / "wrapped.pth")
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.module.state_dict().items())


def test_a_compiled_part_is_taken_for_the_part(tmp_path):
    own = models.squeezenet1_1().state_dict()
    torch.save({name.replace("features.", "features._orig_mod."): t for name, t in own.items()}, tmp_path / "part.pth")
    network = target.resolve("torchvision:squeezenet1_1", checkpoint=tmp_path / "part.pth")
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.module.state_dict().items())


def test_a_file_of_another_network_is_still_refused(tmp_path):
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="of shape"):
        target.resolve("torchvision:squeezenet1_0", checkpoint=tmp_path / "other.pth", arguments={"num_classes": 7})
    with pytest.raises(CheckpointError, match="has no tensor"):
        target.resolve("torchvision:mobilenet_v3_small", checkpoint=tmp_path / "other.pth")

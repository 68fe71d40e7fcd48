"""One forward pass: what is said when it raises, and the attention that can be traced."""

import inspect
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from deploykit import backends, exporter
from deploykit.errors import InputError, first_line
from deploykit.network import target as targets
from deploykit.network.request import Request
from deploykit.network.running import failing_module, plain_attention, run
from deploykit.profiler.pytorch.tracing import trace
from deploykit.verdict.reference import Reference


class Raising(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class Two(nn.Module):
    def forward(self, x, mask):
        return x * mask


class Inside(nn.Module):
    """Its own code calls a layer with too many arguments."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), Two())

    def forward(self, x):
        return self.body(x)


CASES = {
    "too few arguments": (Two(), (2, 3), "--input-shape for each argument of forward"),
    "arguments of a layer": (Inside(), (2, 3), r"at layer 'body.1'.*its own code raised TypeError"),
    "shape": (nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), (2, 3), r"2x3 at layer '1': .*mat1 and mat2.*another --input-shape"),
    "rank": (nn.Conv2d(3, 4, 3), (2, 3), r"of 2x3: Expected.*another --input-shape"),
    "type": (nn.Sequential(nn.Embedding(9, 2)), (2, 3), r"at layer '0'.*another --input-dtype"),
    "assertion": (Raising(AssertionError("height must be even")), (2, 3), r"height must be even; choose another --input-shape"),
    "memory": (Raising(RuntimeError("not enough memory: you tried to allocate 9 bytes")), (2,), "smaller --input-shape or batch"),
    "no memory": (Raising(MemoryError()), (2,), r"of 2: MemoryError; choose a smaller"),
    "index": (
        Raising(IndexError("index out of range in self")),
        (2,),
        "no index of its tables were tried; give values as they occur: --inputs FILE.npz, or `example_inputs`",
    ),
    "own code": (Raising(KeyError("gain")), (2, 3), r"of 2x3: 'gain'; its own code raised KeyError: call it in Python"),
    "exit": (Raising(SystemExit(7)), (2,), r"of 2: it called sys.exit\(7\); its code would end the process"),
    "long": (Raising(ValueError("first line\nsecond line")), (2,), r"of 2: first line; choose"),
    "scalar": (Raising(ValueError()), (), r"of a scalar: ValueError; choose"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_names_the_shapes_the_layer_the_reason_and_what_helps(case):
    module, shape, message = CASES[case]
    with pytest.raises(InputError, match=message) as caught:
        run(module, [torch.zeros(shape)], "net:Net")
    assert str(caught.value).startswith("net:Net cannot take an input of ")
    assert caught.value.__cause__ is not None


def test_every_wing_says_the_same_sentence(tmp_path):
    module = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))
    network = targets.resolve(Request("the network", module=module, input_shapes=[(3,)]))
    inputs = [torch.zeros(2, 3)]

    def engine():
        with backends.start("torch", network, threads=1) as started:
            started.run([tensor.numpy() for tensor in inputs])

    said = []
    for ask in (
        lambda: run(module, inputs),
        lambda: exporter.to_onnx(network),
        lambda: Reference(module).ask(inputs),
        lambda: trace(module, inputs),
        engine,
    ):
        with pytest.raises(InputError) as caught:
            ask()
        said.append(str(caught.value))
    assert len(set(said)) == 1, said


def test_the_failing_module_is_read_from_the_traceback_without_a_second_run():
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = 0
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            self.count += 1
            return self.inner(x)

    module = nn.Sequential(nn.Identity(), Once())
    with pytest.raises(RuntimeError) as caught:
        module(torch.zeros(1, 3))
    assert failing_module(caught.value, module) == "1.inner"
    assert module[1].count == 1
    assert failing_module(ValueError(), module) == ""


def test_first_line_of_the_operating_systems_errors_is_in_words():
    assert first_line(OSError(28, "No space left on device", "/tmp/x")) == "no space left on device"
    assert first_line(OSError("odd")) == "odd"
    assert first_line(ValueError(" one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


class Padded(nn.Module):
    """A text encoder that is told which words are padding (0)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, ids):
        padding = ids == 0
        words = self.encoder(self.embed(ids), src_key_padding_mask=padding)
        return (words * ~padding.unsqueeze(-1)).sum(1)


@pytest.mark.parametrize("before", [True, False])
def test_the_fast_path_of_attention_is_off_within_and_as_it_was_afterwards(before):
    mha = torch.backends.mha
    usual = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(before)
    try:
        with plain_attention():
            assert not mha.get_fastpath_enabled()
        assert mha.get_fastpath_enabled() == before
        seen = []
        module = nn.Linear(3, 3)
        module.register_forward_pre_hook(lambda *_: seen.append(mha.get_fastpath_enabled()))
        run(module, [torch.zeros(1, 3)])
        with pytest.raises(InputError):
            run(module, [torch.zeros(1, 4)])
        assert seen == [False, False]
        assert mha.get_fastpath_enabled() == before
    finally:
        mha.set_fastpath_enabled(usual)


@pytest.mark.slow
def test_a_network_with_a_padding_mask_is_exported_and_proven(tmp_path, monkeypatch):
    (tmp_path / "padded_net.py").write_text(f"import torch\nfrom torch import nn\n\n\n{inspect.getsource(Padded)}")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "net.onnx"
    asked = {"input_shapes": [(6,)], "input_dtypes": ["int64"]}
    result = exporter.export("padded_net:Padded", dynamic=("batch", "length=1"), out=file, **asked)
    assert result.verdict.same, result.verdict
    ids = torch.tensor([[3, 4, 5, 6, 7, 1, 2, 9], [3, 4, 5, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 0, 0]])
    torch.manual_seed(0)
    module = Padded().eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors: here the fast path is on, as users have it
        expected = module(ids).numpy()
    found = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input": ids.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)

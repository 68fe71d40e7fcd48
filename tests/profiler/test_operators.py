"""Formulas and classes of torch's operators."""

from __future__ import annotations

import pytest
import torch

from deploykit.profiler.pytorch import operators

ATEN = {
    name.split(".")[0].removeprefix("aten::").strip("_")
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("aten::")
}


def test_every_name_in_the_tables_is_an_operator_of_torch():
    assert not (operators._MOVEMENT | operators._ARITHMETIC) - ATEN
    assert not operators._MOVEMENT & operators._ARITHMETIC
    own = {name.removeprefix("aten::").strip("_") for name in operators.FORMULAS if name.startswith("aten::")}
    assert not own - ATEN


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (torch.ops.aten.relu.default, "arithmetic"),
        (torch.ops.aten.add_.Tensor, "arithmetic"),
        (torch.ops.aten.native_layer_norm.default, "arithmetic"),
        (torch.ops.aten.view.default, "movement"),
        (torch.ops.aten.cat.default, "movement"),
        (torch.ops.aten.t_.default, "movement"),
        (torch.ops.aten._linalg_svd.default, "unknown"),
        (torch.ops.aten._cudnn_rnn.default, "unknown"),
    ],
)
def test_classes(operator, kind):
    assert operators.formula_of(operator) is None
    assert operators.classify(operator) == kind


a, b, c = torch.rand(3, 4), torch.rand(4, 5), torch.rand(3, 5)
batched = torch.rand(2, 3, 4), torch.rand(2, 4, 5)


@pytest.mark.parametrize(
    ("operator", "arguments", "expected"),
    [
        (torch.ops.aten.mm.default, (a, b), 3 * 4 * 5),
        (torch.ops.aten.addmm_.default, (c, a, b), 3 * 4 * 5),
        (torch.ops.aten.bmm.default, batched, 2 * 3 * 4 * 5),
        (torch.ops.aten.addbmm.default, (c, *batched), 2 * 3 * 4 * 5),
        (torch.ops.aten.mv.default, (a, torch.rand(4)), 12),
        (torch.ops.aten.addmv.default, (torch.rand(3), a, torch.rand(4)), 12),
        (torch.ops.aten.dot.default, (torch.rand(7), torch.rand(7)), 7),
        (torch.ops.aten.linear.default, (a, torch.rand(6, 4)), 3 * 4 * 6),
        (torch.ops.aten._int_mm.default, (torch.ones(32, 8).char(), torch.ones(8, 16).char()), 32 * 8 * 16),
    ],
)
def test_formulas(operator, arguments, expected):
    out = operator(*arguments)
    assert operators.formula_of(operator)(*arguments, out=out) == expected


def test_two_formulas_for_one_operator_are_refused():
    with pytest.raises(ValueError, match="two formulas"):
        operators.formula_for("aten::mv")(lambda *_, **__: 0)


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        # 7 steps of a batch of 2, 3 features into 5 cells with 4 gates: both weights at every step
        ("aten::mkldnn_rnn_layer", [(7, 2, 3), (20, 3), (20, 5), (20,), (20,)], 7 * 2 * 20 * (3 + 5)),
        # 5 queries by 7 keys of 8, then 7 values of 6, in 2 x 4 heads
        (
            "aten::_scaled_dot_product_fused_attention_overrideable",
            [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)],
            2 * 4 * 5 * 7 * (8 + 6),
        ),
    ],
)
def test_formulas_of_operators_that_this_machine_does_not_call(name, shapes, expected):
    assert operators.FORMULAS[name](*(torch.empty(shape, device="meta") for shape in shapes), out=None) == expected

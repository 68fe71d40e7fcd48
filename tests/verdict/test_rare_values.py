"""Values that made-up inputs hardly hold: every row of a table, whole numbers of all sizes, NaN."""

import pytest
import torch
from onnx import TensorProto, helper

from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import rare_values
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Parting
from deploykit.verdict.value_limits import Limits, limits

IDS = InputSpec("ids", (6,), torch.int64, below=50)
AGE = InputSpec("age", (), torch.int64)
NUMBERS = InputSpec("x", (4,))


def usual(*specs):
    return Batch("noise", tuple(spec.random(2, torch.Generator().manual_seed(0)) for spec in specs))


def asked(*specs, wrong=lambda *tensors: False, refuses=lambda *tensors: False, unsteady=lambda *tensors: False, **options):
    """The check, and all that was asked, where a file is wrong or a network refuses, or magnifies rounding, as told."""
    seen = []

    def exactly(batch):
        if refuses(*batch.tensors):
            raise InputError("no")
        seen.append(batch)
        return Parting("far") if wrong(*batch.tensors) else None

    def steadily(batch):
        if unsteady(*batch.tensors):
            raise InputError("rounding alone")
        return exactly(batch)

    return rare_values.check(specs, usual(*specs), rare_values.Compare(exactly, steadily, exactly), **options), seen


def test_every_row_of_a_table_is_asked_for_once_at_least():
    (check, batch), seen = asked(IDS)
    assert check.passed
    assert batch is None
    assert set(torch.cat([each.tensors[0] for each in seen]).flatten().tolist()) == set(range(50))
    assert all(each.tensors[0].shape == (2, 6) for each in seen)


@pytest.mark.parametrize("row", [0, 33, 49])
def test_a_row_at_which_the_file_is_wrong_is_found(row):
    (check, batch), _ = asked(IDS, wrong=lambda ids: (ids == row).any())
    assert not check.passed
    assert "every row of the table in ids: far" in check.detail
    assert (batch.tensors[0] == row).any()


def test_of_a_table_that_is_too_large_the_rows_that_something_is_compared_with_are_asked_among_others():
    ids = InputSpec("ids", (6,), torch.int64, below=60000)
    (check, _), seen = asked(ids, constants=(50256.0, 70000.0, 0.5, -1.0))
    assert check.passed
    before = usual(ids).tensors[0]
    asked_for = {int(row) for each in seen for row in each.tensors[0][each.tensors[0] != before]}
    assert asked_for == {50256, 0, 1, 2, 59999}
    assert all((each.tensors[0] == before).float().mean() >= 0.5 for each in seen)
    (check, batch), _ = asked(ids, wrong=lambda rows: (rows == 50256).any(), constants=(50256.0,))
    assert not check.passed
    assert (batch.tensors[0] == 50256).any()


def test_a_single_number_has_no_others_to_stand_among():
    assert asked(InputSpec("ids", (), torch.int64, below=60000), constants=(7.0,))[0][0] is not None


@pytest.mark.parametrize("odd", [3, 66, -2])
def test_whole_numbers_of_all_sizes_are_asked_about(odd):
    (check, batch), _ = asked(AGE, wrong=lambda age: (age == odd).any(), constants=(64, 65, 66, -2))
    assert not check.passed
    assert (batch.tensors[0] == odd).any()


def test_what_the_network_refuses_is_no_evidence():
    (check, _), seen = asked(AGE, refuses=lambda age: (age < 0).any())
    assert check.passed
    assert seen
    assert asked(AGE, refuses=lambda age: True) == ((None, None), [])


def test_nan_is_asked_about_in_one_element_and_not_where_outputs_are_whole_numbers():
    (check, batch), seen = asked(NUMBERS, wrong=lambda x: x.isnan().any())
    assert not check.passed
    assert int(batch.tensors[0].isnan().sum()) == 1
    assert len(seen) == 1
    (check, _), seen = asked(NUMBERS, limits=Limits(nan=False, infinity=False))
    assert check.passed
    assert all(each.tensors[0].isfinite().all() for each in seen)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x: (x == 2.5).any(), "halves and whole numbers"),
        (lambda x: (x == 123.25).any(), "halves and whole numbers"),
        (lambda x: ((x == 0) & x.signbit()).any(), "halves and whole numbers"),
        (lambda x: (x == torch.inf).any(), "infinity"),
        (lambda x: (x == -torch.inf).any(), "-infinity"),
        (lambda x: x.abs().max() < 1e-3, "numbers 0.0001 times as large"),
        (lambda x: x.isfinite().all() and x.abs().max() > 5e2, "numbers 1000 times as large"),
    ],
)
def test_numbers_far_from_usual_ones_and_those_that_the_file_knows_are_asked_about(wrong, told):
    (check, _), _ = asked(NUMBERS, wrong=wrong, constants=(123.25,))
    assert not check.passed
    assert f"{told} in x: far" in check.detail


def test_far_numbers_are_no_evidence_where_rounding_alone_moves_the_network():
    (check, _), seen = asked(NUMBERS, wrong=lambda x: x.abs().max() > 5e2, unsteady=lambda x: x.abs().max() > 50)
    assert check.passed
    assert all(not each.tensors[0].abs().max() > 50 or each.tensors[0].isnan().any() for each in seen)


def test_a_file_that_answers_nan_to_an_infinity_is_not_wrong_for_that_but_to_a_large_number_it_is():
    def compare(at):
        return rare_values.Compare(
            lambda batch: None, lambda batch: Parting("nan", has_nan=True) if at(batch.tensors[0].abs().max()) else None, None
        )

    assert rare_values.check([NUMBERS], usual(NUMBERS), compare(torch.isinf))[0].passed
    assert not rare_values.check([NUMBERS], usual(NUMBERS), compare(lambda most: 500 < most < torch.inf))[0].passed


def test_fewer_rows_do_for_numbers_and_a_mask_stays_one():
    few = Batch("noise, batch 1", (torch.randn(1, 4),))
    _, seen = asked(NUMBERS, few=few)
    assert {tuple(each.tensors[0].shape) for each in seen} == {(1, 4)}
    _, seen = asked(InputSpec("mask", (4,), mask=True))
    assert len(seen) == 3


def test_the_other_inputs_stay_as_they_are():
    (check, _), seen = asked(IDS, AGE, NUMBERS)
    assert check.passed
    plain = usual(IDS, AGE, NUMBERS)
    for batch in seen:
        assert (
            sum(
                not torch.equal(a.nan_to_num(), b.nan_to_num()) or not a.isfinite().all()
                for a, b in zip(batch.tensors, plain.tensors, strict=True)
            )
            <= 1
        )


def file_of(nodes, stored=()):
    value = helper.make_tensor_value_info("n", TensorProto.INT64, [1])
    return Deployed(helper.make_model(helper.make_graph(nodes, "g", [value], [value], stored)))


def test_the_numbers_that_a_file_compares_with():
    nodes = [
        helper.make_node("Constant", [], ["six"], value=helper.make_tensor("v", TensorProto.INT64, [], [6])),
        helper.make_node("Greater", ["n", "limit"], ["old"]),
        helper.make_node("Equal", ["n", "six"], ["sunday"]),
        helper.make_node("Add", ["n", "other"], ["sum"]),
    ]
    stored = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("limit", 65), ("other", 1234))]
    assert rare_values.compared_with(file_of(nodes, stored)) == [65, 6]
    assert rare_values.to_ask([65, 6, 0.5]) == (64, 65, 66, 5, 6, 7, 0.5)
    assert rare_values.compared_with(file_of([helper.make_node("Identity", ["n"], ["m"])])) == []


def test_the_numbers_of_other_spellings_are_asked_about_and_broken_ones():
    nodes = [
        helper.make_node("Cast", ["limit"], ["narrow"], to=TensorProto.INT32),
        helper.make_node("Equal", ["n", "narrow"], ["old"]),
        helper.make_node("Constant", [], ["seven"], value_int=7),
        helper.make_node("Greater", ["n", "seven"], ["sunday"]),
        helper.make_node("Constant", [], ["whole"], value_float=40.0),
        helper.make_node("Less", ["f", "whole"], ["early"]),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Less", ["f", "half"], ["small"]),
    ]
    stored = [helper.make_tensor("limit", TensorProto.INT64, [2], [65, 18])]
    found = rare_values.compared_with(file_of(nodes, stored))
    assert found == [65, 18, 7, 40, 0.5]


@pytest.mark.parametrize("count", [rare_values.STEP, 2 * rare_values.STEP, 2 * rare_values.STEP + 1, 5])
def test_every_number_stands_somewhere_however_many_there_are(count):
    numbers = range(100, 100 + count)
    asked = torch.cat(list(rare_values._in_turn(torch.zeros(1, count, dtype=torch.int64), numbers)))
    assert set(asked.flatten().tolist()) == set(numbers)


@pytest.mark.parametrize("place", [0, 2, 5])
@pytest.mark.parametrize("value", [0, 1])
def test_masks_with_a_single_one_and_a_single_zero_are_asked_about(place, value):
    mask = InputSpec("mask", (6,), torch.bool, mask=True)
    batch = Batch("noise", (torch.tensor([[True] * 3 + [False] * 3] * 6),))
    seen = []
    compare = rare_values.Compare(None, None, lambda batch: seen.append(batch.tensors[0]))
    assert rare_values.check([mask], batch, compare)[0].passed
    wanted = torch.arange(6) == place if value else torch.arange(6) != place
    assert any((row == wanted).all() for tensor in seen for row in tensor)


def test_the_lowest_number_of_a_narrow_type_is_asked_about():
    (check, _), _ = asked(InputSpec("x", (6,), torch.int8), wrong=lambda x: (x == -128).any())
    assert not check.passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_nothing_is_asked_of_an_input_without_elements(dtype):
    spec = InputSpec("x", (0,), dtype, mask=dtype == torch.bool)
    compare = rare_values.Compare(None, None, None)
    assert rare_values.check([spec], Batch("noise", (torch.zeros(0, dtype=dtype),)), compare) == (None, None)


def test_whole_numbers_are_not_asked_where_one_of_them_would_end_the_process():
    _, seen = asked(IDS, limits=Limits(whole=False))
    assert seen == []


def node(kind, *inputs, **attributes):
    return helper.make_node(kind, list(inputs), ["out"], **attributes)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Relu", "n")], Limits()),
        ([node("Sign", "n")], Limits(nan=False)),
        ([node("TopK", "n", "k")], Limits(nan=False, infinity=False)),
        ([node("DeformConv", "n", "w", "offsets")], Limits(False, False, False)),
        ([node("RoiAlign", "n", "boxes", "which")], Limits(False, False, False)),
        ([node("Range", "n", "n", "n")], Limits(infinity=False, far=False)),
        ([node("STFT", "signal", "n")], Limits(whole=False)),
        ([helper.make_node("Shape", ["n"], ["size"]), node("Expand", "n", "size")], Limits()),
        (
            [helper.make_node("ReduceMax", ["n"], ["longest"]), node("ConstantOfShape", "longest")],
            Limits(infinity=False, far=False),
        ),
    ],
)
def test_what_reads_beyond_its_memory_or_never_ends_is_not_asked(nodes, expected):
    assert limits(file_of(nodes)) == expected


@pytest.mark.parametrize(("odd", "dtype"), [((1 << 24) + 1, torch.int32), ((1 << 31) + 5, torch.int64)])
def test_whole_numbers_that_a_narrower_type_does_not_hold_are_asked_about(odd, dtype):
    spec = InputSpec("n", (), dtype)
    (check, _), _ = asked(spec, wrong=lambda n: (n == odd).any())
    assert "large whole numbers in n: far" in check.detail
    assert asked(spec, wrong=lambda n: (n == odd).any(), limits=Limits(far=False))[0][0].passed

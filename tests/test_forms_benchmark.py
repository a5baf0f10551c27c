"""The benchmark of the forms: what it times, on the backend at hand, and what it writes."""

import json

import keras
import pytest

from keras_lgmsnet.benchmark import forms as benchmark
from keras_lgmsnet.benchmark.forms import FormCase, benchmark_forms, list_cases, time_case
from keras_lgmsnet.benchmark.workers import LEFT_OUT, Outcome
from keras_lgmsnet.layers import forms
from tests.helpers.in_process import try_each_here

CASES = [
    FormCase("convolution", (2, 8, 8, 4), 2, 1, 6, gradient=True, seconds=0),
    FormCase("grouped convolution", (1, 8, 8, 8), 2, 3, 8, 2, dtype="bfloat16", seconds=0),
    FormCase("depthwise convolution", (1, 8, 8, 2), 2, 3, 2, 2, gradient=True, seconds=0),
    FormCase("spaced convolution", (2, 8, 7, 4), 2, 3, 6, strides=2, gradient=True, seconds=0),
    FormCase("spaced depthwise convolution", (1, 8, 8, 2), 2, 3, 2, 2, dilation=2, seconds=0),
    FormCase("max pooling", (1, 8, 8, 4), 2, 2, gradient=True, seconds=0),
    FormCase("linear upsampling", (1, 4, 4, 4), 2, dtype="bfloat16", seconds=0),
    FormCase("attention", (4, 16, 4, 8), 2, seconds=0),
    FormCase("sequences", (3, 1024, 4), 2, gradient=True, seconds=0),
    FormCase("selective scan", (1, 20, 4), 3, gradient=True, seconds=0),
    FormCase("group normalization", (2, 8, 8, 8), 2, groups=4, affine=True, seconds=0),
    FormCase("batch normalization", (2, 8, 8, 8), 2, gradient=True, seconds=0),
    FormCase("recomputation", (1, 4, 4, 4, 2), 3, gradient=True, seconds=0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operation)
def test_every_form_of_an_operation_is_timed(case: FormCase) -> None:
    rows = time_case(case)
    backend = keras.backend.backend()
    assert {row["form"] for row in rows} == {
        name
        for name, form in forms.OPERATIONS[case.operation].items()
        if backend in form.backends
        and case.rank in form.ranks
        and case.kernel_size in (form.kernel_sizes or (case.kernel_size,))
    }
    assert [row["form"] for row in rows if row["chosen"]] == [
        forms.rule_for(case.operation, **case.choice).form
    ]
    for row in rows:
        assert row["failure"] is None, row
        assert row["seconds"] > 0
        assert row["difference"] < (0.1 if case.dtype == "bfloat16" else 1e-4), row
    assert min(row["ratio"] for row in rows) == 1


def test_every_operation_is_tried() -> None:
    assert {case.operation for case in CASES} == forms.OPERATIONS.keys()


def test_a_form_that_fails_is_told_and_the_others_are_timed(monkeypatch) -> None:
    def fail(inputs, kernel_size):
        raise MemoryError("16 GB are\nnot there")

    broken = forms.Form(lambda: fail, forms.BACKENDS, (2,))
    monkeypatch.setitem(forms.OPERATIONS["max pooling"], "broken", broken)
    *others, row = time_case(CASES[5])
    assert row == {
        "form": "broken",
        "chosen": False,
        "failure": "MemoryError: 16 GB are not there",
    }
    assert others
    assert not any(row["failure"] for row in others)


@pytest.mark.no_backend
def test_the_operations_of_a_network() -> None:
    cases = list_cases(quick=True)
    # LGMSNet has no others.
    own = forms.OPERATIONS.keys() - {
        "spaced convolution",
        "spaced depthwise convolution",
        "sequences",
        "selective scan",
    }
    assert {(case.operation, case.rank) for case in cases} == {
        *((operation, 2) for operation in own - {"recomputation"}),
        *((operation, 3) for operation in own),
    }
    (attention,) = (case for case in cases if (case.operation, case.rank) == ("attention", 2))
    # The first of the smallest transformer's four sequences, of an image of 4 × 4.
    assert attention.input_shape == (4, 4, 4, 8)
    (stem,) = (case for case in cases if (case.operation, case.rank) == ("convolution", 2))
    assert (stem.input_shape, stem.output_shape) == ((1, 32, 32, 3), (1, 32, 32, 4))


@pytest.mark.no_backend
def test_a_cpu_trains_in_float32_and_begins_with_what_is_quick(monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "CPU_NETWORKS", benchmark.QUICK_NETWORKS)
    cases = list_cases(quick=False)
    assert [case.gradient for case in cases] == sorted(case.gradient for case in cases)[::-1]
    first = [case for case in cases if case.gradient and case.dtype == "float32"]
    assert first == cases[: len(first)]
    assert [case.multiply_adds for case in first] == sorted(case.multiply_adds for case in first)
    assert {case.operation for case in first} == {case.operation for case in cases}
    # 9 taps of each of the 4 channels, for each of 32 × 32 outputs of 6 channels in 2 images.
    assert FormCase("convolution", (2, 32, 32, 4), 2, 3, 6).multiply_adds == 2 * 32**2 * 6 * 9 * 4


@pytest.mark.no_backend
def test_the_file_holds_each_form_and_what_was_left_out(monkeypatch, tmp_path) -> None:
    def time_first(function, cases, backend, seconds):
        if function is list_cases:
            yield Outcome(CASES)
            return
        outcomes = try_each_here(function, cases, backend, seconds)
        yield next(outcomes)
        for _ in CASES[1:]:
            yield Outcome(failure=f"{LEFT_OUT}: no time was left.")

    monkeypatch.setattr(benchmark, "try_each", time_first)
    lines: list[str] = []
    backend = keras.backend.backend()
    found = benchmark_forms([backend], tmp_path / "forms.json", quick=True, tell=lines.append)
    assert json.loads((tmp_path / "forms.json").read_text()) == json.loads(json.dumps(found))
    assert {row["backend"] for row in found["rows"]} == {backend}
    timed = [row for row in found["rows"] if not row["failure"]]
    assert len({row["form"] for row in timed}) == len(timed) > 1
    report = "\n".join(lines)
    assert report.count(f"| {backend} | convolution | 2 × 8 × 8 × 4 | 1 | 6 |") == len(timed)
    assert (
        "Left out for want of time: grouped convolution in bfloat16, forward (1 shapes)" in report
    )


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("backends", "minutes", "message"),
    [((), 1, r"Received: \(\)"), (("torch",), 0, "Received: minutes=0")],
)
def test_bad_arguments(tmp_path, backends, minutes, message) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark_forms(backends, tmp_path / "forms.json", minutes=minutes)

"""Times every exact form of the layers' operations: `lgms-benchmark --forms`.

What it finds is what `TABLE` in `keras_lgmsnet.layers.forms.table` is made of. Each operation is
timed at the shapes that LGMSNet has at each stage, in each precision, with the gradients and
without. Each backend has a process of its own, and so has what follows on a form that ended its
process.
"""

import functools
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.benchmark.cases import Case
from keras_lgmsnet.benchmark.computation import compiled, fastest, with_gradient
from keras_lgmsnet.benchmark.machine import default_device, describe_machine, milliseconds, ratio
from keras_lgmsnet.benchmark.workers import LEFT_OUT, in_a_sentence, try_each
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.tables import table_head, table_line

HALF_FIRST = ("float16", "bfloat16", "float32")
# Of each channel in a selective scan.
STATES = 16
HEADER = (
    *("backend", "operation", "input", "kernel", "filters", "groups", "dtype", "computes"),
    *("form", "ms", "ratio", "difference", "in the table"),
)


@dataclass(frozen=True)
class FormCase:
    """An operation at one shape, of which every form is timed.

    Args:
        operation: A key of `forms.OPERATIONS`.
        input_shape: Batch, sides, channels; of attention batch, length, heads, features.
        rank: 2 for images, 3 for volumes.
        kernel_size: Of a convolution or of a pooling.
        filters: Output channels of a convolution.
        groups: Of a convolution or of a group normalization.
        strides: Of a convolution.
        dilation: Of a convolution.
        affine: Whether a normalization scales and shifts.
        dtype: The dtype computed in.
        gradient: Whether the gradients are computed, too.
        seconds: How long each form is repeated.
    """

    operation: str
    input_shape: tuple[int, ...]
    rank: int
    kernel_size: int | None = None
    filters: int | None = None
    groups: int | None = None
    strides: int = 1
    dilation: int = 1
    affine: bool = False
    dtype: str = "float32"
    gradient: bool = False
    seconds: float = 0.2

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Batch, sides, channels of what it computes."""
        images, *sides, channels = self.input_shape
        factor = {"max pooling": 0.5, "linear upsampling": 2}.get(self.operation, 1)
        sides = [-(-int(factor * side) // self.strides) for side in sides]
        return (images, *sides, self.filters or channels)

    @property
    def multiply_adds(self) -> int:
        """About how much arithmetic it takes; of what is no convolution, the number of outputs."""
        taps = (self.kernel_size or 1) ** self.rank
        channels = self.input_shape[-1] // (self.groups or 1) if self.kernel_size else 1
        return math.prod(self.output_shape) * taps * channels

    @property
    def choice(self) -> dict[str, Any]:
        """The arguments of `forms.choose`."""
        of_kernel = {"kernel_size": self.kernel_size, "filters": self.filters}
        channels = self.input_shape[-1] if self.kernel_size else None
        return {"rank": self.rank, "channels": channels, "dtype": self.dtype, **of_kernel}

    @property
    def cells(self) -> tuple[str, ...]:
        """What names it in a table."""
        numbers = (self.kernel_size, self.filters, self.groups)
        return (
            self.operation,
            " × ".join(map(str, self.input_shape)),
            *("–" if number is None else str(number) for number in numbers),
            self.dtype,
            _passes(self.gradient),
        )


# The networks whose shapes are timed, on a CPU and on a GPU, and for a dry run.
CPU_NETWORKS = (Case((256, 256, 3)), Case((96, 96, 96, 1), num_classes=14))
GPU_NETWORKS = (Case((256, 256, 3), 16), *CPU_NETWORKS)
_TINY = {"dims": (4, 4, 4, 4, 4), "kernel_sizes": (3, 3)}
QUICK_NETWORKS = (
    Case((32, 32, 3), arguments=_TINY),
    Case((32, 32, 32, 1), num_classes=3, arguments=_TINY),
)


def benchmark_forms(
    backends: Sequence[str],
    output: Path,
    *,
    minutes: float = 8.0,
    quick: bool = False,
    tell: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Time all forms on each backend, on its own device; write what was found as JSON.

    It starts processes, so a script that calls it needs `if __name__ == "__main__":`. What trains
    comes first, on a GPU in half precision, on a CPU small shapes; what the time does not suffice
    for is named.

    Args:
        backends: Keras backends, each of which has as much of the time.
        output: The JSON file, written anew after every case.
        minutes: The longest that it may take.
        quick: Take tiny networks' shapes, to see that everything runs.
        tell: Prints a line of the Markdown report.

    Returns:
        What the file holds: the machine, and a row for each form.

    Raises:
        ValueError: If there is no backend, or `minutes` is not positive.

    Example:
    ```python
    benchmark_forms(["torch"], Path("forms.json"), minutes=2)
    ```
    """
    require_time(backends, minutes)
    end = time.monotonic() + 60 * minutes
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "minutes": minutes,
        "quick": quick,
        "rows": [],
    }
    write_json(output, found)  # a folder that is not there is told before any time is spent
    tell(f"# Forms\n\n{found['machine']}\n")
    tell(table_head(HEADER))
    for number, backend in enumerate(backends):
        seconds = (end - time.monotonic()) / (len(backends) - number)
        for rows in time_forms(backend, seconds, quick=quick, tell=tell):
            found["rows"] += rows
            write_json(output, found)
    tell(f"\n{name_left_out(found['rows'])}")
    return found


def require_time(backends: Sequence[str], minutes: float) -> None:
    """Raise `ValueError` unless there is something to measure, and time for it."""
    if not backends:
        raise ValueError(f"Name at least one installed backend. Received: {tuple(backends)}")
    if not minutes > 0:
        raise ValueError(f"minutes must be positive. Received: minutes={minutes}")


def time_forms(
    backend: str, seconds: float, *, quick: bool, tell: Callable[[str], Any]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each case on a backend, one a form, and tell them as lines of a table.

    Args:
        backend: Keras's.
        seconds: For all of it.
        quick: Whether tiny networks' shapes are timed.
        tell: Prints a line of the table, whose header is `HEADER`.
    """
    end = time.monotonic() + seconds
    (listed,) = try_each(list_cases, [quick], backend, seconds)
    if listed.failure:
        tell(table_line((backend, "–", listed.failure, *["–"] * (len(HEADER) - 3))))
        yield [{"backend": backend, "failure": listed.failure, "details": listed.details}]
        return
    cases: list[FormCase] = listed.value
    outcomes = try_each(time_case, cases, backend, end - time.monotonic())
    for case, outcome in zip(cases, outcomes, strict=True):
        common = {"backend": backend, **asdict(case)}
        rows = outcome.value or [{"failure": outcome.failure, "details": outcome.details}]
        rows = [{**common, **row} for row in rows]
        if not outcome.left_out:
            for row in rows:
                tell(table_line((backend, *case.cells, *_cells(row))))
        yield rows


def name_left_out(rows: Sequence[dict[str, Any]]) -> str:
    """Return which cases the time did not suffice for, in a paragraph."""
    left_out = Counter(
        f"{row['operation']} in {row['dtype']}, {_passes(row['gradient'])}"
        for row in rows
        if (row.get("failure") or "").startswith(LEFT_OUT)
    )
    if not left_out:
        return "Nothing was left out."
    return "Left out for want of time: " + "; ".join(
        f"{name} ({number} shapes)" for name, number in left_out.items()
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what a table says of a form."""
    if row["failure"]:
        return row.get("form", "–"), row["failure"], "–", "–", "–"
    return (
        row["form"],
        milliseconds(row["seconds"]),
        ratio(row["ratio"]),
        "–" if row["difference"] is None else f"{row['difference']:.1e}",
        "yes" if row["chosen"] else "",
    )


def _passes(gradient: bool) -> str:
    return "with gradient" if gradient else "forward"


# What follows runs in the workers, which alone import Keras.


def list_cases(quick: bool) -> list[FormCase]:
    """Return every operation of LGMSNet at every shape, those first that matter most."""
    import keras

    on_cpu = default_device(keras.backend.backend()) == "CPU"
    full_size = CPU_NETWORKS if on_cpu else GPU_NETWORKS
    found = {
        case: None
        for network in (QUICK_NETWORKS if quick else full_size)
        for case in _operations(network.create_network(), network.batch_size)
    }
    if quick:
        first = {(case.operation, case.rank): case for case in reversed(found)}
        return [replace(case, gradient=True, seconds=0.0) for case in first.values()]
    # A GPU trains in half precision, a CPU in float32. There some shapes take as long as a hundred
    # others, so that they come last.
    dtypes = HALF_FIRST[::-1] if on_cpu else HALF_FIRST
    cases = sorted(found, key=lambda case: case.multiply_adds) if on_cpu else found
    return [
        replace(case, dtype=dtype, gradient=gradient)
        for gradient, dtype in itertools.product((True, False), dtypes)
        for case in cases
    ]


def time_case(case: FormCase) -> list[dict[str, Any]]:
    """Return the outcome of every form of a case.

    The reference is the form that the table has for a CPU, computed in float32 from the same
    numbers.
    """
    import keras

    from keras_lgmsnet.layers import forms

    backend = keras.backend.backend()
    chosen = forms.rule_for(case.operation, **case.choice).form
    try:
        with forms.forced_device("cpu"):
            exact = replace(case, dtype="float32")
            of_cpu = forms.choose(case.operation, **exact.choice)
            reference = _to_numpy(_computation(exact, of_cpu)())
    except Exception:  # it may be too large for the memory; the forms are timed all the same
        reference = None
    rows: list[dict[str, Any]] = []
    for name, form in forms.OPERATIONS[case.operation].items():
        kernel_sizes = form.kernel_sizes or (case.kernel_size,)
        if not (
            backend in form.backends
            and case.rank in form.ranks
            and case.kernel_size in kernel_sizes
        ):
            continue
        row: dict[str, Any] = {"form": name, "chosen": name == chosen, "failure": None}
        try:
            row |= _time(case, form.make(), reference)
        except Exception as error:
            row |= {"failure": in_a_sentence(error)}
        rows.append(row)
    times = [row["seconds"] for row in rows if not row["failure"]]
    for row in rows:
        if not row["failure"]:
            row["ratio"] = row["seconds"] / min(times)
    return rows


def _time(
    case: FormCase, form: Callable[..., Any], reference: list[np.ndarray] | None
) -> dict[str, Any]:
    """Return the seconds of a form, and how far it is from the reference."""
    compute = _computation(case, form)
    seconds = fastest(compute, case.seconds)
    difference = None
    if reference is not None:
        difference = max(
            float(np.abs(output - exact).max() / (exact.std() or 1))
            for output, exact in zip(_to_numpy(compute()), reference, strict=True)
        )
    return {"seconds": seconds, "difference": difference}


def _to_numpy(outputs: Any) -> list[np.ndarray]:
    """Return an output, and its gradients if there are any, in float32."""
    import keras

    outputs = keras.tree.flatten(outputs)
    return [keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")) for output in outputs]


def _computation(case: FormCase, form: Callable[..., Any]) -> Callable[[], Any]:
    """Return what computes a case by a form, on drawn numbers."""
    import keras

    generator = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return keras.ops.convert_to_tensor(
            generator.normal(size=shape).astype("float32"), dtype=case.dtype
        )

    shape, channels = case.input_shape, case.input_shape[-1]
    tensors = [draw(*shape)]
    function = form
    if case.kernel_size is not None and case.filters is not None:
        sizes = (case.kernel_size,) * case.rank
        tensors.append(draw(*sizes, channels // (case.groups or 1), case.filters))
        if case.operation.startswith("spaced"):
            function = functools.partial(form, strides=case.strides, dilation=case.dilation)
    elif case.operation == "max pooling":
        function = functools.partial(form, kernel_size=case.kernel_size)
    elif case.operation == "attention":
        tensors += [draw(*shape), draw(*shape)]
    elif case.operation == "sequences":
        tensors += [draw(*shape), draw(*shape)]
        function = form(_attend, shape[1] ** 2)
    elif case.operation == "selective scan":
        steps, rates = abs(draw(*shape)), -abs(draw(STATES, channels))
        tensors += [steps, draw(*shape[:2], STATES), draw(*shape[:2], STATES), rates]
    elif case.operation == "recomputation":
        function = form(keras.ops.gelu)
    elif case.operation.endswith("normalization"):
        function = functools.partial(_normalize, form, _norm(case), training=case.gradient)
    if case.gradient:
        function, tensors = with_gradient(function), [draw(*case.output_shape), *tensors]
    function = compiled(function)
    return lambda: function(*tensors)


def _attend(query: Any, key: Any, value: Any) -> Any:
    """Attend within sequences, `(sequences, length, features)`."""
    from keras import ops

    scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
    return ops.matmul(ops.softmax(scores), value)


def _normalize(form: Callable[..., Any], layer: Any, inputs: Any, *, training: bool) -> Any:
    """Normalize without changing the layer's moving statistics, which a compiled step may not."""
    import keras

    with keras.StatelessScope():
        return form(layer, inputs, training)


def _norm(case: FormCase) -> Any:
    from keras_lgmsnet.layers.normalization import BatchNormalization, GroupNormalization

    dtype = case.dtype if case.dtype == "float32" else f"mixed_{case.dtype}"
    layer = (
        BatchNormalization(dtype=dtype)
        if case.groups is None
        else GroupNormalization(case.groups, center=case.affine, scale=case.affine, dtype=dtype)
    )
    layer.build(case.input_shape)
    return layer


def _of_kernel(layer: Any, kind: str, filters: int, groups: int | None) -> dict[str, Any]:
    """Return the arguments of a convolution's case."""
    if layer.strides > 1 or layer.dilation > 1:
        kind = "spaced " if kind == "grouped " else f"spaced {kind}"
    return {
        "operation": f"{kind}convolution",
        "kernel_size": layer.kernel_size,
        "filters": filters,
        "groups": groups,
        "strides": layer.strides,
        "dilation": layer.dilation,
    }


def _operations(layer: Any, images: int) -> Iterator[FormCase]:
    """Yield the operations of a built layer and of those within it, on so many images."""
    from keras_lgmsnet import layers
    from keras_lgmsnet.layers.gms import HEAD_DIM, NUM_HEADS
    from keras_lgmsnet.layers.normalization import BatchNormalization

    shape = (layer.get_build_config() or {}).get("input_shape") or ()
    rank = getattr(layer, "rank", len(shape) - 2)
    here = functools.partial(FormCase, input_shape=(images, *shape[1:]), rank=rank)
    match layer:
        case layers.GroupedConv():
            kind = "" if layer.groups == 1 else "grouped "
            groups = None if layer.groups == 1 else layer.groups
            yield here(**_of_kernel(layer, kind, layer.filters, groups))
        case layers.DepthwiseConv():
            yield here(**_of_kernel(layer, "depthwise ", layer.channels, layer.channels))
        case layers.MaxPooling():
            yield here("max pooling", kernel_size=layer.kernel_size)
        case layers.LinearUpsampling(factor=2, align_corners=False):
            yield here("linear upsampling")
        case layers.SparseTransformer():
            tokens = math.prod(shape[1:-1]) // 2**rank
            images *= 2**rank  # its inner layers see as many sequences
            yield FormCase("attention", (images, tokens, NUM_HEADS, HEAD_DIM), rank)
        case layers.GroupNormalization():
            yield here("group normalization", groups=layer.groups, affine=layer.scale)
            if rank == 3:
                yield here("recomputation")
        case BatchNormalization():
            yield here("batch normalization")
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _operations(inner, images)

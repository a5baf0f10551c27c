"""Times the exported network in its runtimes beside plain PyTorch's: `lgms-benchmark --exports`.

It needs no run: the weights are random, and the same for every contestant, the peer in plain
PyTorch included. What is compared is the network alone, from one image in float32 on the CPU to
its logits, without the preprocessing that `keras_lgmsnet.export.parent` puts before it.

Every contestant has a process of its own, limited to the cores that it may use. All of them take
turns, some calls each, so that whatever else slows the machine meets all alike.
"""

import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_lgmsnet.benchmark import peers
from keras_lgmsnet.benchmark.cases import Case, channels_first, network_cases
from keras_lgmsnet.benchmark.machine import megabytes, milliseconds, ratio
from keras_lgmsnet.benchmark.runtimes import RUNTIMES, not_installed
from keras_lgmsnet.benchmark.workers import (
    import_packages,
    peak_memory,
    require_threads,
    start_worker,
)
from keras_lgmsnet.export.parent import require_installed
from keras_lgmsnet.export.promises import PRECISIONS
from keras_lgmsnet.files.paths import size_on_disk
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.tables import markdown_table

# Timed calls of a contestant in a turn, after one to settle.
CALLS = 10
# The packages that the times of exports depend on.
EXPORT_PACKAGES = (
    *("ai-edge-litert", "onnxruntime", "openvino"),
    *("keras", "tensorflow", "jax", "torch", "onnxscript"),
)


@dataclass(frozen=True)
class Contestant:
    """A file of the network, and the runtime that computes it.

    Args:
        file: What the benchmark writes, and the runtime reads.
        runtime: A key of `RUNTIMES`.
        backend: Keras's, where Keras is the runtime.
    """

    file: str
    runtime: str
    backend: str | None = None

    def missing(self, case: Case) -> str | None:
        """Return what it needs and has not to compute a case's network, if anything."""
        needed = [self.backend] if self.backend else []
        if self.file == "peer.onnx":
            needed.append("onnxscript")
        missing = RUNTIMES[self.runtime].missing() + not_installed(needed)
        if self.file.startswith("plain"):
            missing += case.kind.choose(images=[], volumes=["builtin operators for volumes"])
        if self.file.startswith("peer") and not peers.has(case.network):
            missing.append(f"{case.entry.title} in plain PyTorch")
        return " and ".join(missing) or None


# The contestant by whose time the others' are divided.
REFERENCE = "PyTorch peer, eager"
# What the exports' benchmark times: a file and its runtime each, by what the table calls them.
CONTESTANTS = {
    **{f"LiteRT, {name}": Contestant(f"model_{name}.tflite", "litert") for name in PRECISIONS},
    "LiteRT, float32, plain conversion": Contestant("plain_float32.tflite", "litert"),
    "LiteRT, int8, plain conversion": Contestant("plain_int8.tflite", "litert"),
    "ONNX Runtime": Contestant("model_float32.onnx", "onnxruntime"),
    "TensorFlow, SavedModel": Contestant("saved_model", "tensorflow"),
    "Keras on TensorFlow": Contestant("model.keras", "keras", "tensorflow"),
    "Keras on JAX": Contestant("model.keras", "keras", "jax"),
    "Keras on PyTorch": Contestant("model.keras", "keras", "torch"),
    REFERENCE: Contestant("peer.pt", "torch"),
    "PyTorch peer, torch.compile": Contestant("peer.pt", "torch.compile"),
    "PyTorch peer, ONNX Runtime": Contestant("peer.onnx", "onnxruntime"),
    "PyTorch peer, OpenVINO": Contestant("peer.onnx", "openvino"),
}


@dataclass(frozen=True)
class ExportRow:
    """The outcome of a contestant with so many threads.

    Args:
        contestant: A key of `CONTESTANTS`.
        threads: Processor cores, and threads of the runtime.
        file_bytes: Size of the file or folder.
        delegated_share: For LiteRT: share of the operators that XNNPACK computes.
        load_seconds: From the file to the first logits, imports aside.
        memory: The most that the process held in RAM, in bytes beyond what it held when the
            runtime was imported; `None` where the system does not tell.
        median_seconds: Of one image.
        p95_seconds: 95 % of the images took no longer.
        reference_seconds: The median of the peer in eager PyTorch with as many threads; `None`
            where the network has no peer.
    """

    contestant: str
    threads: int
    file_bytes: int
    delegated_share: float | None
    load_seconds: float
    memory: int | None
    median_seconds: float
    p95_seconds: float
    reference_seconds: float | None

    @property
    def ratio(self) -> float | None:
        """Median divided by the peer's in eager PyTorch, if there is one: below 1 is faster."""
        return self.median_seconds / self.reference_seconds if self.reference_seconds else None


def benchmark_exports(
    network: str = "lgmsnet",
    arguments: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    contestants: Sequence[str] = tuple(CONTESTANTS),
    repeats: int = 5,
    threads: Sequence[int] = (1, 2),
) -> list[ExportRow]:
    """Write the network in every format and time the files in their runtimes, in turns.

    It starts processes, so a script that calls it needs `if __name__ == "__main__":`. All
    contestants' processes live at once and take 7 GB for LGMSNet2D as published.

    Args:
        network: Its name.
        arguments: Those of its constructor; by default as it was first published.
        input_shape: Sides and channels of an image or volume; by default as published.
        num_classes: Classes of its output; by default as published.
        contestants: Keys of `CONTESTANTS`. Those that cannot take part, which `left_out` tells,
            are left out; the reference takes part wherever there is one.
        repeats: Turns of each contestant, ten timed calls each.
        threads: Numbers of threads, one after the other.

    Returns:
        A row for each number of threads and contestant.

    Raises:
        ValueError: If a contestant is unknown, a number is not positive, processes cannot be
            limited to cores on this system, or the network cannot be built, or there is none of
            that name.
        ModuleNotFoundError: If a package of the `export` extra, or PyTorch, is not installed.

    Example:
    ```python
    rows = benchmark_exports("unet", contestants=["LiteRT, int8"], threads=[2])
    print(format_export_table(rows))
    ```
    """
    if unknown := [name for name in contestants if name not in CONTESTANTS]:
        raise ValueError(
            f"The contestants are {'; '.join(CONTESTANTS)}. Received: {'; '.join(unknown)}"
        )
    if repeats < 1:
        raise ValueError(f"repeats must be positive. Received: repeats={repeats}")
    for number in threads:
        require_threads(number)
    case = _choose_case(network, arguments, input_shape, num_classes)
    require_installed()
    if peers.has(network) and not_installed(["torch"]):
        raise ModuleNotFoundError(
            "The peer needs PyTorch: pip install 'keras-lgmsnet[torch]'.", name="torch"
        )
    names = {*contestants, REFERENCE}
    chosen = {
        name: contestant
        for name, contestant in CONTESTANTS.items()
        if name in names and not contestant.missing(case)
    }
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        track(label="Writing the files", unit="call") as progress,
    ):
        shares = _write(Path(folder), chosen, case)
        progress.reset(total=len(threads) * len(chosen) * (1 + repeats * CALLS))
        for number in threads:
            rows += _time(Path(folder), chosen, shares, case, repeats, number, progress)
    return rows


def left_out(
    network: str = "lgmsnet",
    *,
    input_shape: tuple[int, ...] | None = None,
    contestants: Sequence[str] = tuple(CONTESTANTS),
) -> dict[str, str]:
    """Return those contestants that cannot take part, and what each would need.

    Args:
        network: The network's name.
        input_shape: Sides and channels of an image or volume; by default as published.
        contestants: Keys of `CONTESTANTS`.
    """
    case = _choose_case(network, None, input_shape, None)
    missing = {name: CONTESTANTS[name].missing(case) for name in contestants}
    return {name: needed for name, needed in missing.items() if needed}


def format_export_table(rows: Sequence[ExportRow]) -> str:
    """Return the rows as a Markdown table."""
    header = (
        *("network in its runtime", "threads", "file MB", "on XNNPACK", "first ms", "RAM MB"),
        *("median ms", "95 % ms", "ratio"),
    )
    lines = [
        (
            row.contestant,
            str(row.threads),
            f"{row.file_bytes / 1e6:.2f}",
            "–" if row.delegated_share is None else f"{100 * row.delegated_share:.1f} %",
            milliseconds(row.load_seconds),
            megabytes(row.memory),
            milliseconds(row.median_seconds),
            milliseconds(row.p95_seconds),
            ratio(row.ratio),
        )
        for row in rows
    ]
    return markdown_table(header, lines)


def _choose_case(
    network: str,
    arguments: Mapping[str, Any] | None,
    input_shape: tuple[int, ...] | None,
    num_classes: int | None,
) -> Case:
    """Return what is timed: a forward pass on an image, or a volume where there are only those."""
    cases = network_cases(network, arguments, input_shape=input_shape, num_classes=num_classes)
    return next(iter(cases.values()))


def _write(folder: Path, contestants: dict[str, Contestant], case: Case) -> dict[str, float]:
    """Write the contestants' files; return the delegated share of each that is for LiteRT."""
    files = sorted({contestant.file for contestant in contestants.values()})
    try:
        with start_worker("tensorflow", None, gpu=False) as worker:
            weights, shares = worker.submit(_write_ours, str(folder), files, case).result()
        if weights:
            with start_worker(None, None, gpu=False) as worker:
                worker.submit(_write_peer, str(folder), files, case, weights).result()
    except ValueError as error:
        raise ValueError(f"The network cannot be written. {error}") from error
    return shares


def _time(
    folder: Path,
    contestants: dict[str, Contestant],
    shares: dict[str, float],
    case: Case,
    repeats: int,
    threads: int,
    progress: tqdm,
) -> list[ExportRow]:
    """Let all contestants take turns."""
    progress.set_description(
        f"Timing with {threads} threads" if threads > 1 else "Timing with 1 thread"
    )
    imported, loaded = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(start_worker(contestant.backend, threads, gpu=False))
            for name, contestant in contestants.items()
        }
        tasks = {
            name: (contestant.runtime, str(folder / contestant.file), case.input_shape, threads)
            for name, contestant in contestants.items()
        }
        for name, worker in workers.items():
            packages = RUNTIMES[contestants[name].runtime].imports
            if contestants[name].backend:
                packages += (case.entry.module,)
            imported[name] = worker.submit(import_packages, *packages).result()
            loaded[name] = worker.submit(_load, *tasks[name]).result()
            progress.update()
        for _ in range(repeats):
            for name, worker in workers.items():
                seconds[name] += worker.submit(_time_calls, *tasks[name]).result()
                progress.update(CALLS)
        memory = {
            name: worker.submit(peak_memory, imported[name]).result()
            for name, worker in workers.items()
        }
    reference = statistics.median(seconds[REFERENCE]) if REFERENCE in seconds else None
    return [
        ExportRow(
            contestant=name,
            threads=threads,
            file_bytes=size_on_disk(folder / contestant.file),
            delegated_share=shares.get(contestant.file),
            load_seconds=loaded[name],
            memory=memory[name],
            median_seconds=statistics.median(seconds[name]),
            p95_seconds=float(np.percentile(seconds[name], 95)),
            reference_seconds=reference,
        )
        for name, contestant in contestants.items()
    ]


# What follows runs in the workers, which import nothing but their own runtime, and keep what it
# opened between calls: one file, since a worker has one contestant.


def _write_ours(
    folder: str, files: Sequence[str], case: Case
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Write our network; return its peer's weights, and XNNPACK's share of each LiteRT file."""
    import keras
    import tensorflow as tf

    from keras_lgmsnet.checkpoints import torch_state_dict
    from keras_lgmsnet.export.deployment import deploy
    from keras_lgmsnet.export.litert import inspect_tflite, trace
    from keras_lgmsnet.export.writers import write

    keras.utils.set_random_seed(0)
    network = case.create_network()
    deployed = deploy(network)
    noise = np.random.default_rng(0).normal(size=(8, *case.input_shape)).astype("float32")

    def write_export(format_: str, precision: str = "float32") -> None:
        metadata = {"output": {"name": "logits"}}
        images = noise if precision == "int8" else None
        write(deployed, Path(folder), format_, precision, metadata, images)

    def write_plain(precision: str) -> None:
        function, variables = trace(network)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], variables)
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in noise)
        Path(folder, f"plain_{precision}.tflite").write_bytes(converter.convert())

    writers: dict[str, Callable[[], Any]] = {
        "model.keras": lambda: network.save(f"{folder}/model.keras"),
        "model_float32.onnx": lambda: write_export("onnx"),
        "saved_model": lambda: write_export("saved_model"),
        **{
            f"model_{precision}.tflite": functools.partial(write_export, "tflite", precision)
            for precision in PRECISIONS
        },
        "plain_float32.tflite": lambda: write_plain("float32"),
        "plain_int8.tflite": lambda: write_plain("int8"),
    }
    for file in writers.keys() & set(files):
        writers[file]()
    shares = {
        path.name: inspect_tflite(path.read_bytes()).delegated_share
        for path in Path(folder).glob("*.tflite")
    }
    return torch_state_dict(network) if peers.has(case.network) else {}, shares


def _write_peer(
    folder: str, files: Sequence[str], case: Case, weights: dict[str, np.ndarray]
) -> None:
    """Write the peer with these weights."""
    import torch

    peer = case.create_peer().eval()
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    peer.load_state_dict(tensors, strict=False)  # without the batches that each norm has seen
    torch.save({"case": asdict(case), "weights": peer.state_dict()}, f"{folder}/peer.pt")
    if "peer.onnx" in files:
        torch.onnx.export(
            peer,
            (torch.zeros(1, case.input_shape[-1], *case.input_shape[:-1]),),
            f"{folder}/peer.onnx",
            input_names=["image"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )


def _load(runtime: str, path: str, input_shape: tuple[int, ...], threads: int) -> float:
    """Return the seconds from a file to its first logits."""
    start = time.perf_counter()
    _call(runtime, path, input_shape, threads)()
    return time.perf_counter() - start


def _time_calls(runtime: str, path: str, input_shape: tuple[int, ...], threads: int) -> list[float]:
    """Return the seconds of each call, after one to settle."""
    call = _call(runtime, path, input_shape, threads)
    call()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


@functools.cache
def _call(
    runtime: str, path: str, input_shape: tuple[int, ...], threads: int
) -> Callable[[], np.ndarray]:
    """Return what computes the logits of an image of noise."""
    image = np.random.default_rng(1).normal(size=(1, *input_shape)).astype("float32")
    if Path(path).name.startswith("peer"):
        image = channels_first(image)
    predict = RUNTIMES[runtime].open(path, threads)
    return lambda: predict(image)

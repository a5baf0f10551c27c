"""Times the networks beside plain PyTorch: `lgms-benchmark`.

Keras takes one backend a process, so every backend has a process of its own, and so has the
peer, the plain-PyTorch network. One backend after the other takes turns with its reference, one
step each, so that whatever else slows the machine meets both alike, and the medians are compared,
and the peak memory of the two. No more than these two processes live at a time: all four would not
fit into the memory of a small machine. A forward pass is what `model.predict_on_batch` does, a
training step what `model.train_on_batch` does with a network as it arrives, from NumPy arrays to
NumPy results; the peer runs eagerly and does the same.
"""

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from keras_lgmsnet.benchmark import peers
from keras_lgmsnet.benchmark.cases import DEFAULT_CASES, Case
from keras_lgmsnet.benchmark.machine import (
    BACKENDS,
    default_device,
    megabytes,
    milliseconds,
    ratio,
)
from keras_lgmsnet.benchmark.peer_steps import peer_step
from keras_lgmsnet.benchmark.workers import (
    import_packages,
    peak_memory,
    require_threads,
    start_worker,
)
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.tables import markdown_table

if TYPE_CHECKING:
    import keras

PEER = "peer"


@dataclass(frozen=True)
class Row:
    """The outcome of a case on a backend.

    Times are medians, in seconds. Memory is the most that the process held in RAM from before the
    network was built until it was timed, compilation included, in bytes beyond what it held when
    everything was imported; `None` where the system does not tell (it does on Linux). A GPU's own
    memory is not counted. Where nothing is there to compare with, the reference, its time and its
    memory are `None`, and so are the ratios.
    """

    case: str
    backend: str
    device: str
    parameters: int
    multiply_adds: int
    batch_size: int
    seconds: float
    memory: int | None
    reference: str | None
    reference_seconds: float | None
    reference_memory: int | None

    @property
    def images_per_second(self) -> float:
        """Images, or volumes, a second."""
        return self.batch_size / self.seconds

    @property
    def ratio(self) -> float | None:
        """Time divided by the reference's: below 1 is faster."""
        return self.seconds / self.reference_seconds if self.reference_seconds else None

    @property
    def memory_ratio(self) -> float | None:
        """Memory divided by the reference's: below 1 is less."""
        if not self.memory or not self.reference_memory:
            return None
        return self.memory / self.reference_memory


def benchmark(
    backends: Sequence[str] = BACKENDS,
    cases: Mapping[str, Case] = DEFAULT_CASES,
    repeats: int = 5,
    threads: int | None = None,
) -> list[Row]:
    """Time each case on each backend beside its reference.

    It starts processes, so a script that calls it needs `if __name__ == "__main__":`.

    Args:
        backends: Keras backends: `"tensorflow"`, `"jax"`, `"torch"`.
        cases: What to time, by name; `network_cases` returns those of a network.
        repeats: Timed steps of each contestant, after two to warm up.
        threads: Processor cores that each process may use (Linux), by default all.

    Returns:
        A row for each case and backend.

    Raises:
        ValueError: When a backend is unknown or not installed, a number is not positive, or a
            case's network cannot be built.

    Example:
    ```python
    rows = benchmark(["jax"], {"64 pixels": Case((64, 64, 3), batch_size=4)})
    print(format_table(rows))
    ```
    """
    _require_installed(backends, cases.values())
    if repeats < 1:
        raise ValueError(f"repeats must be positive. Received: repeats={repeats}")
    require_threads(threads)
    _require_arguments(backends[0], cases)
    rows = []
    rounds = len(cases) * len(backends) * (repeats + 1)
    with track(label="Timing", unit="round", total=rounds) as progress:
        for name, case in cases.items():
            for backend in backends:
                progress.set_description(f"{name}, {backend}")
                with (
                    start_worker(backend, threads) as ours,
                    start_worker(backend if case.depthwise else None, threads) as reference,
                ):
                    rows.append(_time_case(name, case, backend, ours, reference, repeats, progress))
    return rows


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = (
        *("case", "backend", "device", "parameters", "multiply-adds"),
        *("ms", "images/s", "MB", "reference", "its ms", "its MB", "time ratio", "memory ratio"),
    )
    lines = [
        (
            row.case,
            row.backend,
            row.device,
            f"{row.parameters:,}",
            f"{row.multiply_adds / 1e9:.2f} G",
            milliseconds(row.seconds),
            f"{row.images_per_second:.3g}",
            megabytes(row.memory),
            row.reference or "–",
            milliseconds(row.reference_seconds),
            megabytes(row.reference_memory),
            ratio(row.ratio),
            ratio(row.memory_ratio),
        )
        for row in rows
    ]
    return markdown_table(header, lines)


def _time_case(
    name: str,
    case: Case,
    backend: str,
    ours: Executor,
    reference: Executor,
    repeats: int,
    progress: tqdm,
) -> Row:
    """Let a backend and its reference take turns."""
    reference_name: str | None = None
    if case.depthwise is not None:
        packages = dict.fromkeys(("layer", "native"), "keras_lgmsnet.layers")
        reference_name = f"Conv3D(groups={case.input_shape[-1]})"
    elif peers.has(case.network):
        packages = {"network": case.entry.module, PEER: "torch"}
        reference_name = f"{case.entry.title} in PyTorch"
    else:
        packages = {"network": case.entry.module}
    # A process that is given nothing to do, for want of a reference, never starts.
    contestants = tuple(zip((ours, reference), packages, strict=False))

    imported = [
        process.submit(import_packages, packages[subject]).result()
        for process, subject in contestants
    ]
    for process, subject in contestants:
        try:
            process.submit(_build, case, subject).result()
        except ValueError as error:
            raise ValueError(f"Case {name} cannot be built. {error}") from error
    for process, subject in contestants:
        process.submit(_warm_up, case, subject).result()
    progress.update()
    rounds = []
    for _ in range(repeats):
        rounds.append(
            [process.submit(_time_step, case, subject).result() for process, subject in contestants]
        )
        progress.update()

    seconds, *others_seconds = map(statistics.median, zip(*rounds, strict=True))
    memory, *others_memory = (
        process.submit(peak_memory, before).result()
        for (process, _), before in zip(contestants, imported, strict=True)
    )
    parameters, multiply_adds = ours.submit(_complexity, case).result()
    return Row(
        case=name,
        backend=backend,
        device=ours.submit(default_device, backend).result(),
        parameters=parameters,
        multiply_adds=multiply_adds,
        batch_size=case.batch_size,
        seconds=seconds,
        memory=memory,
        reference=reference_name,
        reference_seconds=next(iter(others_seconds), None),
        reference_memory=next(iter(others_memory), None),
    )


def _require_installed(backends: Sequence[str], cases: Iterable[Case]) -> None:
    if not backends:
        raise ValueError(f"Name at least one backend. Received: backends={tuple(backends)}")
    for backend in backends:
        if backend not in BACKENDS:
            raise ValueError(f"Backends are {', '.join(BACKENDS)}. Received: backend={backend!r}")
    needs_peer = any(case.depthwise is None and peers.has(case.network) for case in cases)
    for package in (*backends, "torch") if needs_peer else backends:
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"The benchmark needs {package}: pip install 'keras-lgmsnet[{package}]'. "
                f"Received: backends={tuple(backends)}"
            )


def _require_arguments(backend: str, cases: Mapping[str, Case]) -> None:
    """Raise `ValueError` unless the networks have their arguments, before any time is spent."""
    if not any(case.arguments for case in cases.values()):
        return
    with start_worker(backend, None) as worker:
        for name, case in cases.items():
            try:
                worker.submit(case.require_arguments).result()
            except ValueError as error:
                raise ValueError(f"Case {name} cannot be built. {error}") from error


# What follows runs in the workers, and what is cached is kept between calls: one thing, since a
# worker has one case and one subject. It is the workers that import Keras or PyTorch: the calling
# process needs neither.


def _build(case: Case, subject: str) -> None:
    _step(case, subject)


def _warm_up(case: Case, subject: str) -> None:
    step = _step(case, subject)
    for _ in range(2):
        step()


def _time_step(case: Case, subject: str) -> float:
    step = _step(case, subject)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


@functools.cache
def _step(case: Case, subject: str) -> Callable[[], Any]:
    if subject == PEER:
        step = peer_step(case, *case.draw_batch())
        return lambda: step().cpu()  # which waits until it is computed
    return case.keras_step(_keras_model(case, subject))


@functools.cache
def _keras_model(case: Case, subject: str) -> "keras.Model":
    import keras

    from keras_lgmsnet.layers import DepthwiseConv

    if case.depthwise is None:
        return case.create_network()
    channels = case.input_shape[-1]
    if subject == "layer":
        layer = DepthwiseConv(case.depthwise)
    else:
        layer = keras.layers.Conv3D(channels, case.depthwise, groups=channels, padding="same")
    pointwise = keras.layers.Dense(channels)
    model = keras.Sequential([keras.Input(case.input_shape), pointwise, layer])
    model.compile("sgd", "mse")
    return model


def _complexity(case: Case) -> tuple[int, int]:
    """Return the parameters and multiply-adds of what is timed."""
    from keras_lgmsnet.models.complexity import count

    if case.depthwise is None:
        parameters, multiply_adds = count(_keras_model(case, "network"))
    else:
        parameters, multiply_adds = count(_keras_model(case, "layer").layers[-1])
    # Not as a `Complexity`: to unpickle one, the calling process would have to import Keras.
    return parameters, multiply_adds

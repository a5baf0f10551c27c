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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from keras_lgmsnet.benchmark.machine import BACKENDS, default_device, megabytes, milliseconds
from keras_lgmsnet.benchmark.workers import (
    import_packages,
    peak_memory,
    require_threads,
    start_worker,
)
from keras_lgmsnet.kinds import Kind, kind_of_rank
from keras_lgmsnet.tables import markdown_table

if TYPE_CHECKING:
    import keras
    import torch

    from keras_lgmsnet.benchmark.peers.lgmsnet import LGMSNet

    PeerLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

PEER = "peer"


@dataclass(frozen=True)
class Case:
    """What to time: a network or a depthwise layer, its input, and whether it trains.

    Args:
        input_shape: Sides and channels of one image or volume.
        batch_size: Images in a step.
        training: Time a training step; otherwise a forward pass.
        num_classes: Classes of the network's output.
        dims: Channels of the network's five stages.
        depthwise: Odd kernel size of a 3D depthwise layer to time instead of a network. Its
            reference is `keras.layers.Conv3D` with a group for each channel, on the same backend.
            A pointwise dense layer precedes either, so that a training step needs the gradient
            of the layer's input too.
    """

    input_shape: tuple[int, ...]
    batch_size: int = 1
    training: bool = False
    num_classes: int = 1
    dims: tuple[int, ...] = (16, 32, 64, 128, 128)
    depthwise: int | None = None

    @property
    def kind(self) -> Kind:
        """Images or volumes, by the number of sides."""
        return kind_of_rank(len(self.input_shape) - 1)


CASES = {
    "depthwise-3d": Case((48, 48, 48, 4), training=True, depthwise=9),
    "forward-2d": Case((256, 256, 3)),
    "training-2d": Case((256, 256, 3), batch_size=8, training=True),
    "forward-3d": Case((96, 96, 96, 1), num_classes=14),
    "training-3d": Case((96, 96, 96, 1), num_classes=14, training=True),
}
# A training step of the 3D network takes minutes on a CPU.
DEFAULT_CASES = {name: case for name, case in CASES.items() if name != "training-3d"}


@dataclass(frozen=True)
class Row:
    """The outcome of a case on a backend.

    Times are medians, in seconds. Memory is the most that the process held in RAM from before the
    network was built until it was timed, compilation included, in bytes beyond what it held when
    everything was imported; `None` where the system does not tell (it does on Linux). A GPU's own
    memory is not counted.
    """

    case: str
    backend: str
    device: str
    parameters: int
    multiply_adds: int
    batch_size: int
    seconds: float
    memory: int | None
    reference: str
    reference_seconds: float
    reference_memory: int | None

    @property
    def images_per_second(self) -> float:
        """Images, or volumes, a second."""
        return self.batch_size / self.seconds

    @property
    def ratio(self) -> float:
        """Time divided by the reference's: below 1 is faster."""
        return self.seconds / self.reference_seconds

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
        cases: What to time, by name; `CASES` holds those of the published networks.
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
    _require_backends(backends)
    if repeats < 1:
        raise ValueError(f"repeats must be positive. Received: repeats={repeats}")
    require_threads(threads)
    rows = []
    with tqdm(total=len(cases) * len(backends) * (repeats + 1), unit="round") as progress:
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
            row.reference,
            milliseconds(row.reference_seconds),
            megabytes(row.reference_memory),
            f"{row.ratio:.3g}",
            "–" if row.memory_ratio is None else f"{row.memory_ratio:.3g}",
        )
        for row in rows
    ]
    return markdown_table(header, lines)


def create_network(
    input_shape: tuple[int, ...], num_classes: int, dims: tuple[int, ...]
) -> "keras.Model":
    """Return our network for images or volumes of a shape, with random weights."""
    from keras_lgmsnet.models import create

    return create("lgmsnet", input_shape=input_shape, num_classes=num_classes, dims=dims)


def channels_first(batch: np.ndarray) -> np.ndarray:
    """Return a batch whose channels are last as PyTorch takes it."""
    return np.ascontiguousarray(np.moveaxis(batch, -1, 1))


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
    if case.depthwise is None:
        subjects, reference_name = ("network", PEER), "PyTorch peer"
        packages = {
            "network": "keras_lgmsnet.models.lgmsnet",
            PEER: "keras_lgmsnet.benchmark.peers.lgmsnet",
        }
    else:
        subjects, reference_name = ("layer", "native"), f"Conv3D(groups={case.input_shape[-1]})"
        packages = dict.fromkeys(subjects, "keras_lgmsnet.layers")
    contestants = tuple(zip((ours, reference), subjects, strict=True))

    imported = [
        process.submit(import_packages, packages[subject]).result()
        for process, subject in contestants
    ]
    for process, subject in contestants:
        try:
            process.submit(_build, case, subject).result()
        except ValueError as error:
            raise ValueError(f"Case {name} cannot be built. {error}") from error
        process.submit(_warm_up, case, subject).result()
    progress.update()
    rounds = []
    for _ in range(repeats):
        rounds.append(
            [process.submit(_time_step, case, subject).result() for process, subject in contestants]
        )
        progress.update()

    seconds, reference_seconds = map(statistics.median, zip(*rounds, strict=True))
    memory, reference_memory = (
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
        reference_seconds=reference_seconds,
        reference_memory=reference_memory,
    )


def _require_backends(backends: Sequence[str]) -> None:
    if not backends:
        raise ValueError(f"Name at least one backend. Received: backends={tuple(backends)}")
    for backend in backends:
        if backend not in BACKENDS:
            raise ValueError(f"Backends are {', '.join(BACKENDS)}. Received: backend={backend!r}")
    for package in (*backends, "torch"):  # the peer needs PyTorch
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"The benchmark needs {package}: pip install 'keras-lgmsnet[{package}]'. "
                f"Received: backends={tuple(backends)}"
            )


# What follows runs in the workers, of which each has one case and subject, and keeps it between
# calls. It is the workers that import Keras or PyTorch: the calling process needs neither.


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
    return _peer_step(case) if subject == PEER else _keras_step(case, subject)


def _keras_step(case: Case, subject: str) -> Callable[[], Any]:
    model = _keras_model(case, subject)
    images, targets = _batch(case)
    if case.training:
        return lambda: model.train_on_batch(images, targets)
    return lambda: model.predict_on_batch(images)


@functools.cache
def _keras_model(case: Case, subject: str) -> "keras.Model":
    import keras

    from keras_lgmsnet.layers import DepthwiseConv

    if case.depthwise is None:
        return create_network(case.input_shape, case.num_classes, case.dims)
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


def _peer_step(case: Case) -> Callable[[], Any]:
    import torch

    from keras_lgmsnet.benchmark.peers.lgmsnet import LGMSNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    channels = case.input_shape[-1]
    network = LGMSNet(case.kind.rank, channels, case.num_classes, case.dims).to(device)
    images, targets = _batch(case)
    images = channels_first(images)
    if not case.training:
        network.eval()

        @torch.inference_mode()
        def forward() -> np.ndarray:
            return network(torch.from_numpy(images).to(device)).cpu().numpy()

        return forward

    prepare = case.kind.choose(images=_peer_training_on_images, volumes=_peer_training_on_volumes)
    targets, optimizer, loss_function = prepare(network, targets)

    def train() -> float:
        logits = network(torch.from_numpy(images).to(device))
        loss = loss_function(logits, torch.from_numpy(targets).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def _peer_training_on_images(
    network: "LGMSNet", masks: np.ndarray
) -> "tuple[np.ndarray, torch.optim.Optimizer, PeerLoss]":
    """Return the targets, the optimizer and the loss of the published training in PyTorch."""
    import torch

    from keras_lgmsnet.benchmark import torch_losses

    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    return channels_first(masks), optimizer, torch_losses.bce_dice_loss


def _peer_training_on_volumes(
    network: "LGMSNet", labels: np.ndarray
) -> "tuple[np.ndarray, torch.optim.Optimizer, PeerLoss]":
    """Return the targets, the optimizer and the loss of the published training in PyTorch."""
    import torch

    from keras_lgmsnet.benchmark import torch_losses

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5)
    return labels.astype("int64"), optimizer, torch_losses.dice_ce_loss


def _batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, channels last, with targets as the case's loss takes them."""
    generator = np.random.default_rng(0)
    images = generator.random((case.batch_size, *case.input_shape), "float32")
    if case.depthwise is not None:
        return images, images
    draw = case.kind.choose(images=_draw_masks, volumes=_draw_labels)
    return images, draw(generator, case)


def _draw_masks(generator: np.random.Generator, case: Case) -> np.ndarray:
    shape = (case.batch_size, *case.input_shape[:-1], case.num_classes)
    return generator.integers(0, 2, shape).astype("float32")


def _draw_labels(generator: np.random.Generator, case: Case) -> np.ndarray:
    shape = (case.batch_size, *case.input_shape[:-1])
    return generator.integers(0, case.num_classes, shape, "int32")

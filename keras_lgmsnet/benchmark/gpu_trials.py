"""What the report on a GPU measures, in a worker: see `keras_lgmsnet.benchmark.gpu`.

Importing this module imports neither Keras nor a backend: a worker has its own alone.
"""

import functools
import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lgmsnet.benchmark.cases import Case
from keras_lgmsnet.benchmark.computation import compiled, fastest
from keras_lgmsnet.benchmark.machine import default_device
from keras_lgmsnet.benchmark.peer_steps import peer_step
from keras_lgmsnet.process import memory

if TYPE_CHECKING:
    import keras

# Keras's policies, from the least memory to the most.
PRECISIONS = ("mixed_bfloat16", "mixed_float16", "float32")
# A loss scale with which gradients overflow in float16, but not the loss itself in float32.
OVERFLOWING_SCALE = 2.0**100


@dataclass(frozen=True)
class Trial:
    """A network to measure.

    Args:
        case: The network, its input, and whether it trains.
        precision: One of `PRECISIONS`; of the peer, that of automatic mixed precision.
        peer: Whether it is the network in plain PyTorch.
        compiled: Whether by `torch.compile`.
        steps: How often it trains on one batch before it is timed.
        seconds: How long it is timed.
    """

    case: Case
    precision: str = "float32"
    peer: bool = False
    compiled: bool = False
    steps: int = 2
    seconds: float = 1.0

    @property
    def labels(self) -> dict[str, Any]:
        """What names it in the report."""
        name = "plain PyTorch" if self.peer else "ours"
        return {
            "network": f"{name}, torch.compile" if self.compiled else name,
            "input_shape": list(self.case.input_shape),
            "pass": "training" if self.case.training else "forward",
            "batch_size": self.case.batch_size,
            "precision": self.precision,
        }


def describe_card(sizes: tuple[int, int]) -> dict[str, Any]:
    """Return the backend's device, and how fast it copies and multiplies at best.

    Args:
        sizes: Megabytes to copy, and the side of the square matrices to multiply.

    Returns:
        The device, its name and memory, the bytes a second that a copy reads and writes, and the
        operations a second of a product in each precision: two for every multiply-add.
    """
    import keras

    backend = keras.backend.backend()
    megabytes, side = sizes
    values = {"device": default_device(backend), **_card(backend)}
    # Of elements in float32, each read and written.
    numbers = np.zeros(megabytes * 10**6 // 4, "float32")
    copy = compiled(lambda array: array + 1)
    array = keras.ops.convert_to_tensor(numbers)
    seconds = fastest(lambda: copy(array))
    values["bytes_per_second"] = 2 * numbers.nbytes / seconds
    if backend == "torch":
        import torch

        # In TF32, as its convolutions multiply on a GPU, and JAX's.
        torch.set_float32_matmul_precision("high")
    multiply = compiled(keras.ops.matmul)
    for precision in PRECISIONS:
        dtype = precision.removeprefix("mixed_")
        matrix = keras.ops.ones((side, side), dtype)
        seconds = fastest(functools.partial(multiply, matrix, matrix))
        values[f"{precision}_flops"] = 2 * side**3 / seconds
    return values


def measure(trial: Trial) -> dict[str, Any]:
    """Return images a second and peak memory of a network that trains, or computes forward.

    Of a training also the loss of the first and the last step, whether it fell and all weights
    are numbers; and in float16, whether the loss scale does what it is for.
    """
    _forget(trial)
    backend = "torch" if trial.peer else _backend()
    held_before = memory.most_held_on_gpu(backend)
    images, targets = draw_images(trial.case)
    if trial.peer:
        values, run = _peer(trial, images, targets)
    elif trial.case.training:
        values, run = _training(trial, images, targets)
    else:
        values, run = {}, _predict(_network(trial), images)
    seconds = _seconds_a_step(run, trial.seconds)
    values["seconds"] = seconds
    values["images_per_second"] = trial.case.batch_size / seconds
    held = memory.most_held_on_gpu(backend)
    # JAX's is that of the whole process: unknown if this network did not take more than another.
    values["memory"] = held if held is not None and held > (held_before or 0) else None
    return values


def agree(trial: Trial) -> dict[str, Any]:
    """Return how far a network's logits are from those that the CPU computes in float32.

    Both have the same weights. Differences are in units of the CPU's logits' standard deviation.
    """
    _forget(trial)
    exact, logits = _logits_on_cpu(trial.case), _logits(trial)
    difference = np.abs(logits - exact) / exact.std()
    return {
        "finite": bool(np.isfinite(logits).all()),
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
    }


def feed(case_and_augmentation: tuple[Case, str]) -> dict[str, Any]:
    """Return how many images a second the input pipeline makes."""
    from keras_lgmsnet.benchmark.pipeline import time_pipeline

    case, augmentation = case_and_augmentation
    return {
        "augmentation": augmentation,
        "cores": os.cpu_count(),
        "images_per_second": 1 / time_pipeline(case, augmentation, repeats=1),
    }


def draw_images(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a brighter ball in each image, and the ball as mask or labels.

    It is drawn by NumPy alone, so that a bare machine can do it.
    """
    generator = np.random.default_rng(0)
    sides = np.array(case.input_shape[:-1])
    images = generator.normal(size=(case.batch_size, *case.input_shape)).astype("float32")
    grid = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1)
    inside = []
    for image in images:
        center = generator.uniform(0.3, 0.7, len(sides)) * sides
        radius = generator.uniform(0.15, 0.3) * sides.min()
        inside.append(np.linalg.norm(grid - center, axis=-1) < radius)
        image[inside[-1]] += 2
    ball = np.stack(inside)
    if not case.has_masks:
        return images, ball.astype("int32")
    masks = np.repeat(ball[..., None], case.num_classes, axis=-1)
    return images, masks.astype("float32")


def _training(
    trial: Trial, images: np.ndarray, targets: np.ndarray
) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """Train the Keras network; return what came of it, and what trains so many steps more."""
    import keras

    network = _network(trial)
    if trial.compiled:
        network.jit_compile = True

    def step() -> float:
        network.reset_metrics()  # else it returns the mean loss so far
        return float(network.train_on_batch(images, targets, return_dict=True)["loss"])

    values = _losses(step, trial.steps)
    values["finite"] &= all(
        np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in network.weights
    )
    if trial.precision == "mixed_float16":
        values |= _check_loss_scale(network, step, trial.steps)
    values["multiply_adds"] = 3 * _multiply_adds(network)  # the gradient takes twice as many
    # Outputs are written and read, and read again for their gradients, which are both, too.
    size = 4 if trial.precision == "float32" else 2
    values["device_bytes"] = 5 * size * _values(network)

    def run(number: int) -> None:
        batches = (batch for batch in itertools.repeat((images, targets)))
        network.fit(batches, steps_per_epoch=number, shuffle=False, verbose=0)

    return values, run


def _peer(
    trial: Trial, images: np.ndarray, targets: np.ndarray
) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """Do the same with the network in plain PyTorch, of which only the last step is waited for."""
    step = peer_step(
        trial.case, images, targets, precision=trial.precision, compiled=trial.compiled
    )
    values = {}
    if trial.case.training:
        values = _losses(lambda: step().item(), trial.steps)

    def run(number: int) -> None:
        for _ in range(number):
            result = step()
        result.cpu()

    return values, run


def _predict(network: "keras.Model", images: np.ndarray) -> Callable[[int], Any]:
    """Return what predicts a batch so often, from NumPy to NumPy."""

    def run(number: int) -> None:
        for _ in range(number):
            network.predict_on_batch(images)

    return run


def _losses(step: Callable[[], float], steps: int) -> dict[str, Any]:
    """Train on one batch; return whether that changes the loss as it should."""
    start = time.perf_counter()
    losses = [step()]
    first_step = time.perf_counter() - start
    losses += [step() for _ in range(steps - 1)]
    return {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "falls": losses[-1] < losses[0],
        "finite": bool(np.isfinite(losses).all()),
        "first_step_seconds": first_step,  # with all that is compiled
    }


def _check_loss_scale(
    network: "keras.Model", step: Callable[[], float], steps: int
) -> dict[str, Any]:
    """Return the loss scale after so many steps, and whether it does what it is for.

    It must have been halved once for every step that was left out, and be halved again, the
    weights being kept, in a step whose gradients overflow.
    """
    import keras

    optimizer = network.optimizer
    scale, applied = float(optimizer.dynamic_scale), int(optimizer.iterations)
    expected = optimizer.initial_scale / 2 ** (steps - applied)
    before = [keras.ops.convert_to_numpy(weight) for weight in network.trainable_weights]
    optimizer.dynamic_scale.assign(OVERFLOWING_SCALE)
    step()
    halved = float(optimizer.dynamic_scale) == OVERFLOWING_SCALE / 2
    kept = all(
        np.array_equal(keras.ops.convert_to_numpy(weight), values)
        for weight, values in zip(network.trainable_weights, before, strict=True)
    )
    optimizer.dynamic_scale.assign(scale)
    return {
        "loss_scale": scale,
        "steps_left_out": steps - applied,
        "loss_scale_works": scale == expected and halved and kept,
    }


@functools.cache
def _logits_on_cpu(case: Case) -> np.ndarray:
    """Return the logits of a network that the CPU computes in float32, by its own forms."""
    import keras

    from keras_lgmsnet.layers.forms import forced_device

    with keras.device("cpu:0"), forced_device("cpu"):
        return _logits(Trial(case))


def _logits(trial: Trial) -> np.ndarray:
    """Return the logits of a network whose weights are drawn in one way on every device."""
    network = _network(trial)
    generator = np.random.default_rng(0)
    for weight in network.trainable_weights:
        fan_in = math.prod(weight.shape[:-1])
        drawn = generator.normal(0, 1 / math.sqrt(fan_in), weight.shape)
        # A norm's scale lies about 1.
        weight.assign(0.1 * drawn + (weight.name == "gamma") if len(weight.shape) == 1 else drawn)
    images, _ = draw_images(trial.case)
    return network.predict_on_batch(images)


def _network(trial: Trial) -> "keras.Model":
    import keras

    keras.config.set_dtype_policy(trial.precision)
    keras.utils.set_random_seed(0)
    return trial.case.create_network()


def _multiply_adds(network: "keras.Model") -> int:
    """Return the multiply-adds of a forward pass of one image."""
    from keras_lgmsnet.models.complexity import count

    return count(network).multiply_adds


def _values(layer: Any, images: int = 1) -> int:
    """Return how many numbers the layers within a layer put out for one image."""
    from keras_lgmsnet.layers import SparseTransformer

    if isinstance(layer, SparseTransformer):
        images *= 2**layer.rank  # its inner layers see as many sequences
    inner = list(layer._flatten_layers(include_self=False, recursive=False))
    if inner:
        return sum(_values(part, images) for part in inner)
    shape = (layer.get_build_config() or {}).get("input_shape")
    return images * math.prod(layer.compute_output_shape(shape)[1:]) if shape else 0


def _forget(trial: Trial) -> None:
    """Give back the memory of the trial before, and count this one's from now on where possible."""
    gc.collect()
    if trial.peer or _backend() == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def _backend() -> str:
    import keras

    return keras.backend.backend()


def _card(backend: str) -> dict[str, Any]:
    """Return the GPU's name and memory in bytes, so far as the backend tells."""
    if backend == "torch":
        import torch

        if not torch.cuda.is_available():
            return {}
        card = torch.cuda.get_device_properties(0)
        return {
            "card": card.name,
            "card_memory": card.total_memory,
            "driver": f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
        }
    if backend == "jax":
        import jax

        device = jax.local_devices()[0]
        return {"card": device.device_kind, "driver": device.client.platform_version}
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return {}
    return {"card": tf.config.experimental.get_device_details(gpus[0]).get("device_name")}


def _seconds_a_step(run: Callable[[int], Any], seconds: float) -> float:
    """Return the seconds a step of what runs a number of steps, timed for about so long."""
    run(1)
    start = time.perf_counter()
    run(1)
    number = max(1, min(1000, round(seconds / 3 / (time.perf_counter() - start))))
    means = []
    for _ in range(3):
        start = time.perf_counter()
        run(number)
        means.append((time.perf_counter() - start) / number)
    return statistics.median(means)

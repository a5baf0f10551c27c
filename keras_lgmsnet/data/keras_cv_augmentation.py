"""keras-cv's layers as an augmentation: the one module that knows keras-cv."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.augmentation import Pair

# The layers that change one image, keep its size and know what to do with its mask, and the
# arguments that a layer must have here: images are 0 to 255, masks 0 or 1, and what comes from
# beyond an image's border is black and unlabelled unless its `fill_mode` says otherwise;
# RandomShear does not check its modes. Left out: layers that mix images; layers made of layers;
# RandomCrop and the like, which have no masks; ChannelShuffle and Equalization, which cannot be
# compiled for images of any size; RandomJpegQuality, which takes images of 0 to 1 only.
_VALUE_RANGE = {"value_range": (0, 255)}
LAYERS: dict[str, dict[str, Any]] = {
    "RandomFlip": {},
    "RandomRotation": {"segmentation_classes": 2, "fill_value": 0.0},
    "RandomShear": {"fill_value": 0.0, "fill_mode": "constant", "interpolation": "bilinear"},
    "RandomTranslation": {"fill_value": 0.0},
    "RandomZoom": {"fill_value": 0.0},
    "GridMask": {"fill_mode": "constant"},
    "RandomCutout": {"fill_mode": "constant"},
    "AutoContrast": _VALUE_RANGE,
    "Grayscale": {"output_channels": 3},
    "Posterization": _VALUE_RANGE,
    "RandomBrightness": _VALUE_RANGE,
    "RandomChannelShift": _VALUE_RANGE,
    "RandomColorDegeneration": {},
    "RandomColorJitter": _VALUE_RANGE,
    "RandomContrast": _VALUE_RANGE,
    "RandomGaussianBlur": {},
    "RandomHue": _VALUE_RANGE,
    "RandomSaturation": {},
    "RandomSharpness": _VALUE_RANGE,
    "Solarization": _VALUE_RANGE,
}


class KerasCVAugmentation:
    """Random changes to an image and its mask by keras-cv's layers, one after the other.

    It is called as `keras_lgmsnet.data.augmentation.Augmentation` is, on every backend, and as
    reproducible: all that the layers draw follows from one number that the call draws from its
    `rng`. Equal states of `rng` give equal results to the last bit on every backend, whatever ran
    before, in this process or another, with the same versions of TensorFlow and keras-cv on the
    same kind of processor; elsewhere, arithmetic may round otherwise. TensorFlow's, Keras's and
    NumPy's global random states are neither read nor changed.

    Masks are moved to the nearest pixel; `RandomRotation` moves them as it moves images and takes
    the likelier label. Images keep their type: the layers compute in `float32` under any policy.

    The layers run in TensorFlow on the CPU. Where Keras has another backend, TensorFlow is kept
    off the GPU, whose memory it would fill; a program that has used TensorFlow on the GPU before
    keeps it there. An instance may be called from several threads, which take turns.

    Args:
        layers: Names of keras-cv's layers, in the order in which they are applied, and their
            arguments but for those that this class sets: `seed`, `dtype`, and whatever describes
            images and masks, such as `value_range` and `segmentation_classes`. The names are
            those of `LAYERS`.

    Raises:
        ValueError: If there is no layer, a name is not in `LAYERS`, or arguments are not allowed.
        ImportError: If keras-cv or TensorFlow is not installed.

    Example:
    ```python
    augment = KerasCVAugmentation(
        {"RandomFlip": {"mode": "horizontal"}, "RandomRotation": {"factor": 0.05}}
    )
    image, segmentation_mask = augment(image, segmentation_mask, np.random.default_rng(41))
    ```
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        _check(layers)
        tf, keras_cv = _import()
        self._lock = threading.Lock()
        with tf.device("CPU"):
            generator = tf.random.Generator.from_seed(0)
        built = {}
        for name, arguments in layers.items():
            with _naming(name, arguments):
                built[name] = _build(keras_cv, name, arguments, generator)
        image, segmentation_mask = (tf.TensorSpec((None, None, size), tf.uint8) for size in (3, 1))
        seed = tf.TensorSpec((), tf.int64)

        @tf.function(input_signature=(image, segmentation_mask, seed), autograph=False)
        def augment(image: Any, segmentation_mask: Any, seed: Any) -> tuple[Any, Any]:
            generator.reset_from_seed(seed)
            pair = {
                "images": tf.cast(image, tf.float32),
                "segmentation_masks": tf.cast(segmentation_mask, tf.float32),
            }
            for name, layer in built.items():
                with _naming(name, layers[name]):
                    pair = layer.call(pair)  # `__call__` would answer a mistake with pages
            image = tf.saturate_cast(tf.round(pair["images"]), tf.uint8)
            return image, tf.cast(pair["segmentation_masks"], tf.uint8)

        self._tf, self._augment = tf, augment
        with tf.device("CPU"):
            augment.get_concrete_function()  # some arguments are looked at in the call only

    def __call__(
        self, image: np.ndarray, segmentation_mask: np.ndarray, rng: np.random.Generator
    ) -> Pair:
        """Change both arrays in the same random way.

        Args:
            image: RGB, `uint8`, shape `(height, width, 3)`.
            segmentation_mask: 0 or 1, `uint8`, shape `(height, width, 1)`.
            rng: Source of all randomness: equal states give equal results.

        Returns:
            The changed image and mask, of the same shapes and dtypes.

        Raises:
            ValueError: If the mask has another number of classes.
        """
        if segmentation_mask.shape[-1] != 1:
            raise ValueError(
                "keras-cv's layers take masks of one class. "
                f"Received: segmentation_mask.shape={segmentation_mask.shape}"
            )
        seed = rng.integers(2**63)
        # The layers share the generator's state.
        with self._lock, self._tf.device("CPU"):
            changed_image, changed_mask = self._augment(image, segmentation_mask, seed)
        return changed_image.numpy(), changed_mask.numpy()


def _check(layers: Mapping[str, Mapping[str, Any]]) -> None:
    if not layers:
        raise ValueError("There must be at least one keras-cv layer. Received: none")
    for name, arguments in layers.items():
        if name not in LAYERS:
            raise ValueError(
                f"An augmentation by keras-cv is made of {', '.join(LAYERS)}. Received: {name!r}"
            )
        taken = [key for key in arguments if key in ("seed", "dtype", *LAYERS[name])]
        if taken:
            raise ValueError(
                f"{', '.join(taken)} of keras-cv's {name} may not be given: seeds follow from the "
                "training's, the rest from the images. "
                f"Received: {dict(arguments)}"
            )


def _import() -> tuple[Any, Any]:
    """Return TensorFlow and keras-cv."""
    try:
        import tensorflow as tf

        if keras.backend.backend() != "tensorflow":
            # Refused where TensorFlow is at work already: then its user wants it so.
            with contextlib.suppress(RuntimeError):
                tf.config.set_visible_devices([], "GPU")
        import keras_cv
    except ModuleNotFoundError as error:
        raise ImportError(
            f"An augmentation by keras-cv needs the package {error.name}: "
            "pip install 'keras-lgmsnet[keras-cv]'."
        ) from error
    return tf, keras_cv


@contextlib.contextmanager
def _naming(name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever a layer raises into one sentence about its arguments."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"keras-cv's {name} does not take these arguments: {type(error).__name__}: "
            f"{str(error).rstrip('. ')}. Received: {dict(arguments)}"
        ) from error


@contextlib.contextmanager
def _as_global(generator: Any) -> Iterator[None]:
    """Give layers that are built the generator where they ask for TensorFlow's global one.

    TensorFlow has none to give where its operations are deterministic, as in training.
    """
    import tensorflow as tf

    original = tf.random.get_global_generator
    tf.random.get_global_generator = lambda: generator
    try:
        yield
    finally:
        tf.random.get_global_generator = original


def _build(keras_cv: Any, name: str, arguments: Mapping[str, Any], generator: Any) -> Any:
    """Return a layer that computes in float32 and draws from the generator alone."""

    class Uniform(keras_cv.core.FactorSampler):
        """Draws as keras-cv's own does, which draws from TensorFlow's global state."""

        def __init__(self, lower: float, upper: float) -> None:
            self.lower, self.upper = lower, upper

        def __call__(self, shape: Any = (), dtype: str = "float32") -> Any:
            return generator.uniform(shape, self.lower, self.upper, dtype)

    with _as_global(generator):
        layer = getattr(keras_cv.layers, name)(**arguments, **LAYERS[name])
    for part in layer._flatten_layers():
        part.dtype_policy = "float32"
        part._random_generator = generator
        for attribute, value in list(vars(part).items()):
            if isinstance(value, keras_cv.core.UniformFactorSampler):
                setattr(part, attribute, Uniform(value.lower, value.upper))
    return layer

"""What all networks of the package share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_lgmsnet import losses, metrics, optimizers
from keras_lgmsnet.keras_settings import require_channels_last
from keras_lgmsnet.layers.base import require_positive
from keras_lgmsnet.models import registry


class SegmentationNetwork(keras.Model):
    """A functional Keras model from a batch of images or volumes to logits.

    It arrives compiled with the training that LGMSNet's paper gives every network it compares. For
    images: `optimizers.TorchSGD` at 0.02, decaying over the 57,000 steps of the ISIC run,
    `losses.BCEDiceLoss`, and per-image IoU and F1. For volumes: AdamW at 1e-3 with warm-up and
    cosine decay over the 120,000 steps of the BTCV run, `losses.DiceCELoss`, and the mean Dice over
    the foreground classes; with one class, which has no background to exclude, loss and metrics are
    those of images. `compile` with your own number of steps.

    A network inherits from it, is described in `keras_lgmsnet.models.registry`, and has

    - `rank`, and a constructor with the arguments `input_shape` and `num_classes` (with defaults),
      its own, which are plain values, and `**kwargs`. It checks its own arguments, calls `begin`,
      and builds the graph of layers, of this package or Keras's own: each with the `dtype` that
      `begin` returned but for the last, whose logits are float32, and with a name where figures
      look into it. It hands input and logits to this class's constructor and keeps its own
      arguments as attributes;
    - `get_config`, which adds its own arguments to this class's;
    - the decorator `@keras.saving.register_keras_serializable(package="keras_lgmsnet")`;
    - where it was published as a PyTorch program, `published_parts`, for its checkpoints.

    Some are trained with further logits beside their own, as of deeper levels. `fit` then adds the
    losses of all up, each against the same masks (and with each what layers add by `add_loss`);
    metrics, validation, prediction and exports know the network's own logits only. Of its weights
    those of the further heads are the last.

    Args:
        image: What `begin` returned.
        logits: Shape `(batch, *sides, num_classes)`, in float32.
        num_classes: Number of classes.
        dtype: What `begin` returned.
        auxiliary: Further logits of that shape, for training. Called with `training=True`, the
            network then returns a list: `[logits, *auxiliary]`.
        **kwargs: `name` and `trainable`, as for any Keras model.

    Example:
    ```python
    @keras.saving.register_keras_serializable(package="keras_lgmsnet")
    class Threshold2D(SegmentationNetwork):
        rank = 2

        def __init__(self, input_shape=(256, 256, 3), num_classes=1, width=3, **kwargs):
            image, dtype = self.begin(input_shape, num_classes, kwargs, width=width)
            x = ConvNormActivation(8, width, dtype=dtype, name="stem")(image)
            logits = GroupedConv(num_classes, 1, dtype="float32", name="logits")(x)
            super().__init__(image, logits, num_classes, dtype, **kwargs)
            self.width = width

        def get_config(self):
            return super().get_config() | {"width": self.width}
    ```
    """

    rank: ClassVar[int]
    # From images to a list of logits and auxiliary ones; `None` where there are none of these.
    supervised: Callable[..., list[Any]] | None = None
    auxiliary_layers: Sequence[keras.layers.Layer] = ()

    def __init__(
        self,
        image: Any,
        logits: Any,
        num_classes: int,
        dtype: Any,
        auxiliary: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs=image, outputs=logits, **kwargs)
        if auxiliary:
            graph = keras.Model(image, [logits, *auxiliary])
            self.supervised = graph.call  # as a layer of this network it would count twice
            self.auxiliary_layers = [layer for layer in graph.layers if layer not in self.layers]
        self.num_classes = num_classes
        self.dtype_policy = dtype
        self.compile(**_published_training(self.rank, num_classes))
        # A saved model whose optimizer was never built makes Keras warn when it is loaded.
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def begin(
        cls,
        input_shape: Sequence[int | None],
        num_classes: int,
        kwargs: dict[str, Any],
        **arguments: Any,
    ) -> tuple[Any, Any]:
        """Check what every network is given; return its symbolic input, and its dtype policy.

        Args:
            input_shape: Sides and channels; sides may be `None`.
            num_classes: Number of classes.
            kwargs: The constructor's other arguments, of which `dtype` is taken out.
            **arguments: Those of the network's own on which the legal sides depend.

        Raises:
            ValueError: If Keras is configured for `channels_first`, or a value is not allowed.
        """
        require_channels_last()
        require_positive(num_classes=num_classes)
        shape = tuple(input_shape)
        cls._check_shape(shape, arguments)
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        return keras.Input(shape, name="image"), dtype

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that lead to the logits, then those that lead to auxiliary ones only."""
        return [*super().layers, *self.auxiliary_layers]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the logits of a batch; in training a list, if there are auxiliary ones."""
        self._check_shape(tuple(inputs.shape[1:]), self.get_config())
        if training and self.supervised is not None:
            return self.supervised(inputs, training=True)
        return super().call(inputs, training=training, mask=mask)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of the logits; in training the sum with those of auxiliary ones."""
        if not isinstance(y_pred, list):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        return sum(self.compute_loss(x, y, part, sample_weight, training) for part in y_pred)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics of the logits, whatever auxiliary ones there are."""
        logits = y_pred[0] if isinstance(y_pred, list) else y_pred
        return super().compute_metrics(x, y, logits, sample_weight)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does, on masks that the package's losses take.

        Raises:
            ValueError: If the first batch or an epoch has a loss of NaN, as of masks of 0 and 255.
        """
        is_ours = isinstance(self.loss, losses.SmoothDiceLoss)
        if is_ours and not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), losses.LossIsANumber()]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "input_shape": self.input_shape[1:],
            "num_classes": self.num_classes,
        }

    def get_compile_config(self) -> dict[str, Any]:
        """Return what `compile` was given, for a file."""
        config = super().get_compile_config()
        # JAX always compiles; on PyTorch that would be `torch.compile`, which needs a C compiler.
        return config | {"jit_compile": "auto"} if config else config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "SegmentationNetwork":
        """Build the network from what `get_config` returned."""
        return cls(**config)

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names that layers or variables have in the published PyTorch program.

        Raises:
            TypeError: If there is none, or none is known.
        """
        raise TypeError(f"The parameters of {type(self).__name__} have no published names.")

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return the published program's parameters that it never uses, and their shapes.

        A checkpoint must have them; they have no counterpart here.
        """
        return {}

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        """Return what checkpoints hold besides parameters and is computed here, such as masks.

        Those in a checkpoint must equal these.
        """
        return {}

    @classmethod
    def _check_shape(cls, shape: tuple[int | None, ...], arguments: Mapping[str, Any]) -> None:
        axes = ("depth", "height", "width")[-cls.rank :]
        if len(shape) != cls.rank + 1 or shape[-1] is None:
            raise ValueError(
                f"{cls.__name__} takes inputs ({', '.join(axes)}, channels) with the channels last "
                f"and static. Received: input_shape={shape}"
            )
        registry.network_of(cls).check_sides(shape[:-1], arguments)


def _published_training(rank: int, num_classes: int) -> dict[str, Any]:
    """Return the arguments of `compile`."""
    if rank == 2:
        optimizer = optimizers.TorchSGD(
            optimizers.LaggedPolynomialDecay(0.02, total_steps=57_000),
            momentum=0.9,
            weight_decay=1e-4,
        )
    else:
        optimizer = optimizers.adamw_warmup_cosine(warmup_steps=1_200, total_steps=120_000)
    if rank == 2 or num_classes == 1:
        return {
            "optimizer": optimizer,
            "loss": losses.BCEDiceLoss(),
            "metrics": [metrics.ImageIoU(), metrics.ImageF1()],
        }
    return {
        "optimizer": optimizer,
        "loss": losses.DiceCELoss(),
        "metrics": [metrics.ClassDice(num_classes)],
    }

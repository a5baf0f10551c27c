"""The published optimizers and learning-rate schedules."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_lgmsnet", name="SGD")
class TorchSGD(keras.optimizers.SGD):
    """Gradient descent with momentum and weight decay, in the form of `torch.optim.SGD`.

        g ← gradient + weight_decay · p
        v ← momentum · v + g
        p ← p - learning_rate · v

    It differs from `keras.optimizers.SGD` twice: weight decay is an L2 term in the gradient of
    every trainable tensor, biases and norms included, rather than decoupled from it, so it enters
    the momentum; and the momentum buffer holds gradients, not steps, so that a new rate acts on
    the whole buffer at once (published program, 2D).

    Args:
        learning_rate: Float >= 0, a schedule such as `LaggedPolynomialDecay`, or a callable.
        momentum: Float in [0, 1].
        weight_decay: Float >= 0. Tensors are spared with `exclude_from_weight_decay`.
        **kwargs: Any other argument of `keras.optimizers.SGD`: `nesterov`, clipping, gradient
            accumulation, `loss_scale_factor`, `name`, …. Clipping precedes weight decay, as in
            PyTorch.

    Raises:
        ValueError: When an argument is out of range.

    Example:
    ```python
    steps = 500 * len(batches)
    schedule = LaggedPolynomialDecay(0.02, total_steps=steps)
    model.compile(optimizer=TorchSGD(schedule), loss=BCEDiceLoss())
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        **kwargs: Any,
    ):
        if isinstance(learning_rate, int | float):
            _require_not_negative(learning_rate=learning_rate)
            learning_rate = float(learning_rate)
        _require_not_negative(weight_decay=weight_decay)
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}")
        super().__init__(
            learning_rate, momentum=float(momentum), weight_decay=weight_decay, **kwargs
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do not decay the variables: `update_step` adds the decay to their gradients."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        gradient = ops.cast(gradient, variable.dtype)
        if self._use_weight_decay(variable):
            gradient = gradient + self.weight_decay * ops.convert_to_tensor(variable)
        step = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            step = self.momentum * ops.convert_to_tensor(velocity) + gradient
            self.assign(velocity, step)
            if self.nesterov:
                step = gradient + self.momentum * step
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)


@keras.saving.register_keras_serializable(package="keras_lgmsnet", name="PolynomialDecay")
class LaggedPolynomialDecay(keras.optimizers.schedules.PolynomialDecay):
    """Polynomial decay of the learning rate to zero, one step late.

    The rate of step `k`, from 0, is

        initial_learning_rate                                    for k = 0
        initial_learning_rate · (1 - (k - 1) / total_steps)^power    for 0 < k <= total_steps
        0                                                        after

    The published program sets the rate after the optimizer's step, so that each rate serves one
    step later than its formula says. `keras.optimizers.schedules.PolynomialDecay` has no such lag.

    Args:
        initial_learning_rate: Float >= 0.
        total_steps: Number of training steps (batches), positive.
        power: Exponent, positive.
        name: Name of the schedule.

    Raises:
        ValueError: When an argument is out of range.

    Example:
    ```python
    schedule = LaggedPolynomialDecay(0.02, total_steps=1000)
    schedule(0), schedule(1), schedule(2)  # 0.02, 0.02, 0.01998
    ```
    """

    def __init__(
        self,
        initial_learning_rate: float,
        total_steps: int,
        power: float = 0.9,
        name: str = "PolynomialDecay",
    ):
        _require_not_negative(initial_learning_rate=initial_learning_rate)
        _require_positive(total_steps=total_steps, power=power)
        super().__init__(
            float(initial_learning_rate),
            decay_steps=total_steps,
            end_learning_rate=0.0,
            power=power,
            name=name,
        )

    def __call__(self, step: Any) -> Any:
        """Return the rate of step `step`, counted from 0."""
        return super().__call__(ops.maximum(step - 1, 0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "total_steps": self.decay_steps,
            "power": self.power,
            "name": self.name,
        }


def adamw_warmup_cosine(
    warmup_steps: int,
    total_steps: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-5,
) -> keras.optimizers.AdamW:
    """Return Keras's AdamW with a linear warm-up and a cosine decay to zero (published, 3D).

    The rate rises from 0 at step 0 to `learning_rate` at step `warmup_steps`, and falls to 0 at
    step `total_steps`. The published program follows the same curve epoch by epoch: 50 epochs of
    warm-up in 5000.

    Args:
        warmup_steps: Number of warm-up steps, >= 0 and less than `total_steps`.
        total_steps: Number of training steps (batches), positive.
        learning_rate: Highest rate, float >= 0.
        weight_decay: Decoupled weight decay of every trainable tensor, float >= 0.

    Returns:
        A `keras.optimizers.AdamW` with PyTorch's epsilon, 1e-8.

    Raises:
        ValueError: When an argument is out of range.

    Example:
    ```python
    optimizer = adamw_warmup_cosine(50 * steps_per_epoch, 5000 * steps_per_epoch)
    ```
    """
    _require_not_negative(
        warmup_steps=warmup_steps, learning_rate=learning_rate, weight_decay=weight_decay
    )
    if warmup_steps >= total_steps:
        raise ValueError(
            "`warmup_steps` must be less than `total_steps`. "
            f"Received: warmup_steps={warmup_steps}, total_steps={total_steps}"
        )
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=total_steps - warmup_steps,
        warmup_target=float(learning_rate),
        warmup_steps=warmup_steps,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay, epsilon=1e-8)


def _require_not_negative(**arguments: float) -> None:
    for name, value in arguments.items():
        if not value >= 0:
            raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")


def _require_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")

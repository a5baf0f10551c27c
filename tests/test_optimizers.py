from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from keras_lgmsnet.optimizers import LaggedPolynomialDecay, TorchSGD, adamw_warmup_cosine

STEPS = 50
TOTAL_STEPS = 60
RATE = 0.02
WEIGHT_DECAY = 0.1
INPUTS = np.random.default_rng(0).standard_normal((STEPS, 8, 4), "float32")
TARGETS = np.sin(INPUTS.sum(axis=-1, keepdims=True))


def keras_model() -> keras.Sequential:
    """Return a well-conditioned model with a kernel, a bias and a norm."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.LayerNormalization(epsilon=1e-5),
            keras.layers.Dense(1),
        ]
    )
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(generator.uniform(0.2, 0.8, variable.shape))
    return model


def keras_fit(
    optimizer: keras.optimizers.Optimizer, model: keras.Sequential | None = None, first: int = 0
) -> list[np.ndarray]:
    """Return the trained weights, all steps from `first` on being compiled by the backend."""
    if model is None:
        model = keras_model()
        model.compile(optimizer=optimizer, loss="mse")
    inputs, targets = INPUTS[first:].reshape(-1, 4), TARGETS[first:].reshape(-1, 1)
    model.fit(inputs, targets, batch_size=8, shuffle=False, verbose=0)
    return model.get_weights()


def torch_fit(
    make_optimizer: Callable[[Any], torch.optim.Optimizer],
    rate_after_step: Callable[[int], float],
) -> list[np.ndarray]:
    """Train the same model in PyTorch, setting the rate after each step as the program does."""
    start = [torch.nn.Parameter(torch.from_numpy(w)) for w in keras_model().get_weights()]
    scale, offset, kernel, bias = start
    optimizer = make_optimizer(start)
    for step, (x, y) in enumerate(zip(INPUTS, TARGETS, strict=True)):
        hidden = torch.nn.functional.layer_norm(torch.from_numpy(x), (4,), scale, offset, eps=1e-5)
        loss = torch.mean((hidden @ kernel + bias - torch.from_numpy(y)) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = rate_after_step(step)
    return [parameter.detach().numpy() for parameter in start]


def published_rate(step: int) -> float:
    return RATE * (1 - step / TOTAL_STEPS) ** 0.9


def torch_sgd(**arguments: Any) -> list[np.ndarray]:
    arguments = {"lr": RATE, "momentum": 0.9, "weight_decay": WEIGHT_DECAY} | arguments
    return torch_fit(lambda start: torch.optim.SGD(start, **arguments), published_rate)


def error(weights: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Return the largest difference of any weight, weights being of order 1."""
    return max(np.abs(w - r).max() for w, r in zip(weights, reference, strict=True))


def test_published_training_follows_torch() -> None:
    optimizer = TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY)
    assert error(keras_fit(optimizer), torch_sgd()) < 1e-6


class KerasMomentum(TorchSGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        gradient = gradient + self.weight_decay * keras.ops.convert_to_tensor(variable)
        keras.optimizers.SGD.update_step(self, gradient, variable, learning_rate)


class DecoupledDecay(TorchSGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_sub(
            variable,
            keras.ops.convert_to_tensor(variable) * learning_rate * self.weight_decay,
        )
        decay, self.weight_decay = self.weight_decay, 0.0
        super().update_step(gradient, variable, learning_rate)
        self.weight_decay = decay


def without_lag() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.PolynomialDecay(RATE, TOTAL_STEPS, 0.0, power=0.9)


def without_bias_decay() -> TorchSGD:
    optimizer = TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def without_norm_decay() -> TorchSGD:
    optimizer = TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
    return optimizer


@pytest.mark.parametrize(
    "variant",
    [
        lambda: KerasMomentum(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY),
        lambda: DecoupledDecay(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY),
        lambda: TorchSGD(without_lag(), weight_decay=WEIGHT_DECAY),
        without_bias_decay,
        without_norm_decay,
    ],
    ids=[
        "Keras's momentum",
        "decoupled decay",
        "no lag",
        "biases not decayed",
        "norms not decayed",
    ],
)
def test_the_comparison_with_torch_tells_variants_apart(variant: Callable[[], TorchSGD]) -> None:
    """Each departure from the published program shows at 1000 times the tolerance."""
    assert error(keras_fit(variant()), torch_sgd()) > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"momentum": 0.0},
        {"nesterov": True},
        {"momentum": 0.5, "weight_decay": 0.0},
    ],
)
def test_other_arguments_follow_torch(arguments: dict[str, Any]) -> None:
    optimizer = TorchSGD(
        LaggedPolynomialDecay(RATE, TOTAL_STEPS), **({"weight_decay": WEIGHT_DECAY} | arguments)
    )
    assert error(keras_fit(optimizer), torch_sgd(**arguments)) < 1e-6


def test_adamw_warmup_cosine_follows_torch() -> None:
    warmup, rate = 10, 0.02

    def rate_after_step(step: int) -> float:
        step += 1
        if step < warmup:
            return rate * step / warmup
        return rate * (1 + np.cos(np.pi * (step - warmup) / (TOTAL_STEPS - warmup))) / 2

    def make_optimizer(start: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(start, lr=0.0, weight_decay=WEIGHT_DECAY)

    optimizer = adamw_warmup_cosine(warmup, TOTAL_STEPS, rate, WEIGHT_DECAY)
    assert optimizer.epsilon == 1e-8
    assert error(keras_fit(optimizer), torch_fit(make_optimizer, rate_after_step)) < 1e-5


def test_polynomial_decay_by_hand() -> None:
    schedule = LaggedPolynomialDecay(0.5, total_steps=4, power=2)
    rates = [float(schedule(step)) for step in range(7)]
    assert rates == pytest.approx([0.5, 0.5, 0.5 * 9 / 16, 0.5 / 4, 0.5 / 16, 0, 0])


def test_warmup_cosine_by_hand() -> None:
    schedule = adamw_warmup_cosine(2, 6, learning_rate=0.5)._learning_rate
    rates = [float(schedule(step)) for step in range(8)]
    half = np.sqrt(0.5)
    assert rates == pytest.approx(
        [0, 0.25, 0.5, 0.25 * (1 + half), 0.25, 0.25 * (1 - half), 0, 0], abs=1e-7
    )


def weight_after(optimizer: keras.optimizers.Optimizer, gradients: list[float]) -> float:
    """Return what becomes of a weight of 1 after a step for each gradient."""
    weight = keras.Variable(np.ones(1, "float32"))
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array([gradient], "float32"))])
    return float(keras.ops.convert_to_numpy(weight)[0])


def test_clipping_precedes_weight_decay() -> None:
    # 1 - 0.1 · (clip(5, 1) + 0.5 · 1)
    optimizer = TorchSGD(0.1, weight_decay=0.5, clipvalue=1.0)
    assert weight_after(optimizer, [5.0]) == pytest.approx(0.85)


def test_accumulated_gradients_are_decayed_once() -> None:
    # 1 - 0.1 · (mean(1, 3) + 0.5 · 1)
    optimizer = TorchSGD(0.1, weight_decay=0.5, gradient_accumulation_steps=2)
    assert weight_after(optimizer, [1.0, 3.0]) == pytest.approx(0.75)


def test_loss_scaling_leaves_weight_decay_alone() -> None:
    # 1 - 0.1 · (16 / 16 + 0.5 · 1)
    optimizer = TorchSGD(0.1, weight_decay=0.5, loss_scale_factor=16.0)
    assert weight_after(optimizer, [16.0]) == pytest.approx(0.85)
    optimizer = TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY)
    dynamic = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=10)
    assert error(keras_fit(dynamic), torch_sgd()) < 1e-6


def test_serialization_keeps_the_arguments() -> None:
    optimizer = TorchSGD(
        LaggedPolynomialDecay(0.3, 7, power=2.0, name="rate"),
        momentum=0.8,
        weight_decay=0.01,
        nesterov=True,
        clipnorm=2.0,
        name="renamed",
    )
    config = keras.saving.serialize_keras_object(optimizer)
    assert config["registered_name"] == "keras_lgmsnet>SGD"  # as in files of version 0.1
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is TorchSGD
    assert restored.get_config() == optimizer.get_config()
    schedule = restored._learning_rate
    assert type(schedule) is LaggedPolynomialDecay
    assert schedule.get_config() == {
        "initial_learning_rate": 0.3,
        "total_steps": 7,
        "power": 2.0,
        "name": "rate",
    }


def test_a_saved_model_resumes_where_it_stopped(tmp_path: Path) -> None:
    model = keras_model()
    model.compile(
        TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY), loss="mse"
    )
    uninterrupted = keras_fit(model.optimizer, model)

    model = keras_model()
    model.compile(
        TorchSGD(LaggedPolynomialDecay(RATE, TOTAL_STEPS), weight_decay=WEIGHT_DECAY), loss="mse"
    )
    model.fit(
        INPUTS[:20].reshape(-1, 4),
        TARGETS[:20].reshape(-1, 1),
        batch_size=8,
        shuffle=False,
        verbose=0,
    )
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert int(model.optimizer.iterations) == 20
    assert error(keras_fit(model.optimizer, model, first=20), uninterrupted) < 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TorchSGD(-0.1), "learning_rate=-0.1"),
        (lambda: TorchSGD(momentum=-0.9), "momentum=-0.9"),
        (lambda: TorchSGD(momentum=1.5), "momentum=1.5"),
        (lambda: TorchSGD(weight_decay=-1e-4), "weight_decay=-0.0001"),
        (lambda: TorchSGD(weight_decay=float("nan")), "weight_decay=nan"),
        (lambda: LaggedPolynomialDecay(-0.1, 10), "initial_learning_rate=-0.1"),
        (lambda: LaggedPolynomialDecay(0.1, 0), "total_steps=0"),
        (lambda: LaggedPolynomialDecay(0.1, 10, power=0), "power=0"),
        (lambda: adamw_warmup_cosine(-1, 10), "warmup_steps=-1"),
        (lambda: adamw_warmup_cosine(10, 10), "total_steps=10"),
        (lambda: adamw_warmup_cosine(1, 10, learning_rate=-1.0), "learning_rate=-1.0"),
        (lambda: adamw_warmup_cosine(1, 10, weight_decay=-1.0), "weight_decay=-1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        make()

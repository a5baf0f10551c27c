"""The selective scan against the recurrence, token by token."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from keras import ops

from keras_lgmsnet import layers
from keras_lgmsnet.layers.forms import selective_scan
from keras_lgmsnet.layers.selective_scan import LogUniformSteps
from tests.helpers.gradients import compiled, gradients
from tests.helpers.processes import run_in_fresh_process

BACKEND = keras.backend.backend()
# JAX compiles each shape anew.
few = settings(deadline=None, max_examples=4 if BACKEND == "jax" else 12, derandomize=True)


def _draw(tokens: int, channels: int, states: int, batch: int, dtype: str) -> list[np.ndarray]:
    """Return values, steps, writes, reads and rates; decays are from next to 0 to next to 1."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape)

    steps = np.log1p(np.exp(3 * normal(batch, tokens, channels)))
    arrays = (
        normal(batch, tokens, channels),
        steps,
        *(normal(batch, tokens, states) for _ in range(2)),
        -np.exp(normal(states, channels)),
    )
    return [array.astype(dtype) for array in arrays]


def _recurrence(values: Any, steps: Any, writes: Any, reads: Any, rates: Any) -> torch.Tensor:
    state = torch.zeros(len(values), *rates.shape, dtype=values.dtype)
    outputs = []
    for token in range(values.shape[1]):
        step = steps[:, token, None]
        write = writes[:, token, :, None] * values[:, token, None]
        state = torch.exp(step * rates) * state + step * write
        outputs.append((reads[:, token, :, None] * state).sum(1))
    return torch.stack(outputs, 1)


def assert_is_the_recurrence(arrays: list[np.ndarray], tolerance: float) -> None:
    """Compare the outputs, and the gradients of their squares' sum, with float64's."""
    dtype = str(arrays[0].dtype)
    leaves = [torch.from_numpy(array.astype("float64")).requires_grad_() for array in arrays]
    expected = _recurrence(*leaves)
    scan = selective_scan.choose_selective_scan(dtype)
    received = compiled(scan)(*(ops.convert_to_tensor(array, dtype) for array in arrays))
    results = [received, *gradients(scan, *arrays)]
    wanted = [expected, *torch.autograd.grad(expected.square().sum(), leaves)]
    for result, of in zip(results, wanted, strict=True):
        result, of = ops.convert_to_numpy(result), of.detach().numpy()
        assert result.dtype == dtype
        scale = max(np.abs(of).max(), 1e-3)
        np.testing.assert_allclose(result, of, rtol=0, atol=tolerance * scale)


@few
@given(st.integers(1, 90), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_scan_and_gradients_are_the_recurrences(
    tokens: int, channels: int, states: int, batch: int
) -> None:
    assert_is_the_recurrence(_draw(tokens, channels, states, batch, "float32"), 1e-5)


IN_FLOAT64 = """
import keras
from keras.src import backend
from keras.src.backend.common import dtypes
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
from tests.test_selective_scan import _draw, assert_is_the_recurrence
for tokens in (1, 2, 90, 300):
    assert_is_the_recurrence(_draw(tokens, 3, 2, 2, "float64"), 1e-10)
"""


def test_scan_and_gradients_are_the_recurrences_in_float64(tmp_path: Path) -> None:
    # Keras takes float64 for float32, on JAX and PyTorch; JAX itself, unless told from the start.
    run_in_fresh_process(IN_FLOAT64, tmp_path, JAX_ENABLE_X64="1")


def test_a_state_that_decays_to_nothing_leaves_finite_numbers() -> None:
    # Over the 400 tokens states of 1 decay to less than any float32, and those of 0 do not grow.
    arrays = _draw(400, 1, 2, 1, "float32")
    arrays[1][...] = 5.0
    arrays[4][...] = [[-20.0], [-1e-3]]
    assert_is_the_recurrence(arrays, 1e-5)


def test_any_batch_has_its_own_states() -> None:
    layer = layers.SelectiveScan(2)
    x = np.random.default_rng(0).standard_normal((3, 17, 4)).astype("float32")
    together = ops.convert_to_numpy(layer(x))
    for number in range(3):
        alone = ops.convert_to_numpy(layer(x[number : number + 1]))
        np.testing.assert_allclose(together[number : number + 1], alone, rtol=1e-4, atol=1e-6)


def test_layer_is_mambas() -> None:
    layer, x = layers.SelectiveScan(3, step_rank=2), _draw(20, 4, 1, 2, "float32")[0]
    layer.build(x.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.standard_normal(w.shape) / 2 for w in layer.weights])
    weights = {w.path.partition("/")[2]: ops.convert_to_numpy(w) for w in layer.weights}
    tokens = torch.from_numpy(x)
    joined = tokens @ torch.from_numpy(weights["projection/kernel"])
    steps, writes, reads = joined.split([2, 3, 3], dim=-1)
    steps = steps @ torch.from_numpy(weights["step_projection/kernel"])
    steps = torch.nn.functional.softplus(steps + torch.from_numpy(weights["step_bias"]))
    rates = -torch.exp(torch.from_numpy(weights["log_rates"])).T
    expected = _recurrence(tokens, steps, writes, reads, rates)
    expected = expected + torch.from_numpy(weights["passed"]) * tokens
    outputs = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_what_states_hang_on_stays_float32_in_half_precision(policy: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 50, 8)).astype("float32")
    layer = layers.SelectiveScan(4, dtype=policy)
    layer.build(x.shape)
    outputs = compiled(layer)(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert {w.dtype for w in layer.weights} == {"float32"}
    whole = layers.SelectiveScan(4)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    expected = ops.convert_to_numpy(compiled(whole)(x))
    received = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    assert np.abs(received - expected).max() < 0.03 * expected.std()


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_it_is_trained_in_half_precision_throughout(policy: str) -> None:
    sequence = keras.Input((20, 8))
    scan = layers.SelectiveScan(2, dtype=policy)
    model = keras.Model(sequence, scan(sequence))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [ops.convert_to_numpy(ops.cast(w, "float32")) for w in scan.weights]
    x = np.random.default_rng(0).standard_normal((2, 20, 8)).astype("float32")
    model.fit(x, np.zeros_like(x), verbose=0)
    after = [ops.convert_to_numpy(ops.cast(w, "float32")) for w in scan.weights]
    assert {w.dtype for w in scan.weights} == {policy}
    assert all(np.isfinite(values).all() for values in after)
    assert any((values != old).any() for values, old in zip(after, before, strict=True))


def test_weights_start_as_mambas() -> None:
    layer = layers.SelectiveScan(16)
    layer.build((None, 10, 1600))
    named = {w.path.partition("/")[2]: ops.convert_to_numpy(w) for w in layer.weights}
    assert named["projection/kernel"].shape == (1600, 50 + 32)
    for name, fan_in in (("projection/kernel", 1600), ("step_projection/kernel", 50)):
        assert 0.99 < np.abs(named[name]).max() * np.sqrt(fan_in) <= 1.0001, name
    np.testing.assert_allclose(np.exp(named["log_rates"][7]), np.arange(1, 17), rtol=1e-6)
    assert (named["passed"] == 1).all()
    steps = np.log1p(np.exp(named["step_bias"].astype("float64")))
    assert 0.000999 < steps.min() < 0.0011
    assert 0.09 < steps.max() < 0.1001
    assert np.median(steps) == pytest.approx(0.01, rel=0.2)
    steps = LogUniformSteps(seed=3)
    assert LogUniformSteps.from_config(steps.get_config()).seed == 3


def test_config_shape_and_count() -> None:
    layer = layers.SelectiveScan(4, step_rank=2, name="scan")
    copy = layers.SelectiveScan.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy(np.ones((2, 9, 8), "float32")).shape == copy.compute_output_shape((2, 9, 8))
    # For each token: 8 × (2 + 4 + 4), 2 × 8, and three for each of 8 × 4 states.
    assert copy.multiply_adds((None, 9, 8)) == 9 * (80 + 16 + 96)


def test_wrong_arguments_and_shapes_are_refused() -> None:
    for build, words in (
        (lambda: layers.SelectiveScan(0), "positive integer.*states=0"),
        (lambda: layers.SelectiveScan(4, 0), "positive integer.*step_rank=0"),
        (lambda: layers.SelectiveScan(4).build((1, 8, 8, 4)), r"known length.*\(1, 8, 8, 4\)"),
        (lambda: layers.SelectiveScan(4).build((1, None, 4)), r"known length.*\(1, None, 4\)"),
    ):
        with pytest.raises(ValueError, match=words):
            build()

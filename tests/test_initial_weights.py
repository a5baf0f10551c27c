"""Weights that networks start with: those of the published programs, asked by published names."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from keras import ops

from keras_lgmsnet.models import registry, torch_weights
from keras_lgmsnet.models.published_names import named_variables
from tests.test_networks import ROWS, Row

pytestmark = pytest.mark.no_backend

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Start:
    """What numbers are drawn from; or one that all are.

    Args:
        kind: `"uniform"`, of numbers within plus and minus the scale; `"normal"`, of which the
            scale is the deviation; or `"constant"`.
        scale: The scale, or the constant.
    """

    kind: str
    scale: float


# What starts at what, by the shape of the kernel: itself, or that beside a bias.
Rule = Callable[[Shape], Start]


def _fan_in(kernel: Shape) -> int:
    return int(np.prod(kernel[1:]))


def _fan_out(kernel: Shape, groups: int = 1) -> int:
    return int(kernel[0] * np.prod(kernel[2:])) // groups


def constant(value: float) -> Rule:
    return lambda kernel: Start("constant", value)


def normal(deviation: float) -> Rule:
    return lambda kernel: Start("normal", deviation)


def pytorch(kernel: Shape) -> Start:
    """PyTorch's default, of kernels and biases."""
    return Start("uniform", _fan_in(kernel) ** -0.5)


def glorot(kernel: Shape) -> Start:
    return Start("uniform", (6 / (_fan_in(kernel) + _fan_out(kernel))) ** 0.5)


def he_fan_in(kernel: Shape) -> Start:
    return Start("normal", (2 / _fan_in(kernel)) ** 0.5)


def he_fan_in_leaky(kernel: Shape) -> Start:
    return Start("normal", (2 / (1 + 0.01**2) / _fan_in(kernel)) ** 0.5)


def he_fan_out(kernel: Shape) -> Start:
    return Start("normal", (2 / _fan_out(kernel)) ** 0.5)


def he_fan_out_depthwise(kernel: Shape) -> Start:
    return Start("normal", (2 / _fan_out(kernel, groups=kernel[0])) ** 0.5)


def fan_in_normal(kernel: Shape) -> Start:
    return Start("normal", _fan_in(kernel) ** -0.5)


# Of the feed-forward layers of both networks that are made of ViT's.
_OF_VIT = {
    r".*\.ffn\d?\.fc[12]\.weight": glorot,
    r".*\.ffn\d?\.fc[12]\.bias": normal(1e-6),
    r".*\.position_embeddings": constant(0),
}

# Of each network what does not start by PyTorch's defaults, or has none: a pattern of published
# names, and the rule. The first that fits holds, for norms only if it names them. Programs cut
# normal distributions of deviation 0.02 at ±2, beyond all that is ever drawn. LGMSNet, whose biases
# start at zero, is not among them.
RULES: dict[str, dict[str, Rule]] = {
    "attention_unet": {},
    "cmunext": {},
    "erdunet": {
        r"resnet\..*\.weight": he_fan_out,
        r"layer_0_1\.0\.fc1\.(weight|bias)": pytorch,
        r".*\.weight": he_fan_in,
    },
    "madgnet": {
        r"feature_encoding\..*\.weight": he_fan_out,
        r".*\.(alpha|beta)_list\.\d": constant(1),
    },
    "medt": {
        r".*\.qkv_transform\.weight": fan_in_normal,
        r".*\.relative": lambda table: Start("normal", (table[0] // 2) ** -0.5),
        r".*\.(f_qr|f_kr|f_sve)": constant(0.1),
        r".*\.f_sv": constant(1),
    },
    "missformer": {
        r"decoder_\d\..*\.weight": glorot,
        r"decoder_\d\..*\.bias": constant(0),
    },
    "mobilevit": {},
    "nnunet": {r".*\.weight": he_fan_in_leaky, r".*\.bias": constant(0)},
    "repvit": {r".*\.channel_mixer\.m\.2\.bn\.weight": constant(0)},
    "swin_unet": {
        r"swin_unet\.patch_embed\.proj\.(weight|bias)": pytorch,  # no dense layer
        r".*\.(qkv|proj|fc1|fc2|reduction|expand|concat_back_dim\.\d)\.weight": normal(0.02),
        r".*\.(qkv|proj|fc1|fc2|concat_back_dim\.\d)\.bias": constant(0),
        r".*\.relative_position_bias_table": normal(0.02),
    },
    "tinyunet": {},
    "transunet": _OF_VIT,
    "uctransnet": _OF_VIT,
    "unet": {},
    "unet_plus_plus": {
        r"(firstconv|encoder\d)(\..*)?\.weight": he_fan_out,
        r"mix": constant(1),
    },
    "unext": {
        r".*\.fc[12]\.weight": normal(0.02),
        r".*\.dwconv\.weight": he_fan_out_depthwise,
        r"patch_embed\d\.proj\.weight": he_fan_out,
        r"(patch_embed\d\.proj|.*\.mlp\..*)\.bias": constant(0),
    },
    "unireplknet": {
        r".*\.act\.1\.(gamma|beta)": constant(0),
        r"encoder\.stages\.\d\.\d\.gamma": constant(1e-6),
    },
}
TRIED = [row for row in ROWS if row.name in RULES]


def test_every_network_for_images_is_asked() -> None:
    asked = {row.name for row in TRIED}
    assert asked == RULES.keys()
    assert asked == {entry.name for entry in registry.NETWORKS if entry.rank == 2} - {"lgmsnet"}


@functools.cache
def _drawn(row: Row) -> dict[str, tuple[Start, np.ndarray]]:
    """Return by published name what a variable is to start at, and its values as they lie."""
    heads = {"auxiliary_outputs": True} if "auxiliary_outputs" in row.entry.arguments() else {}
    variables = dict(named_variables(row.create(**heads)))
    shapes = {name: torch_weights.to_torch(variable).shape for name, variable in variables.items()}
    return {
        name: (_start(row.name, name, shapes), ops.convert_to_numpy(variable).ravel())
        for name, variable in variables.items()
    }


def _start(network: str, name: str, shapes: dict[str, Shape]) -> Start:
    owner, _, role = name.rpartition(".")
    kernel = shapes.get(f"{owner}.weight") if role == "bias" else shapes[name]
    is_norms = role in ("weight", "bias") and len(kernel or ()) < 2
    defaults = {"running_mean": 0.0, "running_var": 1.0}
    if role in defaults:
        return Start("constant", defaults[role])
    for pattern, rule in RULES[network].items():
        if re.fullmatch(pattern, name) and not (is_norms and r"bn\.weight" not in pattern):
            return rule(kernel or shapes[name])
    if is_norms:
        return Start("constant", 1.0 if role == "weight" else 0.0)
    assert role in ("weight", "bias"), f"There is no rule for {name}."
    return pytorch(kernel or ())


each = pytest.mark.parametrize("row", TRIED, ids=str)


@each
def test_weights_start_as_in_the_published_program(row: Row) -> None:
    """Each, those whose names differ in numbers only, and all: the more there are, the closer."""
    together: dict[str, list[np.ndarray]] = {}
    for name, (start, values) in _drawn(row).items():
        if start.kind == "constant":
            np.testing.assert_allclose(values, start.scale, rtol=1e-6, err_msg=name)
            continue
        for label in (name, re.sub(r"\d+", "N", name), "all"):
            arrays = together.setdefault(f"{start.kind} {label}", [])
            arrays.append(values.astype("float64") / start.scale)
    for label, arrays in together.items():
        _assert_like(np.concatenate(arrays), label)


def _assert_like(values: np.ndarray, label: str) -> None:
    """Compare with the uniform distribution within ±1, or the normal one of deviation 1.

    That is, mean, mean square and extremes, as far as chance allows it.
    """
    is_uniform = label.startswith("uniform")
    # The mean square, and by how much squares deviate from it.
    square, spread = (1 / 3, (4 / 45) ** 0.5) if is_uniform else (1, 2**0.5)
    chance = 6 / values.size**0.5
    largest = float(np.abs(values).max())
    assert largest > 0, label
    assert float(values.mean()) == pytest.approx(0, abs=chance * square**0.5), label
    assert float(np.square(values).mean()) == pytest.approx(square, abs=chance * spread), label
    if is_uniform:
        assert 1 - 14 / values.size < largest <= 1 + 1e-6, label
    elif values.size > 1000:  # not cut at two deviations
        assert largest > 2.5, label


@each
def test_no_two_weights_start_with_the_same_numbers(row: Row) -> None:
    """As those do that were drawn by one initializer."""
    found: dict[tuple[float, ...], str] = {}
    for name, (start, values) in _drawn(row).items():
        if start.kind == "constant" or values.size < 2:
            continue
        first = tuple(np.round(values[:2] / start.scale, 4).tolist())
        assert first not in found, f"{name} starts as {found[first]}"
        found[first] = name

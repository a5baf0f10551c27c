"""LGMSNet's own tests, tiny; `test_networks` has those that every network passes."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark.peers import lgmsnet as plain_pytorch
from tests.fixtures import generate
from tests.helpers import reference
from tests.helpers.processes import run_in_fresh_process

NETWORKS = {2: kl.LGMSNet2D, 3: kl.LGMSNet3D}


@st.composite
def _configurations(draw) -> dict:
    kernel_sizes = draw(st.sampled_from([(3,), (5, 3), (3, 5, 7, 9)]))
    widths = st.integers(1, 2).map(lambda width: 4 * width)
    return {
        "rank": (rank := draw(st.sampled_from([2, 3]))),
        "sides": draw(st.tuples(*[st.sampled_from([32, 64])] * 2)) + (32,) * (rank - 2),
        "channels": draw(st.integers(1, 4)),
        "num_classes": draw(st.integers(1, 3)),
        # A layer norm over one or two channels would amplify round-off three hundredfold.
        "dims": (*draw(st.tuples(widths, widths, widths)), 8, 8),
        "kernel_sizes": kernel_sizes,
        "transformer_ratio": draw(st.sampled_from([0, 0.5, 1])),
        "activation": draw(st.sampled_from(["gelu", "silu"])),
    }


# JAX compiles a whole network for a quarter of a minute: one will do, as its layers have their own.
@settings(
    deadline=None, max_examples=1 if keras.backend.backend() == "jax" else 6, derandomize=True
)
@given(_configurations())
def test_any_configuration_equals_plain_pytorch(configuration: dict) -> None:
    rank, sides = configuration.pop("rank"), configuration.pop("sides")
    channels, num_classes = configuration.pop("channels"), configuration.pop("num_classes")
    peer = plain_pytorch.LGMSNet(rank, channels, num_classes, **configuration).eval()
    weights = reference.draw_state_dict(generate.shapes(peer))
    peer.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    model = NETWORKS[rank]((*sides, channels), num_classes, **configuration)
    kl.checkpoints.load_torch_state_dict(model, weights)
    images = np.random.default_rng(0).random((1, *sides, channels)).astype("float32")
    with torch.inference_mode():
        expected = peer.double()(torch.from_numpy(np.moveaxis(images, -1, 1).astype("float64")))
    errors = (
        np.moveaxis(ops.convert_to_numpy(model(images, training=False)), -1, 1) - expected.numpy()
    )
    # Of the whole, since a norm over the 8 voxels of the deepest stage amplifies round-off in one.
    assert np.linalg.norm(errors) < 1e-4 * np.linalg.norm(expected)


def test_a_run_reads_where_nothing_else_was_imported(tmp_path) -> None:
    """As in the commands, which import the package before Keras, and so register no network."""
    run = Path(__file__).parent / "fixtures" / "version_0_1" / "run"
    run_in_fresh_process(
        f"""
from keras_lgmsnet.run import Run
from pathlib import Path
assert Run.read(Path({str(run)!r})).network.count_params()
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kl.LGMSNet2D(dims=16), r"dims must be integers such as .*dims=16"),
        (lambda: kl.LGMSNet2D(dims=(16, 3.5)), r"dims must be a positive integer.*3.5"),
        (lambda: kl.LGMSNet2D(transformer_ratio="half"), r"from 0 to 1.*'half'"),
        (lambda: kl.LGMSNet2D(dims=(16, 32)), r"five encoder stages.*\(16, 32\)"),
        (lambda: kl.LGMSNet2D(dims=(6,) * 5), "divisible by the 4 kernel sizes"),
        (lambda: kl.LGMSNet2D(kernel_sizes=(2,)), "must be odd"),
        (lambda: kl.LGMSNet2D(transformer_ratio=2), "from 0 to 1"),
        (lambda: kl.LGMSNet2D(normalization="none"), "'batch', 'instance' or None"),
    ],
)
def test_bad_arguments_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

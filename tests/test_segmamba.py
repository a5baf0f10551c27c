"""SegMamba's own tests; `test_networks` has those that every network passes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.layers import ThreeOrderMamba
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.published_names import named_variables
from keras_lgmsnet.recipe.schema import Model, Recipe, VolumeData
from keras_lgmsnet.recipe.study import study_of_networks
from tests.helpers.runs import scatter
from tests.test_networks import ROWS

TINY = next(row for row in ROWS if row.name == "segmamba")


@pytest.mark.no_backend
def test_weights_start_as_in_the_program() -> None:
    network = TINY.create(filters=(16, 16, 16, 16), depths=(1, 1, 1, 1))
    for name, variable in named_variables(network):
        values = ops.convert_to_numpy(variable)
        module, _, leaf = name.rpartition(".")
        if leaf.startswith(("A_", "D")) or name.endswith(("dt_proj.bias", "_b.bias", "_s.bias")):
            continue  # `test_selective_scan` has those of the scan
        if ".norm." in name:
            assert (values == (leaf == "weight")).all(), name
        elif leaf == "weight" and "transp_conv" not in name:
            fan_in = np.prod(values.shape[:-1])
            assert 0.5 < np.abs(values).max() * np.sqrt(fan_in) <= 1.0001, name
        elif leaf == "bias":
            kernel = dict(named_variables(network))[f"{module}.weight"]
            assert 0.1 < np.abs(values).max() * np.sqrt(np.prod(kernel.shape[:-1])) <= 1, name


@pytest.mark.no_backend
def test_volumes_that_fall_into_no_slices_are_refused_early() -> None:
    words = (
        r"sides divisible by 16 and such that 64, 32, 16, 8 divide the numbers of pixels of the "
        r"levels, .* to \(32, 32, 64\), the nearest\. Received: \(16, 32, 48\)"
    )
    with pytest.raises(ValueError, match=words):
        kl.models.create("segmamba", input_shape=(16, 32, 48, 1), num_classes=2)
    # Also of the recipe, before any data are read, and of a study before others are trained.
    data, model = VolumeData(source="btcv", patch_size=(48, 48, 48)), Model(network="segmamba")
    with pytest.raises(ValueError, match=r"data.patch_size must have sides .* to \(64, 64, 64\)"):
        Recipe(data=data, model=model)
    study = study_of_networks(Recipe(data=data, model=Model(network="mednext")), ["segmamba"])
    assert study["SegMamba"].data.patch_size == (64, 64, 64)
    sides = registry.find("segmamba", 3).sides({})
    assert sides.nearest_together((16, 192, 192)) == (16, 192, 192)
    assert sides.nearest_together((1, 1, 1)) == (32, 32, 32)


def test_each_order_is_mixed_from_its_own_beginning() -> None:
    """A voxel changes none that come before it in every order."""
    mixer = ThreeOrderMamba(2, states=2)
    x = np.random.default_rng(0).standard_normal((1, 2, 2, 4, 4)).astype("float32")
    mixer.build(x.shape)
    places = {"forward": range(16), "backward": range(15, -1, -1)}
    places["sliced"] = [8 * (place % 2) + place // 2 for place in range(16)]
    for heard in ("forward", "backward", "sliced"):
        for order, scan in zip(places, mixer.scans, strict=True):
            # A scan whose inputs are read by no state, and are not passed, adds nothing.
            scan.passed.assign(np.full(8, float(order == heard)))
            kernel = ops.convert_to_numpy(scan.projection.kernel).copy()
            kernel[:, -2:] = np.where(order == heard, 1.0, 0.0)
            scan.projection.kernel.assign(kernel)
        before = ops.convert_to_numpy(mixer(x)).reshape(16, 4)
        changed = x.copy()
        changed.reshape(16, 4)[5] += 1
        after = ops.convert_to_numpy(mixer(changed)).reshape(16, 4)
        differs = np.abs(after - before).max(axis=1) > 1e-6
        order = list(places[heard])
        start = order.index(5)
        assert not differs[order[:start]].any(), heard
        assert differs[order[start : start + 4]].all(), heard


@pytest.mark.no_backend
def test_mixers_refuse_what_does_not_fit() -> None:
    for build, words in (
        (lambda: ThreeOrderMamba(0), "positive integer.*num_slices=0"),
        (lambda: ThreeOrderMamba(3).build((1, 2, 2, 4, 4)), "must divide.*num_slices=3"),
        (lambda: ThreeOrderMamba(2).build((1, 2, None, 4, 4)), r"known sides.*\(1, 2, None"),
    ):
        with pytest.raises(ValueError, match=words):
            build()


@pytest.mark.no_backend
@pytest.mark.parametrize("sides", [(6, 8), (4, 6, 5)])
def test_it_is_deployed_exactly_and_without_a_loop(sides: tuple[int, ...]) -> None:
    image = keras.Input((*sides, 4))
    x = keras.layers.LayerNormalization(epsilon=1e-5)(image)
    network = scatter(keras.Model(image, ThreeOrderMamba(3, states=3)(x)))
    deployed = deploy(network)
    assert not [layer for layer in deployed.layers if isinstance(layer, ThreeOrderMamba)]
    images = np.random.default_rng(0).standard_normal((2, *sides, 4)).astype("float32")
    expected, received = (
        ops.convert_to_numpy(model(images, training=False)) for model in (network, deployed)
    )
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

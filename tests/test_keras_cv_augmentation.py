"""keras-cv's layers: reproducible on every backend, whatever ran before; masks stay masks."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lgmsnet.data.keras_cv_augmentation import LAYERS, KerasCVAugmentation
from keras_lgmsnet.recipe.loading import load_recipe

ARGUMENTS = {
    "RandomFlip": {"mode": "horizontal_and_vertical"},
    "RandomRotation": {"factor": 0.1},
    "RandomShear": {"x_factor": 0.3, "y_factor": 0.3},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.3},
    "RandomCutout": {"height_factor": 0.5, "width_factor": 0.5},
    "Posterization": {"bits": 3},
    "RandomBrightness": {"factor": 0.3},
    "RandomChannelShift": {"factor": 0.3},
    "RandomColorDegeneration": {"factor": (0.5, 1.0)},
    "RandomColorJitter": {
        "brightness_factor": 0.3,
        "contrast_factor": 0.3,
        "saturation_factor": (0.3, 0.7),
        "hue_factor": 0.2,
    },
    "RandomContrast": {"factor": 0.3},
    "RandomGaussianBlur": {"kernel_size": 5, "factor": (0.5, 3.0)},
    "RandomHue": {"factor": 0.3},
    "RandomSaturation": {"factor": (0.2, 0.8)},
    "RandomSharpness": {"factor": (0.5, 1.0)},
    "Solarization": {"threshold_factor": (50, 200)},
}
MOVING = ("RandomFlip", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom")
UNCHANGING = ("AutoContrast", "Grayscale", "Posterization")  # nothing is drawn


@pytest.fixture(autouse=True, scope="module")
def _deterministic_operations() -> None:
    """As in training on TensorFlow; it lasts."""
    tf.config.experimental.enable_op_determinism()


def image_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """Stripes in smooth colours, and a mask that is fine enough to show any blur."""
    rows, columns = np.mgrid[:48, :64]
    image = np.stack([5 * rows, 3 * columns, 40 + 2 * (rows + columns) // 3], axis=-1)
    image[(rows // 4) % 2 == 0] //= 2
    mask = ((rows // 3 + columns // 3) % 2)[..., None]
    return image.astype("uint8"), mask.astype("uint8")


def digest(pair: tuple[np.ndarray, np.ndarray]) -> str:
    return hashlib.sha256(pair[0].tobytes() + pair[1].tobytes()).hexdigest()


@pytest.fixture(scope="module")
def recipe_augmentation() -> KerasCVAugmentation:
    return KerasCVAugmentation(load_recipe("busi_keras_cv").data.augmentation)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_reproducible_and_keeps_shapes_types_and_labels(name: str) -> None:
    augment = KerasCVAugmentation({name: ARGUMENTS.get(name, {})})
    image, mask = image_and_mask()
    results = []
    for seed in range(8):
        changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert (changed_mask.shape, changed_mask.dtype) == (mask.shape, np.uint8)
        assert set(np.unique(changed_mask)) == {0, 1}
        assert (changed != image).any() or name in ("RandomFlip", "AutoContrast")
        if name not in MOVING:
            np.testing.assert_array_equal(changed_mask, mask)
        results.append(digest((changed, changed_mask)))
    np.testing.assert_array_equal(image, image_and_mask()[0])
    np.testing.assert_array_equal(mask, image_and_mask()[1])
    assert len(set(results)) > (0 if name in UNCHANGING else 1 if name == "RandomFlip" else 5)

    # In another order, where all global random states are others.
    random.seed(7)
    np.random.seed(7)
    keras.utils.set_random_seed(7)
    tf.random.set_seed(7)
    for seed in reversed(range(8)):
        assert digest(augment(image, mask, np.random.default_rng(seed))) == results[seed]
    # No operation draws from a state of its own: all randomness comes from the generator.
    graph = augment._augment.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    drawing = {node.op for node in nodes if "Random" in node.op or "Multinomial" in node.op}
    assert drawing <= {"StatelessRandomUniformV2"}
    assert bool(drawing) == (name not in UNCHANGING)


@pytest.mark.parametrize("name", MOVING)
def test_masks_move_with_their_image(name: str) -> None:
    augment = KerasCVAugmentation({name: ARGUMENTS[name]})
    rows, columns = np.mgrid[:48, :64]
    mask = (((rows - 18) / 10) ** 2 + ((columns - 30) / 14) ** 2 < 1)[..., None].astype("uint8")
    image = np.repeat(255 * mask, 3, axis=-1)
    for seed in range(5):
        changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
        white, black = changed[..., 0] > 250, changed[..., 0] < 5
        assert white.sum() > 100
        assert changed_mask[white].all()
        assert not changed_mask[black].any()


def test_global_random_states_are_neither_read_nor_changed(recipe_augmentation) -> None:
    image, mask = image_and_mask()

    def draw() -> list[float]:
        drawn = [random.random(), np.random.rand(), float(keras.random.uniform(()))]
        return [*drawn, float(tf.random.uniform(())), float(tf.random.normal(()))]

    drawn = []
    for call in (True, False):
        random.seed(1)
        keras.utils.set_random_seed(1)
        tf.random.set_seed(1)
        if call:
            recipe_augmentation(image, mask, np.random.default_rng(0))
        drawn.append(draw())
    assert drawn[0] == drawn[1]


def test_the_recipe_gives_the_same_bits_on_every_backend_and_in_every_process(
    recipe_augmentation,
) -> None:
    """The other backends' tests compare with the same other process, hence with each other."""
    code = (
        "import numpy as np\n"
        "from tests import test_keras_cv_augmentation as test\n"
        "recipe = test.load_recipe('busi_keras_cv')\n"
        "augment = test.KerasCVAugmentation(recipe.data.augmentation)\n"
        "print(test.digest(augment(*test.image_and_mask(), np.random.default_rng(5))))\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = digest(recipe_augmentation(*image_and_mask(), np.random.default_rng(5)))
    assert output.split()[-1] == expected


def test_threads_take_turns(recipe_augmentation) -> None:
    image, mask = image_and_mask()
    expected = [
        digest(recipe_augmentation(image, mask, np.random.default_rng(seed))) for seed in range(40)
    ]
    start = threading.Barrier(4)

    def work(seed: int) -> str:
        if seed < 4:
            start.wait()
        return digest(recipe_augmentation(image, mask, np.random.default_rng(seed)))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(40))) == expected


def test_a_float16_policy_changes_nothing(recipe_augmentation) -> None:
    image, mask = image_and_mask()
    expected = digest(recipe_augmentation(image, mask, np.random.default_rng(3)))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        augment = KerasCVAugmentation(load_recipe("busi_keras_cv").data.augmentation)
        assert digest(augment(image, mask, np.random.default_rng(3))) == expected
    finally:
        keras.config.set_dtype_policy(policy)


def test_layers_are_applied_in_order() -> None:
    image, mask = image_and_mask()
    grey_last = KerasCVAugmentation({"RandomChannelShift": {"factor": 0.5}, "Grayscale": {}})
    grey_first = KerasCVAugmentation({"Grayscale": {}, "RandomChannelShift": {"factor": 0.5}})
    for augment, is_grey in ((grey_last, True), (grey_first, False)):
        changed, _ = augment(image, mask, np.random.default_rng(0))
        assert (changed == changed[..., :1]).all() == is_grey


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({}, "must be at least one keras-cv layer. Received: none"),
        ({"MixUp": {}}, "made of RandomFlip, .*, Solarization. Received: 'MixUp'"),
        ({"Dense": {}}, "Received: 'Dense'"),
        (
            {"RandomFlip": {"seed": 1}},
            "seed of keras-cv's RandomFlip may not be given: .*'seed': 1",
        ),
        ({"RandomHue": {"factor": 1, "value_range": (0, 1)}}, "value_range of .* may not be given"),
        ({"RandomZoom": {"fill_value": 9}}, "fill_value of keras-cv's RandomZoom may not be"),
        ({"RandomFlip": {"mode": "up"}}, "RandomFlip does not take .*unknown mode=up.*'up'}"),
        ({"RandomFlip": {"modus": 1}}, "does not take .*Unrecognized .*'modus'.*Received: {'mod"),
        ({"RandomZoom": {}}, "does not take .*missing 1 required .*'height_factor'. Received: {}"),
        ({"RandomRotation": {"factor": "x"}}, "RandomRotation does not take .*Received: {'factor'"),
        ({"Posterization": {"bits": 3.5}}, "Posterization does not take .*Received: {'bits': 3.5}"),
    ],
)
def test_what_no_layer_takes_is_refused_at_once(layers: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KerasCVAugmentation(layers)


def test_masks_of_several_classes_are_refused(recipe_augmentation) -> None:
    image, mask = image_and_mask()
    with pytest.raises(ValueError, match=r"masks of one class. Received: .*\(48, 64, 2\)"):
        recipe_augmentation(image, np.repeat(mask, 2, axis=-1), np.random.default_rng(0))


@pytest.mark.parametrize("package", ["keras_cv", "tensorflow"])
def test_an_absent_package_is_named_with_its_extra(package: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs .*{package}: pip .*keras-lgmsnet\[keras-cv\]"):
        KerasCVAugmentation({"RandomFlip": {}})


def test_tensorflow_keeps_off_the_gpu_of_another_backend(monkeypatch) -> None:
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *call: hidden.append(call))
    augment = KerasCVAugmentation({"RandomFlip": {}})
    assert hidden == ([] if keras.backend.backend() == "tensorflow" else [([], "GPU")])

    def refuse(*call) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    again = KerasCVAugmentation({"RandomFlip": {}})
    pair = image_and_mask()
    assert digest(again(*pair, np.random.default_rng(0))) == digest(
        augment(*pair, np.random.default_rng(0))
    )

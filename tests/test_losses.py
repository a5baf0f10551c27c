from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_lgmsnet.losses import BCEDiceLoss, DiceCELoss
from keras_lgmsnet.models.base import SegmentationNetwork

SMOOTH = 1e-5


def random_case(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Return masks with lesions of different sizes, and logits."""
    generator = np.random.default_rng(0)
    share = np.linspace(0.1, 0.6, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    mask = (generator.random(shape) < share).astype("uint8")
    return mask, 3 * generator.standard_normal(shape, "float32")


def random_labels(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Return class numbers of shape `shape[:-1]`, and logits."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, shape[-1], shape[:-1])
    return labels, 3 * generator.standard_normal(shape, "float32")


def torch_bce_dice(mask: np.ndarray, logits: np.ndarray) -> float:
    """The published formula, in float64."""
    mask = torch.from_numpy(mask.astype("float64")).flatten(1)
    logits = torch.from_numpy(logits.astype("float64")).flatten(1)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
    p = logits.sigmoid()
    dice = (2 * (p * mask).sum(1) + SMOOTH) / (p.sum(1) + mask.sum(1) + SMOOTH)
    return float(0.5 * cross_entropy + 1 - dice.mean())


def torch_dice_ce(labels: np.ndarray, logits: np.ndarray) -> float:
    logits = torch.from_numpy(logits.astype("float64")).movedim(-1, 1).flatten(2)
    labels = torch.from_numpy(labels.astype("int64")).flatten(1)
    one_hot = torch.nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    p = logits.softmax(1)
    dice = (2 * (p * one_hot).sum(2) + SMOOTH) / ((p**2).sum(2) + one_hot.sum(2) + SMOOTH)
    return float((1 - dice).mean() + torch.nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("shape", [(3, 8, 6, 1), (2, 8, 6, 4), (2, 4, 6, 8, 1)])
def test_bce_dice_is_the_published_formula(shape: tuple[int, ...]) -> None:
    mask, logits = random_case(*shape)
    np.testing.assert_allclose(
        float(BCEDiceLoss()(mask, logits)), torch_bce_dice(mask, logits), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(3, 8, 6, 2), (2, 4, 6, 8, 5)])
def test_dice_ce_is_the_published_formula(shape: tuple[int, ...]) -> None:
    labels, logits = random_labels(*shape)
    np.testing.assert_allclose(
        float(DiceCELoss()(labels, logits)), torch_dice_ce(labels, logits), rtol=1e-6
    )


def test_one_pixel_by_hand() -> None:
    # p = 1/2, y = 1: cross-entropy ln 2, Dice 2·½ / (½ + 1).
    loss = float(BCEDiceLoss()(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))))
    assert loss == pytest.approx(0.5 * np.log(2) + 1 - (1 + SMOOTH) / (1.5 + SMOOTH), rel=1e-6)
    # Two classes, p = (½, ½), y = (0, 1): Dice 0 and 2·½ / (¼ + 1).
    loss = float(DiceCELoss()(np.ones((1, 1, 1)), np.zeros((1, 1, 1, 2))))
    absent, present = SMOOTH / (0.25 + SMOOTH), (1 + SMOOTH) / (1.25 + SMOOTH)
    assert loss == pytest.approx(np.log(2) + 1 - (absent + present) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("mask_value", "logit", "expected"),
    [
        (0, -60000, 0.0),
        (1, 60000, 0.0),
        # Cross-entropy 60000, Dice 0.
        (1, -60000, 30001.0),
        (0, 60000, 30001.0),
    ],
)
def test_float16_logits_of_256_by_256_do_not_overflow(
    mask_value: int, logit: int, expected: float
) -> None:
    mask = np.full((1, 256, 256, 1), mask_value, "float16")
    logits = np.full(mask.shape, logit, "float16")
    loss = float(BCEDiceLoss()(mask, logits))
    assert loss == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_dice_ce_survives_extreme_float16_logits() -> None:
    logits = np.full((1, 256, 256, 2), -30000, "float16")
    logits[..., 1] = 30000
    assert float(DiceCELoss()(np.ones((1, 256, 256)), logits)) == pytest.approx(0, abs=1e-6)
    # Log-probability -60000, Dice 0 for both classes.
    assert float(DiceCELoss()(np.zeros((1, 256, 256)), logits)) == pytest.approx(60001, rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "make_case"), [(BCEDiceLoss, random_case), (DiceCELoss, random_labels)]
)
def test_one_value_per_image_so_that_weights_act_on_images(
    loss: type[keras.losses.Loss], make_case: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    target, logits = make_case(3, 4, 4, 2)
    per_image = ops.convert_to_numpy(loss(reduction=None)(target, logits))
    alone = [float(loss()(target[i : i + 1], logits[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(per_image, alone, rtol=1e-6)
    weights = np.array([0.0, 2.0, 1.0])
    np.testing.assert_allclose(
        float(loss()(target, logits, sample_weight=weights)),
        np.mean(per_image * weights),
        rtol=1e-6,
    )


def test_dice_is_averaged_over_images_not_pooled() -> None:
    # A full image found and a one-pixel lesion missed: pooled over the batch Dice would be near 1.
    mask = np.zeros((2, 8, 8, 1))
    mask[0], mask[1, 0, 0] = 1, 1
    logits = np.where(mask == 1, 40.0, -40.0)
    logits[1] = -40
    assert float(BCEDiceLoss()(mask, logits)) == pytest.approx(
        0.5 * 40 / 128 + 0.5 * (1 - SMOOTH / (1 + SMOOTH)), rel=1e-6
    )


def test_labels_may_be_numbers_with_or_without_an_axis_or_one_hot() -> None:
    labels, logits = random_labels(2, 4, 4, 4, 3)
    one_hot = np.eye(3)[labels]
    losses = [float(DiceCELoss()(y, logits)) for y in (labels, labels[..., None], one_hot)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


@pytest.mark.parametrize("factor", [np.float32(0.99999994), 1.0039, 0.9961])
def test_labels_that_miss_integers_are_rounded(factor: float) -> None:
    labels, logits = random_labels(2, 4, 4, 4, 3)
    loss = float(DiceCELoss()(labels, logits))
    for dtype in ("float32", "float64"):
        assert float(DiceCELoss()((factor * labels).astype(dtype), logits)) == loss
    mask, logits = random_case(2, 4, 4, 1)
    loss = float(BCEDiceLoss()(mask, logits))
    assert float(BCEDiceLoss()(mask * factor, logits)) == pytest.approx(loss, rel=0.02)


MASKS_OF_OTHER_VALUES = [
    (BCEDiceLoss(), lambda mask: 255 * mask[..., :1], "values from 0 to 1; divide .* 0 to 255"),
    (BCEDiceLoss(), lambda mask: mask[..., :1] - 1.0, "values from 0 to 1; .* -1 to 0"),
    (
        DiceCELoss(),
        lambda mask: 255 * mask[..., 0],
        "values from 0 to 2; .* and renumber .* 0 to 255",
    ),
    (DiceCELoss(), lambda mask: 3 * mask[..., :1], "values from 0 to 2; .* 0 to 3"),
    (DiceCELoss(), lambda mask: 255 * mask, "values from 0 to 1; .* 0 to 255"),
    (DiceCELoss(), lambda mask: mask[..., 0] * np.nan, "values from 0 to 2; .* nan to nan"),
]


@pytest.mark.parametrize(("loss", "spoil", "message"), MASKS_OF_OTHER_VALUES)
def test_masks_of_other_values_are_refused(
    loss: keras.losses.Loss, spoil: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    mask, logits = random_case(2, 4, 4, 3)
    masks = spoil(mask.astype("float32"))
    logits = logits[..., :1] if isinstance(loss, BCEDiceLoss) else logits
    with pytest.raises(ValueError, match=f"Masks must hold {message}"):
        loss(masks, logits)
    # Of tensors, of which a compiled step knows no values, each has no loss of its own.
    right = np.zeros_like(masks)
    right[0] = masks[0]
    mixed = type(loss)(reduction=None)(ops.convert_to_tensor(right), ops.convert_to_tensor(logits))
    assert np.isnan(ops.convert_to_numpy(mixed)).tolist() == [True, False]


class OneLayer(SegmentationNetwork):
    """A network that is compiled quickly, which the registry does not know."""

    rank = 2

    def __init__(self, num_classes: int) -> None:
        image = keras.Input((4, 4, 1))
        logits = keras.layers.Conv2D(num_classes, 1)(image)
        super().__init__(image, logits, num_classes, keras.dtype_policies.get("float32"))

    @classmethod
    def _check_shape(cls, shape: tuple, arguments: dict) -> None:
        """Any will do."""

    def get_config(self) -> dict:
        return {}


def test_training_on_masks_of_other_values_is_refused() -> None:
    network = OneLayer(num_classes=1)  # compiled as networks of the package are
    images = np.ones((2, 4, 4, 1))
    with pytest.raises(ValueError, match=r"divide masks of 0 and 255 by 255, .* the first batch"):
        network.fit(images, 255 * images, verbose=0)
    network.fit(images, images, verbose=0)


def test_masks_of_other_values_are_refused_wherever_they_are() -> None:
    images = np.ones((2, 4, 4, 1))
    masks = images * np.reshape([0, 255], (2, 1, 1, 1))  # the first batch is all background
    with pytest.raises(ValueError, match=r"a loss of NaN in epoch 1"):
        OneLayer(num_classes=1).fit(images, masks, batch_size=1, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=r"a loss of NaN in the validation after epoch 1"):
        OneLayer(num_classes=1).fit(images, images, validation_data=(images, masks), verbose=0)


@pytest.mark.parametrize("smooth", [0, -1e-5, float("nan")])
@pytest.mark.parametrize("loss", [BCEDiceLoss, DiceCELoss])
def test_smooth_must_be_positive(loss: type[keras.losses.Loss], smooth: float) -> None:
    with pytest.raises(ValueError, match=f"Received: smooth={smooth}"):
        loss(smooth=smooth)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 2), (2, 4, 5, 1), (1, 4, 4, 1)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mask.*logits\.shape=\(2, 4, 4, 1\)"):
        BCEDiceLoss()(np.zeros(shape), np.zeros((2, 4, 4, 1)))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (2, 4, 4, 2), (2, 4, 4, 4, 1), (1, 4, 4)])
def test_labels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Labels must.*logits\.shape=\(2, 4, 4, 3\)"):
        DiceCELoss()(np.zeros(shape), np.zeros((2, 4, 4, 3)))


def test_labels_whose_form_cannot_be_told_are_refused() -> None:
    labels = keras.KerasTensor((None, 4, 4, None), "float32")
    with pytest.raises(ValueError, match="class numbers from one-hot"):
        DiceCELoss().call(labels, keras.KerasTensor((None, 4, 4, 3), "float32"))


def test_a_softmax_over_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        DiceCELoss()(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize("loss", [BCEDiceLoss, DiceCELoss])
def test_serialization_keeps_the_arguments(loss: type[keras.losses.Loss]) -> None:
    original = loss(smooth=0.5, reduction="sum", name="renamed")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(original))
    assert type(restored) is loss
    assert restored.get_config() == original.get_config()
    assert restored.smooth == 0.5


@pytest.mark.parametrize(
    ("loss", "target"),
    [(BCEDiceLoss(), np.ones((4, 64, 64, 3))), (DiceCELoss(), np.ones((4, 64, 64), "int32"))],
)
def test_a_mixed_precision_model_learns(loss: keras.losses.Loss, target: np.ndarray) -> None:
    model = keras.Sequential([keras.layers.Conv2D(3, 1, dtype="mixed_float16")])
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=loss)
    images = np.ones((4, 64, 64, 2), "float32")
    history = model.fit(images, target, epochs=4, batch_size=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(history))
    assert history[-1] < history[0]

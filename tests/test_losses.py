from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_lgmsnet.losses import BCEDiceLoss, DiceCELoss

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

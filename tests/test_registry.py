"""The networks' names and sizes, which are told without Keras."""

import pytest

from keras_lgmsnet.models import registry
from keras_lgmsnet.models.network import Sides

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    ("sides", "side", "nearest"),
    [
        (Sides(), 37, 37),
        (Sides(), 0, 1),
        (Sides(divisor=32), 64, 64),
        (Sides(divisor=32), 47, 32),
        (Sides(divisor=32), 48, 64),
        (Sides(divisor=32), 3, 32),
        (Sides(divisor=32), -64, 32),
        (Sides(divisor=32), None, None),
        (Sides(divisor=16, least=120), 64, 128),
        (Sides(divisor=16, least=120), 150, 144),
        (Sides(least=224, most=224), 256, 224),
        (Sides(least=224, most=224), 224, 224),
        (Sides(divisor=16, most=100), 200, 96),
        (Sides(divisor=16, least=128, may_be_unknown=False), None, 128),
    ],
)
def test_nearest_side(sides: Sides, side: int | None, nearest: int | None) -> None:
    assert sides.nearest(side) == nearest
    assert sides.nearest(nearest) == nearest


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (Sides(), "above 0"),
        (Sides(divisor=32), "divisible by 32"),
        (Sides(divisor=16, least=128), "divisible by 16 and of 128 at least"),
        (Sides(divisor=16, most=256), "divisible by 16 and of 256 at most"),
        (Sides(least=224, most=224, may_be_unknown=False), "of 224 and known beforehand"),
    ],
)
def test_sides_in_words(sides: Sides, words: str) -> None:
    assert sides.describe() == words


def test_illegal_sides_are_refused_with_the_nearest() -> None:
    network = registry.find("unet", 2)
    network.check_sides((48, None), {})
    network.check_sides((36, 40), {"filters": (4, 8, 16)})
    with pytest.raises(ValueError, match=r"a_key must have sides divisible by 16 for this U-Net: "):
        network.check_sides((48, 40), {}, "a_key")
    with pytest.raises(ValueError, match=r"resize to \(48, 48\), .*Received: \(48, 40\)"):
        network.check_sides((48, 40), {"filters": "what the constructor will refuse"})


def test_names() -> None:
    assert set(registry.names(2)) | set(registry.names(3)) == set(registry.names())
    assert "unet" in registry.names(3)
    with pytest.raises(
        ValueError, match=r"no network 'unett'; did you mean unet or unext or unetr\?"
    ):
        registry.find("unett")
    with pytest.raises(ValueError, match=r"takes images \(rank 2\) and volumes.* Received: rank 1"):
        registry.find("unet", 1)
    with pytest.raises(ValueError, match=r"such as \(256, 256, 3\). Received: input_shape=256"):
        registry.create("unet", input_shape=256, num_classes=1)


def test_sides_that_fit_no_slices_become_the_nearest_that_do() -> None:
    sides = Sides(divisor=16, slices=(1, 1, 8, 8))
    assert sides.nearest_together((16, 16, 32)) == (32, 32, 32)
    assert sides.nearest_together((32, 32, 32)) == (32, 32, 32)
    assert Sides(divisor=2, slices=(1_000_003,)).nearest_together((1,)) == (2_000_006,)

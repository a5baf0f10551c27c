"""Masks of images in every layout: read as they are meant, or refused, never read as another."""

import contextlib
import io
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import strategies as st

from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.images import Examples, describe_one_sided, describe_pixels_between
from keras_lgmsnet.data.sources import read_examples
from keras_lgmsnet.evaluation.selection import describe_cautions
from keras_lgmsnet.files.masks import binary_mask, read_mask
from keras_lgmsnet.recipe.schema import Data, Recipe
from keras_lgmsnet.training import images as image_task
from keras_lgmsnet.training.images import ImageTask
from tests.helpers.refusals import refused
from tfds_builders.image_folder import image_folder_dataset_builder as image_folder

pytestmark = pytest.mark.no_backend

SHAPE = (33, 46)  # no multiple of a JPEG's block
TRUTH = np.zeros(SHAPE, np.uint8)
TRUTH[4:19, 5:30] = 1
TRUTH[8:11, 12:15] = 0
HALF = np.where(TRUTH, np.arange(46) % 2, 0).astype(np.uint8)  # half of the foreground
RUBBISH = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def encode(pixels: np.ndarray | PIL.Image.Image, kind: str = "PNG", **options) -> bytes:
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def encode_tiff(pixels: np.ndarray, **options) -> bytes:
    with io.BytesIO() as file:
        tifffile.imwrite(file, pixels, **options)
        return file.getvalue()


def rgba(foreground, background, alpha: np.ndarray) -> np.ndarray:
    """Return colours by `TRUTH`, each one colour or an array of them, and the opacity."""
    colours = np.where(TRUTH[..., None], np.uint8(foreground), np.uint8(background))
    return np.dstack([colours, alpha])


def palette(colours: list[int], **options) -> PIL.Image.Image:
    image = PIL.Image.fromarray(TRUTH)
    image.putpalette(colours)
    image.info.update(options)
    return image


def read(content: bytes, folder: Path, shape: tuple[int, int] = SHAPE, **options) -> np.ndarray:
    (folder / "b.png").write_bytes(content)
    mask, _ = read_mask(folder / "b.png", shape, **{"two_valued": True, **options})
    assert mask.dtype == np.uint8
    return mask


# Opacity

OPAQUE = 255 * TRUTH
LA = np.dstack([np.zeros_like(TRUTH), OPAQUE])
READ = {
    "white, opaque": rgba(WHITE, WHITE, OPAQUE),
    "black, opaque": rgba(BLACK, BLACK, OPAQUE),
    "red, opaque": rgba(RED, RED, OPAQUE),
    "red, of opacity 1": rgba(RED, RED, TRUTH),
    "red on nothing": rgba(RED, BLACK, OPAQUE),
    "red before rubbish": rgba(RED, RUBBISH, OPAQUE),
    "light red before white": rgba((200, 90, 90), WHITE, OPAQUE),
    "white before rubbish": rgba(WHITE, RUBBISH, OPAQUE),
    "white on black, both": rgba(WHITE, BLACK, OPAQUE),
    "white on black, opaque": rgba(WHITE, BLACK, np.full_like(OPAQUE, 255)),
    "white on black, half opaque": rgba(WHITE, BLACK, np.full_like(OPAQUE, 128)),
    "white on black, rim opaque": rgba(WHITE, BLACK, np.maximum(OPAQUE, 0)),
    "black in LA": LA,
    "white in LA": LA + np.uint8([255, 0]),
}
AGREE_NOT = {
    "each other's inverse": rgba(WHITE, BLACK, 255 - OPAQUE),
    "white hidden by black": rgba(BLACK, WHITE, OPAQUE),
    "1 hidden by 0": rgba([0] * 3, [1] * 3, OPAQUE),
    "half hidden": rgba(WHITE, BLACK, 255 * HALF),
    "all hidden": rgba(WHITE, BLACK, 0 * OPAQUE),
    "corners hidden": rgba(WHITE, BLACK, np.where(TRUTH | RUBBISH[..., 0] > 200, 255, 0)),
}


@pytest.mark.parametrize("layout", READ)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_mask_is_read_by_colours_or_opacity(layout: str, kind: str, tmp_path: Path) -> None:
    pixels = READ[layout]
    if kind == "WEBP" and pixels.shape[-1] == 2:
        pixels = np.dstack([pixels[..., :1]] * 3 + [pixels[..., 1:]])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encode(pixels.astype(np.uint8), kind, **options)
    np.testing.assert_array_equal(read(content, tmp_path), TRUTH)


@pytest.mark.parametrize("layout", AGREE_NOT)
@pytest.mark.parametrize("two_valued", [True, False])
def test_colours_and_opacity_that_disagree_are_refused(layout, two_valued, tmp_path) -> None:
    content = encode(AGREE_NOT[layout].astype(np.uint8))
    message = r"b\.png must tell one mask, .* Received: \d+ bright pixels, \d+ opaque"
    with refused(message):
        read(content, tmp_path, two_valued=two_valued)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (rgba(RUBBISH, BLACK, OPAQUE), r"b\.png must be a grey image"),
        (rgba(RED, BLACK, np.full_like(OPAQUE, 255)), r"b\.png must be a grey image"),
        (rgba(RUBBISH, RUBBISH, 0 * OPAQUE), r"b\.png must be a grey image"),
        (rgba(WHITE, [9] * 3, OPAQUE + 0), None),
        (rgba(BLACK, RUBBISH, OPAQUE), r"b\.png must be a grey image"),
        (rgba(BLACK, [200] * 3, OPAQUE), r"b\.png must hold .* Received: 0, 200"),
        (rgba([1] * 3, [2] * 3, np.full_like(OPAQUE, 255)), r"b\.png must hold .* Received: 1, 2"),
        (rgba(RED, RED, 128 * TRUTH), r"b\.png, by its opacity, must hold .* Received: 0, 128"),
        (rgba(RED, RED, 128 * TRUTH + 127), r"opacity, must hold .* Received: 127, 255"),
        (rgba(WHITE, BLACK, 127 * TRUTH + 128), r"opacity, must hold .* Received: 128, 255"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(pixels, message, tmp_path) -> None:
    if message is None:
        np.testing.assert_array_equal(read(encode(pixels), tmp_path), TRUTH)
        return
    with refused(message):
        read(encode(pixels.astype(np.uint8)), tmp_path)


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_mask_of_any_layout_is_read(value: int, tmp_path: Path) -> None:
    """And a full one; all black and opaque counts as empty, as it is without opacity."""
    nothing = np.zeros_like(OPAQUE)
    colours = np.full((*SHAPE, 3), value, np.uint8)
    assert not read(encode(np.dstack([colours, nothing])), tmp_path).any()
    full = read(encode(np.dstack([colours, nothing + np.uint8(255)])), tmp_path)
    assert np.all(full == (value == 255))


def test_palettes_are_read_by_their_opacity(tmp_path: Path) -> None:
    several = palette([9, 9, 9, 9, 9, 9], transparency=bytes([0, 255]))
    np.testing.assert_array_equal(read(encode(several), tmp_path), TRUTH)
    for kind in ("PNG", "GIF"):
        one = palette([0, 200, 0, 0, 200, 0], transparency=0)
        np.testing.assert_array_equal(read(encode(one, kind), tmp_path), TRUTH)
    partly = palette([9, 9, 9, 9, 9, 9], transparency=bytes([0, 99]))
    with refused(r"b\.png, by its opacity, must hold .* Received: 0, 99"):
        read(encode(partly), tmp_path)


def test_a_transparent_colour_is_read_or_refused(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(encode(OPAQUE, transparency=0), tmp_path), TRUTH)
    with refused("must tell one mask"):
        read(encode(OPAQUE, transparency=255), tmp_path)


@pytest.mark.parametrize("full", [1, 255, 65535])
def test_opacity_of_16_bits_is_read(full: int, tmp_path: Path) -> None:
    wide = np.uint16(full) * TRUTH.astype(np.uint16)
    colours = np.full((*SHAPE, 3), 300, np.uint16)
    pixels = np.dstack([colours, wide])
    png = cv2.imencode(".png", pixels)[1].tobytes()
    tiff = encode_tiff(pixels, photometric="rgb", extrasamples=["unassalpha"])
    for content in (png, tiff):
        np.testing.assert_array_equal(read(content, tmp_path), TRUTH)


@pytest.mark.parametrize("full", [1, 255, 65535])
def test_colours_of_16_bits_are_read(full: int, tmp_path: Path) -> None:
    wide = np.uint16(full) * TRUTH.astype(np.uint16)
    content = cv2.imencode(".png", np.dstack([wide] * 3))[1].tobytes()
    np.testing.assert_array_equal(read(content, tmp_path), TRUTH)


def test_labels_in_one_channel_are_no_tinted_grey(tmp_path: Path) -> None:
    blues = np.dstack([0 * TRUTH, 0 * TRUTH, 1 + TRUTH])
    for options in ({}, {"two_valued": False}, {"threshold": 127}):
        with refused(r"b\.png must "):
            read(encode(blues), tmp_path, **options)
    red_and_green = np.dstack([HALF, TRUTH - HALF, 0 * TRUTH])
    for options in ({}, {"threshold": 127}):
        with refused(r"b\.png must be a grey image"):
            read(encode(red_and_green), tmp_path, **options)


@st.composite
def masks(draw) -> np.ndarray:
    """Rectangles, ellipses and lines of foreground, united and cut out of one another."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.zeros(SHAPE, np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        first, second = (tuple(map(int, rng.integers(0, (46, 33)))) for _ in range(2))
        value, thickness = int(rng.random() < 0.8), int(rng.choice([-1, 1, 2, 5]))
        if rng.random() < 0.5:
            cv2.rectangle(mask, first, second, value, thickness)
        else:
            axes = tuple(map(int, rng.integers(1, 20, 2)))
            cv2.ellipse(mask, first, axes, 30.0, 0.0, 360.0, value, thickness)
    return mask


levels = st.sampled_from([0, 1, 2, 20, 127, 128, 200, 254, 255])


@hypothesis.given(mask=masks(), data=st.data())
@hypothesis.settings(deadline=None, max_examples=60)
def test_colours_and_opacity_never_give_another_mask(mask: np.ndarray, data) -> None:
    """Whatever they are: foreground is what is bright or, of one colour, what is opaque."""
    front, back, *opacity = (np.uint8(data.draw(levels)) for _ in range(4))
    alpha = np.where(mask, *opacity)
    grey = np.where(mask, front, back)
    below = [grey, 0 * grey, 0 * grey + 255, 255 * HALF, RUBBISH[..., 0]]
    hidden = data.draw(st.sampled_from(below))
    grey = np.where(alpha > 0, grey, hidden)
    pixels = np.dstack([grey] * 3) if data.draw(st.booleans()) else grey
    try:
        received, _ = binary_mask(pixels, SHAPE, "mask", alpha=alpha, two_valued=True)
    except ValueError:
        return
    if np.ptp(grey) and {*np.unique(grey)} <= {0, grey.max()} and grey.max() in (1, 255):
        np.testing.assert_array_equal(received, grey > 0)
    elif np.ptp(grey[alpha > 0]) if alpha.any() else np.ptp(grey):
        pytest.fail("Colours that are no mask were taken for one.")
    if np.ptp(alpha):
        np.testing.assert_array_equal(received, alpha == alpha.max())
        assert alpha.min() == 0


# JPEG


def jpeg(mask: np.ndarray, quality: int, subsampling: int = 0, colour: bool = False) -> bytes:
    pixels = np.dstack([mask] * 3) if colour else mask
    return encode(pixels, "JPEG", quality=quality, subsampling=subsampling)


qualities = st.integers(40, 100)


@hypothesis.given(
    mask=masks(), quality=qualities, subsampling=st.integers(0, 2), colour=st.booleans()
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_black_and_white_in_a_jpeg_is_read(mask, quality, subsampling, colour, tmp_path_factory):
    content = jpeg(255 * mask, quality, subsampling, colour)
    received = read(content, tmp_path_factory.getbasetemp())
    # A pixel in a thin line may fall short of half in a poor JPEG.
    assert np.count_nonzero(received != mask) <= (0 if quality >= 60 else 0.02 * mask.size)


@hypothesis.given(
    mask=masks().filter(np.any), value=st.integers(1, 180), quality=qualities, colour=st.booleans()
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_grey_in_a_jpeg_is_refused(mask, value, quality, colour, tmp_path_factory) -> None:
    content = jpeg(value * mask, quality, colour=colour)
    try:
        received = read(content, tmp_path_factory.getbasetemp())
    except ValueError:
        return
    # Of a very dark grey, a poor JPEG keeps nothing; it is then that of an empty mask.
    assert content == jpeg(0 * mask, quality, colour=colour) or value < 9
    assert not received.any()


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
@pytest.mark.parametrize("value", [20, 60, 127, 128, 200, 230])
def test_a_second_grey_in_a_jpeg_is_refused(value: int, quality: int, tmp_path: Path) -> None:
    classes = OPAQUE.copy()
    classes[22:30, 33:42] = value
    with refused(r"b\.png must be black and white, with greys along outlines only, .*threshold"):
        read(jpeg(classes, quality), tmp_path)
    with refused(r"save it as PNG of 0 and 255\. Received: mostly 0, 255"):
        read(jpeg(classes, quality), tmp_path, two_valued=False)


@pytest.mark.parametrize("value", [128, 200])
def test_a_thin_grey_line_in_a_jpeg_is_refused(value: int, tmp_path: Path) -> None:
    classes = OPAQUE.copy()
    classes[3:30, 42] = value
    with refused(r"b\.png must be black and white, with greys along outlines only"):
        read(jpeg(classes, 90), tmp_path)


def test_1_in_a_jpeg_is_refused(tmp_path: Path) -> None:
    with refused(r"b\.png must be black and white, .* Received: mostly 0, 1"):
        read(jpeg(TRUTH, 75), tmp_path)
    with refused(r"b\.png must be black and white, .* Received: mostly 1"):
        read(jpeg(np.ones_like(TRUTH), 75), tmp_path)


def lossy(pixels: np.ndarray, kind: str, quality: int) -> bytes:
    options = {"compression": "jpeg"} if kind == "TIFF" else {}
    return encode(pixels, kind, quality=quality, **options)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
@pytest.mark.parametrize("quality", [80, 95])
def test_other_lossy_compression_is_as_a_jpegs(kind: str, quality: int, tmp_path: Path) -> None:
    received = read(lossy(OPAQUE, kind, quality), tmp_path)
    np.testing.assert_array_equal(received, TRUTH)
    assert not read(lossy(0 * TRUTH, kind, quality), tmp_path).any()
    for value in (1, 100, 128, 200):
        with refused("outlines only, as lossy compression makes them; save it as PNG"):
            read(lossy(value * TRUTH, kind, quality), tmp_path)


@pytest.mark.parametrize("quality", range(1, 101, 3))
def test_empty_and_full_jpegs_are_read(quality: int, tmp_path: Path) -> None:
    """Although black is decoded to 1, 2, 3 or 8 by some qualities."""
    empty = jpeg(0 * TRUTH, quality)
    assert not read(empty, tmp_path).any()
    assert not read(empty, tmp_path, threshold=127).any()
    assert read(jpeg(0 * TRUTH + 255, quality), tmp_path).all()


# A threshold


def blurred() -> np.ndarray:
    """Anti-aliased, with 34 pixels of 51, 102, 153 and 204 each along the outline."""
    mask = np.zeros(SHAPE, np.uint8)
    for step, value in enumerate((51, 102, 153, 204, 255)):
        mask[4:21, 5 + step : 30 - step] = value
    return mask


@pytest.mark.parametrize("threshold", [0, 51, 127, 203, 204, 254])
@pytest.mark.parametrize("layout", ["grey", "colour", "16 bits", "opacity", "BMP", "JPEG"])
def test_a_threshold_reads_blurred_masks(threshold: int, layout: str, tmp_path: Path) -> None:
    mask = blurred()
    content = {
        "grey": lambda: encode(mask),
        "colour": lambda: encode(np.dstack([mask] * 3)),
        "16 bits": lambda: encode(mask * np.uint16(257)),
        "opacity": lambda: encode(np.dstack([np.full_like(mask, 9)] * 3 + [mask])),
        "BMP": lambda: encode(mask, "BMP"),
        "JPEG": lambda: jpeg(mask, 100),
    }[layout]()
    if layout == "JPEG" and threshold not in (127,):
        return  # whose values are but near the mask's
    path = tmp_path / "b.png"
    path.write_bytes(content)
    received, num_between = read_mask(path, SHAPE, two_valued=True, threshold=threshold)
    np.testing.assert_array_equal(received, mask > threshold)
    if layout != "JPEG":
        assert num_between == 4 * 34
    with refused(
        r"b\.png.* (0 and 1, only|outlines only).*, or, if its outlines are blurred, set "
        r"data\.mask_threshold \(lgms-evaluate --mask-threshold\) .*such as 127\. Received: "
    ):
        read(content, tmp_path)


@pytest.mark.parametrize("full", [1, 255])
def test_a_threshold_leaves_masks_of_two_values_as_they_are(full: int, tmp_path: Path) -> None:
    path = tmp_path / "b.png"
    path.write_bytes(encode(full * TRUTH))
    received, num_between = read_mask(path, SHAPE, two_valued=True, threshold=254)
    np.testing.assert_array_equal(received, TRUTH)
    assert num_between == 0


@pytest.mark.parametrize(
    "content",
    [
        encode(TRUTH + HALF),
        encode((TRUTH + HALF).astype(np.uint16) * 100),
        encode_tiff(TRUTH * np.float32(0.5)),
        jpeg(TRUTH, 75),
    ],
)
def test_what_no_value_exceeds_is_no_mask_of_that_threshold(content, tmp_path: Path) -> None:
    with refused(r"exceed the mask_threshold, 127 of 255\. Received: 0"):
        read(content, tmp_path, threshold=127)


# Datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, of whose masks two are blurred."""
    for name, mask in zip("abcd", (OPAQUE, blurred(), 0 * OPAQUE, blurred()), strict=True):
        for part, pixels in (("images", RUBBISH), ("masks", mask)):
            (tmp_path / "own" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / part / f"{name}.png").write_bytes(encode(pixels))
    return tmp_path / "own"


def load(folder: Path, mask_threshold: int | None) -> Examples:
    examples = load_examples(
        "image_folder",
        SHAPE,
        folder,
        folder.parent / "data",
        progress=False,
        mask_threshold=mask_threshold,
    )
    return examples.subset("abcd")


def test_each_threshold_has_a_prepared_copy(folder: Path) -> None:
    with refused(r"masks/b\.png must hold 0 and 255, or 0 and 1, only; .*mask_threshold"):
        load(folder, None)
    identities = set()
    for threshold in (127, 203, 127):  # the last from what was kept
        examples = load(folder, threshold)
        identities.add(examples.dataset)
        np.testing.assert_array_equal(examples.segmentation_masks[3, ..., 0], blurred() > threshold)
        assert examples.pixels_between == {"b": 136, "d": 136}
        assert describe_pixels_between(examples) == (
            "In 2 of 4 masks, 272 pixels (4.48% of all) lay between black and white: "
            "data.mask_threshold decided on them."
        )
    assert len(identities) == 2
    # Of the same images, so that those trained on are known whatever the threshold.
    assert len({identity.partition("/")[0] for identity in identities}) == 1
    assert describe_pixels_between(examples.subset("ac")) is None


@pytest.mark.parametrize("threshold", [-1, 255, 127.0, True, "127"])
def test_a_threshold_out_of_range_is_refused(threshold) -> None:
    with refused("mask_threshold must be .*from 0 to 254"):
        image_folder.Config(mask_threshold=threshold)
    with refused("data.mask_threshold must "):
        Data(source="image_folder", mask_threshold=threshold)


def test_a_threshold_is_for_masks_of_ones_own(folder: Path) -> None:
    with refused(r"data.mask_threshold must be None: only masks of your own"):
        Data(source="busi", mask_threshold=127)
    for source in ("synthetic", "busi"):
        data = Data(source=source, num_images=4 if source == "synthetic" else None)
        with refused(f"for images of your own, image_folder: .* Received: 127 for {source}"):
            read_examples(Recipe(data=data), mask_threshold=127)
    with refused("for images of your own, image_folder: .* Received: 127 for msd_folder"):
        load_examples("msd_folder", SHAPE, folder, folder.parent, mask_threshold=127)


def test_a_recipe_reads_its_own_masks_by_its_threshold(folder: Path) -> None:
    data = Data(source="image_folder", image_size=(32, 32), mask_threshold=200)
    folders = {"manual_dir": folder, "data_dir": folder.parent / "data"}
    examples = read_examples(Recipe(data=data), **folders)
    asked = read_examples(Recipe(data=data), **folders, mask_threshold=50)
    assert asked.segmentation_masks.sum() > examples.segmentation_masks.sum()
    other = Recipe(data=Data(source="busi", image_size=(32, 32)))
    again = read_examples(other, **folders, source="image_folder", mask_threshold=50)
    assert again.dataset == asked.dataset
    with refused(r"masks/b\.png must hold 0 and 255"):
        read_examples(other, **folders, source="image_folder")


# Masks that are all alike


def examples_of(*values: int) -> Examples:
    masks = np.zeros((len(values), 4, 4, 1), np.uint8)
    for mask, value in zip(masks, values, strict=True):
        mask[: 4 * value // 2] = 1  # none, half or all of it
    ids = [f"id{number}" for number in range(len(values))]
    return Examples(ids, np.zeros((len(values), 4, 4, 3), np.uint8), masks)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0, 0), "empty"), ((2, 2), "full"), ((0, 2), None), ((0, 1), None), ((1,), None)],
)
def test_masks_that_are_all_empty_or_full_are_told(values, expected) -> None:
    examples = examples_of(*values)
    assert describe_one_sided(examples.segmentation_masks) == expected
    caution = describe_cautions([], "own", examples)
    assert caution == {
        "empty": "All masks are empty: the scores tell false alarms only.",
        "full": "All masks are full: the scores tell what is missed only.",
        None: None,
    }.get(expected)


def test_scores_come_with_what_a_threshold_decided(folder: Path) -> None:
    caution = describe_cautions([], "own", load(folder, 127))
    assert caution.startswith("In 2 of 4 masks, 272 pixels (4.48% of all) lay between")


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(("value", "alike"), [(0, "empty"), (2, "full")])
def test_a_part_of_masks_all_alike_is_not_trained_on(part, value, alike, monkeypatch) -> None:
    parts = ("train", "validation", "test")
    values = [value if other == part else 1 for other in parts for _ in range(2)]
    examples = examples_of(*values)
    splits = {name: examples.ids[2 * index :][:2] for index, name in enumerate(parts)}
    monkeypatch.setattr(image_task, "read_examples", lambda *_: examples)
    monkeypatch.setattr(ImageTask, "_split", lambda *_: splits)
    monkeypatch.setattr(image_task, "_build_network", lambda *_: None)
    recipe = Recipe(data=Data(source="busi"))
    name = {"train": "training"}.get(part, part)
    message = f"The {name} images must have a labelled pixel .* 2 masks, all {alike}"
    with refused(message):
        ImageTask(recipe, contextlib.nullcontext, None, None)


def test_training_says_what_a_threshold_decided(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "fingerprint.json").touch()
    task = ImageTask.__new__(ImageTask)
    examples = load(folder, 127)
    capsys.readouterr()
    task.examples = {"train": examples.subset("abc"), "validation": examples.subset("a")}
    task.prepare(tmp_path)
    assert capsys.readouterr().out == (
        "Training images: In 1 of 3 masks, 136 pixels (2.99% of all) lay between black and white: "
        "data.mask_threshold decided on them.\n"
    )

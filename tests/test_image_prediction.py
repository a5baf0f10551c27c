"""Prediction: outputs at the images' own size, and whatever users put into folders."""

import csv
import dataclasses
import json
import os
import re
from pathlib import Path

import cv2
import keras
import numpy as np
import PIL.Image
import pytest
import tifffile

from keras_lgmsnet.data.image_fingerprint import Fingerprint
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR
from keras_lgmsnet.files.pixels import DecodedImage
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.inference import images as prediction
from keras_lgmsnet.inference.images import predict_images
from keras_lgmsnet.recipe.schema import Data, Recipe, VolumeData

SIDE = 32
RECIPE = Recipe(data=Data(source="synthetic", num_images=2, image_size=(SIDE, SIDE)))


def write_run(folder: Path, num_classes: int = 1, channels: int = 3, fill: float = 4.0) -> Path:
    """A run whose network finds what is brighter than mid-grey: logits 4 × the normalised image."""
    image = keras.Input((SIDE, SIDE, channels))
    layer = keras.layers.Conv2D(num_classes, 1, use_bias=False, kernel_initializer="zeros")
    network = keras.Model(image, layer(image))
    layer.set_weights([np.full((1, 1, channels, num_classes), fill, "float32")])
    folder.mkdir(parents=True)
    network.save(folder / "model.keras")
    write_json(folder / "recipe.json", {"recipe": RECIPE.to_dict(), "backend": "torch"})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run without fingerprint."""
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def square(height: int, width: int, top: int, left: int, side: int) -> np.ndarray:
    """A white square on black, RGB."""
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[top : top + side, left : left + side] = 255
    return pixels


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_outputs_have_the_size_of_the_image(run: Path, tmp_path: Path) -> None:
    pixels = square(80, 120, top=20, left=60, side=40)
    (row,) = predict_images(
        run, save(tmp_path / "a.png", pixels), tmp_path / "out", probabilities=True
    )
    assert written(tmp_path / "out") == [
        "lgms-predict.json",
        "masks/a.png",
        "overlays/a.png",
        "probabilities/a.png",
        "results.csv",
    ]
    mask = read(tmp_path / "out/masks/a.png")
    assert (mask.shape, mask.dtype) == ((80, 120), "uint8")
    assert set(np.unique(mask)) == {0, 255}
    # Resized to 32 × 32 and back, a border moves by up to the size of such a pixel, 3.75.
    assert mask[24:56, 64:96].min() == 255
    inside = np.zeros((80, 120), bool)
    inside[16:64, 56:104] = True
    assert mask[~inside].max() == 0
    assert row.lesion_share == pytest.approx(np.mean(mask == 255))

    probability = read(tmp_path / "out/probabilities/a.png")
    assert (probability.shape, probability.dtype) == ((80, 120), "uint16")
    np.testing.assert_array_equal(probability > 65535 / 2, mask == 255)
    assert probability.min() < 100
    assert probability.max() > 65435

    overlay = read(tmp_path / "out/overlays/a.png")
    assert overlay.shape == pixels.shape
    amber = bytes.fromhex(PREDICTION_COLOR[1:])
    # The only color here, so what has much more red than blue is the outline.
    rows, columns = np.nonzero(overlay[..., 0] > overlay[..., 2].astype(int) + 100)
    np.testing.assert_allclose([rows.min(), rows.max()], [20, 59], atol=4)
    np.testing.assert_allclose([columns.min(), columns.max()], [60, 99], atol=4)
    assert np.abs(overlay[40, columns[rows == 40].max()] - np.int64([*amber])).max() < 60
    np.testing.assert_array_equal(overlay[:10], pixels[:10])

    assert table(tmp_path / "out") == [
        {
            "path": str(tmp_path / "a.png"),
            "name": "a",
            "status": "predicted",
            "lesion_share": f"{row.lesion_share:.6f}",
            "flags": "not checked",
            "error": "",
        }
    ]
    described = json.loads((tmp_path / "out/lgms-predict.json").read_text())
    assert described["method"] == {"resized_to": [SIDE, SIDE]}
    assert "Not a medical device" in described["notice"]


def test_probabilities_are_resized_back_linearly(run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype="uint8")
    predict_images(run, save(tmp_path / "a.png", pixels), tmp_path / "out", probabilities=True)
    small = cv2.resize(pixels, (SIDE, SIDE)).astype("float32") / 255
    normalized = (small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = cv2.resize(1 / (1 + np.exp(-4 * normalized.sum(axis=-1))), (70, 50))
    probability = read(tmp_path / "out/probabilities/a.png")
    np.testing.assert_allclose(probability / 65535, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(80, 120), (SIDE, SIDE), (7, 90), (1, 1)])
def test_tiles_see_the_image_as_it_is(size, run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).choice(np.uint8([0, 255]), (*size, 1)).repeat(3, axis=-1)
    path = save(tmp_path / "a.png", pixels)
    predict_images(run, path, tmp_path / "out", tiles=True, overlap=0.25)
    np.testing.assert_array_equal(read(tmp_path / "out/masks/a.png"), pixels[..., 0])
    described = json.loads((tmp_path / "out/lgms-predict.json").read_text())
    assert described["method"] == {
        "tile_size": [SIDE, SIDE],
        "overlap": 0.25,
        "weighting": "gaussian",
    }


def test_the_recipe_chooses_the_preprocessing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype="uint8")
    path = save(tmp_path / "a.png", pixels)
    data = dataclasses.replace(RECIPE.data, preprocessing="published")
    write_json(run / "recipe.json", {"recipe": dataclasses.replace(RECIPE, data=data).to_dict()})
    predict_images(run, path, tmp_path / "out", probabilities=True)
    bgr = pixels[..., ::-1] / 255
    normalized = (bgr - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] / 255
    expected = 1 / (1 + np.exp(-4 * normalized.sum(axis=-1)))
    probability = read(tmp_path / "out/probabilities/a.png")
    np.testing.assert_allclose(probability / 65535, expected, atol=1e-4)


def test_photograph_is_segmented_upright(run: Path, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    pixels = square(40, 60, top=0, left=0, side=20)
    predict_images(run, save(tmp_path / "a.jpg", pixels, exif=exif), tmp_path / "out")
    mask = read(tmp_path / "out/masks/a.png")
    assert mask.shape == (60, 40)
    assert mask[5:15, 25:35].min() == 255  # top right
    assert mask[:, :15].max() == 0


class TestFolders:
    def test_pictures_keep_their_folders(self, run: Path, tmp_path: Path) -> None:
        pixels = square(8, 8, 0, 0, 8)
        for name in ("b/1.png", "a/1.png", "a/ü b.png", "a/.hidden.png", "2.png"):
            save(tmp_path / "in" / name, pixels)
        (tmp_path / "in/notes.txt").write_text("no image")
        (tmp_path / "in/a/loop").symlink_to("..", target_is_directory=True)
        rows = predict_images(run, [tmp_path / "in"], tmp_path / "out")
        assert [row.name for row in rows] == ["2", "a/1", "a/ü b", "b/1"]
        assert all(row.lesion_share == 1 for row in rows)
        for row in rows:
            assert (tmp_path / "out/masks" / f"{row.name}.png").exists()

    def test_a_folder_named_as_a_picture(self, run: Path, tmp_path: Path) -> None:
        black = np.zeros((8, 8, 3), "uint8")
        save(tmp_path / "in/scan.jpg", black)
        save(tmp_path / "in/scan.png/x.png", black)
        rows = predict_images(run, tmp_path / "in", tmp_path / "out")
        assert [row.name for row in rows] == ["scan", "scan.png_/x"]
        assert (tmp_path / "out/masks/scan.png").is_file()
        assert (tmp_path / "out/masks/scan.png_/x.png").is_file()

    def test_equal_names_do_not_overwrite_each_other(self, run: Path, tmp_path: Path) -> None:
        white, black = square(8, 8, 0, 0, 8), square(8, 8, 0, 0, 0)
        images = [
            save(tmp_path / "a/scan.png", white),
            save(tmp_path / "b/SCAN.png", black),
            save(tmp_path / "b/scan-2.png", black),
            save(tmp_path / "c/scan.bmp", white),
            tmp_path / "a/scan.png",  # again
        ]
        rows = predict_images(run, images, tmp_path / "out")
        assert [row.name for row in rows] == ["scan", "SCAN-2", "scan-2-2", "scan-3"]
        masks = [read(tmp_path / "out/masks" / f"{row.name}.png").max() for row in rows]
        assert masks == [255, 0, 0, 255]

    def test_outputs_inside_the_input_are_not_read(self, run: Path, tmp_path: Path) -> None:
        save(tmp_path / "1.png", square(8, 8, 0, 0, 8))
        for name in ("first", "second"):
            rows = predict_images(run, tmp_path, tmp_path / "predicted" / name, probabilities=True)
            assert [row.name for row in rows] == ["1"]

    def test_names_that_are_no_text(self, run: Path, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        for name in (b"a\xff.png", b"a\xfe.png"):
            save(folder / "x.png", square(8, 8, 0, 0, 8)).rename(folder / os.fsdecode(name))
        rows = predict_images(run, folder, tmp_path / "out")
        assert [row.name for row in rows] == ["a\ufffd", "a\ufffd-2"]
        assert [row["path"] for row in table(tmp_path / "out")] == [f"{folder}/a\ufffd.png"] * 2

    def test_longest_names(self, run: Path, tmp_path: Path) -> None:
        images = [save(tmp_path / f"{'é' * 124}{n}.png", square(8, 8, 0, 0, 8)) for n in (1, 2)]
        rows = predict_images(run, images, tmp_path / "out")
        assert [row.name for row in rows] == ["é" * 100, "é" * 100 + "-2"]


def bad_files(folder: Path) -> None:
    """One file of each kind that is no usable image."""
    good = save(folder / "good.png", square(64, 64, 16, 16, 32))
    (folder / "truncated.png").write_bytes(good.read_bytes()[:80])
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").touch()
    save(folder / "nan.tif", np.full((4, 4), np.nan, "float32"))
    frames = [PIL.Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    (folder / "broken link.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")


def test_unreadable_files_do_not_stop_the_rest(run: Path, tmp_path: Path) -> None:
    bad_files(tmp_path / "in")
    rows = {row["name"]: row for row in table_after(run, tmp_path)}
    assert rows.pop("good")["status"] == "predicted"
    assert len(rows) == 8
    for name, row in rows.items():
        assert row["status"] == "failed"
        assert f"/in/{name}" in row["error"]
        assert "\n" not in row["error"]
        assert row["lesion_share"] == row["flags"] == ""
    assert written(tmp_path / "out/masks") == ["good.png"]


def table_after(run: Path, tmp_path: Path) -> list[dict[str, str]]:
    predict_images(run, tmp_path / "in", tmp_path / "out")
    return table(tmp_path / "out")


class TestFlags:
    @pytest.fixture
    def fingerprinted(self, tmp_path: Path) -> Path:
        run = write_run(tmp_path / "run")
        rng = np.random.default_rng(0)
        images = [np.full((SIDE, SIDE, 3), grey, "uint8") for grey in rng.integers(90, 160, 20)]
        Fingerprint.of_images(images, [(64, 64)] * 20).write(run)
        return run

    def test_image_outside_the_range_is_flagged(self, fingerprinted: Path, tmp_path: Path) -> None:
        images = [
            save(tmp_path / "like.png", np.full((64, 64, 3), 120, "uint8")),
            save(tmp_path / "bright.png", np.full((64, 64, 3), 250, "uint8")),
            save(tmp_path / "red.png", np.full((64, 64, 3), [200, 90, 90], "uint8")),
            save(tmp_path / "small.png", np.full((10, 64, 3), 120, "uint8")),
        ]
        like, bright, red, small = predict_images(fingerprinted, images, tmp_path / "out")
        assert like.flags == ()
        assert [flag.split(" is 0.")[0] for flag in bright.flags] == ["brightness"]
        assert [flag.split(" ")[0] for flag in red.flags] == ["colourfulness"]
        assert [flag.split(", in")[0] for flag in small.flags] == [
            "the shorter side has 10 pixels",
            "the longer side is 6.4 times the shorter",
        ]
        assert [row["flags"] for row in table(tmp_path / "out")] == [
            "",
            bright.flags[0],
            red.flags[0],
            f"{small.flags[0]}; {small.flags[1]}",
        ]

    @pytest.mark.parametrize(
        ("trained_on", "grey", "flag"),
        [
            (None, 125, "the file does not say how many bits it uses, taken to be 12"),
            (10, 125, "12 bits are in use, in training 10"),
            (14, 31, None),
        ],
    )
    def test_undeclared_bits_are_those_trained_on(
        self, trained_on, grey, flag, fingerprinted: Path, tmp_path: Path
    ) -> None:
        fingerprint = Fingerprint.read(fingerprinted)
        dataclasses.replace(fingerprint, bits=trained_on).write(fingerprinted)
        image = save(tmp_path / "a.png", np.full((64, 64), 2000, "uint16"))
        (row,) = predict_images(fingerprinted, image, tmp_path / "out")
        assert [told for told in row.flags if "bits" in told] == ([flag] if flag else [])
        assert read(tmp_path / "out/overlays/a.png")[32, 32].tolist() == [grey] * 3
        description = json.loads((tmp_path / "out/lgms-predict.json").read_text())
        assert description["bits"] == trained_on

    def test_undeclared_bits_are_told_without_a_fingerprint(self, run: Path, tmp_path) -> None:
        images = [
            save(tmp_path / f"{largest}.png", np.full((64, 64), largest, "uint16"))
            for largest in (200, 2000)
        ]
        images.append(save(tmp_path / "a.png", np.zeros((64, 64), "uint8")))
        *wide, narrow = predict_images(run, images, tmp_path / "out")
        told = "the file does not say how many bits it uses, taken to be "
        assert [row.flags for row in wide] == [(f"{told}8",), (f"{told}12",)]
        assert narrow.flags is None

    @pytest.mark.parametrize("kind", ["float32", "int16"])
    def test_a_scale_of_its_own_is_told(self, kind: str, fingerprinted: Path, tmp_path) -> None:
        pixels = np.tile(np.arange(64, dtype=kind), (64, 1))
        images = [tmp_path / "a.tif", tmp_path / "b.tif"]
        for path, least in zip(images, (0, -1), strict=True):
            tifffile.imwrite(path, pixels + least)
        flag = (
            "its values, floats or partly negative, are scaled by its own least and largest value"
        )
        with_fingerprint = predict_images(fingerprinted, images, tmp_path / "out")
        (fingerprinted / "fingerprint.json").unlink()
        without = predict_images(fingerprinted, images, tmp_path / "without")
        for whole, negative in (with_fingerprint, without):
            assert flag in negative.flags
            assert (flag in whole.flags) == (kind == "float32")

    def test_damaged_fingerprint(self, fingerprinted: Path, tmp_path: Path) -> None:
        (fingerprinted / "fingerprint.json").write_text("{}")
        with pytest.raises(ValueError, match=r"fingerprint.json is damaged"):
            predict_images(
                fingerprinted, save(tmp_path / "a.png", np.zeros((8, 8), "uint8")), "out"
            )


class TestOneFile:
    """The mask of one image, named by the user, and what is written beside it."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        return save(tmp_path / "a.png", square(40, 60, 4, 8, 24))

    def test_it_is_what_a_folder_would_hold(self, run: Path, image: Path, tmp_path: Path) -> None:
        (tmp_path / "seg_probabilities.png").write_text("kept")  # not asked for
        (row,) = predict_images(run, image, tmp_path / "new/seg.PNG")
        predict_images(run, image, tmp_path / "out", probabilities=True)
        predict_images(run, image, tmp_path / "Seg.png", probabilities=True)
        for folder, name in (("masks", "Seg"), ("overlays", "Seg_overlay")):
            expected = (tmp_path / f"out/{folder}/a.png").read_bytes()
            assert (tmp_path / f"{name}.png").read_bytes() == expected
        np.testing.assert_array_equal(
            read(tmp_path / "Seg_probabilities.png"), read(tmp_path / "out/probabilities/a.png")
        )
        assert written(tmp_path / "new") == ["seg.PNG", "seg.json", "seg_overlay.png"]
        told = json.loads((tmp_path / "new/seg.json").read_text())
        assert told["image"] == str(image)
        assert told["lesion_share"] == row.lesion_share == pytest.approx(24 * 24 / 2400, abs=0.1)
        assert told["unlike_the_training_images"] is None  # the run has no fingerprint
        assert told["threshold"] == 0.5

    @pytest.mark.parametrize("taken", ["seg.png", "seg.json", "seg_overlay.png"])
    def test_nothing_is_overwritten(self, taken, run: Path, image: Path, tmp_path: Path) -> None:
        (tmp_path / taken).write_text("kept")
        with pytest.raises(FileExistsError, match=rf"{taken} exists already: choose another"):
            predict_images(run, image, tmp_path / "seg.png")
        assert written(tmp_path) == ["a.png", taken]
        with pytest.raises(FileExistsError, match=r"a.png exists already"):
            predict_images(run, image, image)

    def test_several_images_need_a_folder(self, run: Path, image: Path, tmp_path: Path) -> None:
        other = save(tmp_path / "b.png", square(8, 8, 0, 0, 8))
        with pytest.raises(ValueError, match=r"Of 2 images, the outputs need a folder.*seg\.png"):
            predict_images(run, [image, other], tmp_path / "seg.png")


class TestRefusals:
    """What is refused before anything is written."""

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        return save(tmp_path / "a.png", square(8, 8, 0, 0, 8))

    def test_output_in_use(self, run: Path, image: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").touch()
        with pytest.raises(FileExistsError, match=r"is in use: choose another"):
            predict_images(run, image, tmp_path / "out")
        assert written(tmp_path / "out") == ["notes.txt"]

    @pytest.mark.parametrize("name", ["seg.JPG", "seg.nii.gz"])
    def test_output_named_like_a_file(
        self, name: str, run: Path, image: Path, tmp_path: Path
    ) -> None:
        message = rf"such as .*/seg, or of one input a file in \.png\. Received: .*/{name}$"
        with pytest.raises(ValueError, match=message):
            predict_images(run, image, tmp_path / name)
        assert written(tmp_path) == ["a.png"]

    def test_output_that_cannot_be_written(self, run: Path, image: Path) -> None:
        with pytest.raises(OSError, match=r"cannot be written to"):
            predict_images(run, image, image / "out")

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (["none.png"], r"There is no image .*none.png"),
            (["a.png", "empty"], r"empty holds no image: no file that ends in .png,"),
            ([], r"must be at least one image"),
        ],
    )
    def test_absent_images(self, images, message, run: Path, image: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=message):
            predict_images(run, [tmp_path / name for name in images], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_no_run(self, image: Path, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"is not a run directory"):
            predict_images(tmp_path, image, tmp_path / "out")
        write_json(tmp_path / "recipe.json", {"recipe": RECIPE.to_dict()})
        with pytest.raises(FileNotFoundError, match=r"has no trained network yet"):
            predict_images(tmp_path, image, tmp_path / "out")

    def test_run_on_volumes(self, image: Path, tmp_path: Path) -> None:
        write_json(
            tmp_path / "recipe.json", {"recipe": Recipe(data=VolumeData(source="btcv")).to_dict()}
        )
        with pytest.raises(ValueError, match=r"which is on volumes: see .*predict_volumes"):
            predict_images(tmp_path, image, tmp_path / "out")

    def test_damaged_network(self, run: Path, image: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "run"
        damaged.mkdir()
        (damaged / "recipe.json").write_bytes((run / "recipe.json").read_bytes())
        content = (run / "model.keras").read_bytes()
        for wrong in (b"", content[: len(content) // 2], content.replace(b"class_name", b"x" * 10)):
            (damaged / "model.keras").write_bytes(wrong)
            with pytest.raises(ValueError, match=r"model.keras is damaged"):
                predict_images(damaged, image, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("arguments", [{"num_classes": 2}, {"channels": 1}])
    def test_other_networks(self, arguments, image: Path, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", **arguments)
        with pytest.raises(
            ValueError, match=r"from images of shape \(32, 32, 3\), .* to one class"
        ):
            predict_images(run, image, tmp_path / "out")

    def test_network_of_nan(self, image: Path, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", fill=float("nan"))
        with pytest.raises(ValueError, match=r"returns numbers that are not finite"):
            predict_images(run, image, tmp_path / "out")


def test_interruption_keeps_what_was_done(run: Path, tmp_path: Path, monkeypatch) -> None:
    for name in ("1.png", "2.png"):
        save(tmp_path / "in" / name, square(8, 8, 0, 0, 8))
    original = prediction.load_image

    def interrupted(path: Path) -> DecodedImage:
        if path.name == "2.png":
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(prediction, "load_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_images(run, tmp_path / "in", tmp_path / "out")
    assert [row["name"] for row in table(tmp_path / "out")] == ["1"]
    assert written(tmp_path / "out/masks") == ["1.png"]


def test_a_full_disk_stops_no_other_image(run: Path, tmp_path: Path, monkeypatch) -> None:
    for name in ("1.png", "2.png", "3.png"):
        save(tmp_path / "in" / name, square(8, 8, 0, 0, 8))
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.endswith("2.png"):
            original(path, content[:20])
            raise OSError(28, "No space left on device", str(path))
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    predict_images(run, tmp_path / "in", tmp_path / "out")
    assert written(tmp_path / "out/masks") == ["1.png", "3.png"]
    rows = table(tmp_path / "out")
    assert [row["status"] for row in rows] == ["predicted", "failed", "predicted"]
    assert re.fullmatch(r"No space left on device: .*out/masks/.*2\.png", rows[1]["error"])

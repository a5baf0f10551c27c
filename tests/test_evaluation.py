"""Evaluation of runs: scores, groups, comparison, and what is on disk."""

import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from keras_lgmsnet.data import sources, synthetic
from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.image_fingerprint import Fingerprint
from keras_lgmsnet.data.images import Examples, ImageBatches, preprocess
from keras_lgmsnet.evaluation import images as image_evaluation
from keras_lgmsnet.evaluation.images import describe_convention, score_images
from keras_lgmsnet.evaluation.runs import evaluate
from keras_lgmsnet.evaluation.score_tables import compare, format_table
from keras_lgmsnet.files import writing
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.metrics import THRESHOLD, image_scores
from keras_lgmsnet.recipe.schema import Data, Recipe, Training
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.scoring.significance import mean_interval

SIZE = (32, 32)
RECIPE = Recipe(
    data=Data(source="synthetic", num_images=10, image_size=SIZE), training=Training(batch_size=4)
)
IDS = synthetic.generate(10, SIZE).ids
VALIDATION_IDS = [IDS[7], IDS[2], IDS[9]]
FILES = ["evaluation.json", "per_image.csv", "table.md", "table.tex"]


def write_run(run: Path, recipe: Recipe = RECIPE, brightest: float = 0.0) -> Path:
    """A finished run whose network finds pixels brighter than `brightest`, in ImageNet's scale."""
    run.mkdir(parents=True)
    image = keras.Input((*recipe.data.image_size, 3))
    layer = keras.layers.Conv2D(1, 1)
    network = keras.Model(image, layer(image))
    layer.set_weights([np.full((1, 1, 3, 1), 1 / 3, "float32"), np.full(1, -brightest, "float32")])
    network.save(run / "model.keras")
    begun = {"dataset": "synthetic/0", "backend": "any", "versions": {}}
    write_json(run / "recipe.json", {"recipe": recipe.to_dict(), **begun})
    train_ids = [id_ for id_ in IDS if id_ not in VALIDATION_IDS]
    write_json(run / "splits.json", {"train": train_ids, "validation": VALIDATION_IDS})
    write_json(run / "metrics.json", {})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make_examples(*pairs: tuple[np.ndarray, np.ndarray]) -> Examples:
    """Examples of the masks, in images where the predictions are white on black."""
    masks, predictions = (
        np.stack(part).astype("uint8")[..., None] for part in zip(*pairs, strict=True)
    )
    ids = [f"image {index}" for index in range(len(pairs))]
    return Examples(ids, predictions.repeat(3, -1) * 255, masks, dataset="unseen/1.0.0")


def filled(rows: int, columns: int = 32) -> np.ndarray:
    mask = np.zeros(SIZE)
    mask[:rows, :columns] = 1
    return mask


@pytest.fixture
def unseen(monkeypatch) -> Examples:
    """A dataset called `unseen` of known scores."""
    examples = make_examples(
        (filled(8), filled(8)),  # a large lesion, found
        (filled(8), filled(4)),  # half of one
        (filled(4), filled(0)),  # a medium one, missed
        (filled(1), np.roll(filled(1), 16, axis=0)),  # a small one, sought elsewhere
        (filled(0), filled(0)),  # none
        (filled(0), filled(2, 2)),  # a false alarm
    )

    def load(builder, image_size, manual_dir, data_dir, **options) -> Examples:
        assert (builder, image_size) == ("unseen", SIZE)
        return examples

    monkeypatch.setattr(sources, "load_examples", load)
    return examples


def test_scores_are_those_of_each_image_alone() -> None:
    """Also of the last batch, which is smaller."""
    image = keras.Input((32, 32, 3))
    network = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))
    examples = synthetic.generate(5, (32, 32))
    scores, predictions = score_images(network, ImageBatches(examples, batch_size=2))
    logits = network.predict_on_batch(preprocess(examples.images))
    np.testing.assert_array_equal(predictions, logits > 0)
    assert 0 < predictions.mean() < 1
    expected = image_scores(examples.segmentation_masks, logits, THRESHOLD)
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        assert scores[name].shape == (5,)
        np.testing.assert_allclose(scores[name], values, rtol=1e-6)


def test_scores_by_hand(run: Path, unseen: Examples) -> None:
    evaluated = evaluate(run, dataset="unseen")
    output = run / "evaluation-unseen"
    rows = read_rows(output / "per_image.csv")
    names = [*image_evaluation.SCORES, "lesion_size"]
    assert list(rows[0]) == ["id", "group", *names]
    assert [row["id"] for row in rows] == [row["group"] for row in rows] == unseen.ids
    columns = {name: [float(row[name]) for row in rows] for name in names}
    diagonal = 32 * math.sqrt(2)
    expected = {
        "iou": [1, 0.5, 0, 0, 1, 0],
        "f1": [1, 2 / 3, 0, 0, 1, 0],
        "sensitivity": [1, 0.5, 0, 0, 1, 0],
        "precision": [1, 1, 0, 0, 1, 0],
        "specificity": [1, 1, 1, 30 / 31, 1, 255 / 256],
        "accuracy": [1, 7 / 8, 7 / 8, 15 / 16, 1, 255 / 256],
        # Of 76 boundary pixels of 8 rows, 32 lie in a row 4 from those predicted.
        "hd95": [0, 4, diagonal, 16, 0, diagonal],
        "lesion_size": [1 / 4, 1 / 4, 1 / 8, 1 / 32, 0, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-6, err_msg=name)
    scores = columns["boundary_f_score"]
    assert [scores[index] for index in (0, 2, 3, 4, 5)] == [1, 0, 0, 1, 0]
    # Within 2: all 68 pixels predicted but the 30 − 2·2 of the lowest row's middle; of the mask's
    # 76, the top 32 and both sides down to 2 below the prediction.
    precision, recall = (68 - 26) / 68, (32 + 2 * 5) / 76
    assert scores[1] == pytest.approx(2 * precision * recall / (precision + recall))

    groups = evaluated["groups"]
    assert {name: group["images"] for name, group in groups.items()} == {
        "all": 6,
        "none": 2,
        "small": 1,
        "medium": 1,
        "large": 2,
    }
    everything = groups["all"]
    assert (everything["missed"], everything["with_lesion"]) == (2, 4)
    assert (everything["false_alarms"], everything["without_lesion"]) == (1, 2)
    assert everything["scores"]["iou"]["mean"] == pytest.approx(2.5 / 6)
    low, high = everything["scores"]["iou"]["interval"]
    assert 0 < low < 2.5 / 6 < high < 1
    assert groups["small"]["scores"]["hd95"] == {"mean": 16.0, "interval": None}
    assert groups["large"]["scores"]["iou"]["mean"] == 0.75


def test_an_unseen_dataset_needs_no_caution(run: Path, unseen: Examples) -> None:
    evaluated = evaluate(run, dataset="unseen", tolerance=3)
    assert (evaluated["dataset"], evaluated["subset"]) == ("unseen", "all")
    assert evaluated["identity"] == "unseen/1.0.0"
    assert evaluated["caution"] is None
    for words in ("32 × 32 pixels", "above 0.5", "within 3 pixels", "averaged"):
        assert words in evaluated["convention"]
    assert "Optimistic" not in format_table(evaluated)


def test_the_convention_names_the_size() -> None:
    assert "alone at 128 × 256 pixels" in describe_convention((128, 256))


def test_validation_images_by_default(run: Path) -> None:
    evaluated = evaluate(str(run))
    output = run / "evaluation-validation"
    assert sorted(path.name for path in output.iterdir()) == FILES
    assert [row["id"] for row in read_rows(output / "per_image.csv")] == VALIDATION_IDS
    assert read_json(output, "evaluation.json") == json.loads(json.dumps(evaluated))
    assert (evaluated["dataset"], evaluated["subset"], evaluated["images"]) == (
        "synthetic",
        "validation",
        3,
    )
    assert "picked by its IoU on these same images" in evaluated["caution"]
    assert "not finished" not in evaluated["caution"]
    assert (output / "table.md").read_text(encoding="utf-8") == format_table(evaluated) + "\n"
    assert (output / "table.tex").read_text(encoding="utf-8") == (
        format_table(evaluated, "latex") + "\n"
    )


def test_test_images_where_some_were_set_aside(run: Path) -> None:
    splits = read_json(run, "splits.json")
    write_json(run / "splits.json", {**splits, "test": splits["train"][:1]})
    evaluation = evaluate(run)
    assert (evaluation["subset"], evaluation["images"]) == ("test", 1)
    assert evaluation["caution"] is None or "Optimistic" not in evaluation["caution"]
    assert [row["id"] for row in read_rows(run / "evaluation-test" / "per_image.csv")] == splits[
        "train"
    ][:1]
    assert "on the 1 test image of synthetic" in format_table(evaluation)
    assert evaluation["convention"].endswith("Means over a single image have no interval.")


def test_the_same_evaluation_twice_is_the_same(run: Path, tmp_path: Path) -> None:
    evaluate(run, tmp_path / "a" / "first")
    evaluate(run, tmp_path / "second")
    for name in FILES:
        assert (tmp_path / "a" / "first" / name).read_bytes() == (
            tmp_path / "second" / name
        ).read_bytes()


def test_preprocessing_is_the_recipes(tmp_path: Path) -> None:
    """Divided by 255 once more, no pixel is as bright as this network asks for."""
    data = dataclasses.replace(RECIPE.data, preprocessing="published")
    recipe = dataclasses.replace(RECIPE, data=data)
    missed = evaluate(write_run(tmp_path / "published", recipe, brightest=0.1))["groups"]["all"]
    assert missed["missed"] == missed["with_lesion"] > 0
    found = evaluate(write_run(tmp_path / "imagenet", brightest=0.1))["groups"]["all"]
    assert found["missed"] < found["with_lesion"]


def test_an_unfinished_run_is_called_so(run: Path, unseen: Examples) -> None:
    (run / "metrics.json").unlink()
    caution = evaluate(run, dataset="unseen")["caution"]
    assert caution == f"{run} is not finished: this is its best network so far."


@pytest.mark.parametrize(
    ("trained_on", "caution"),
    [
        (12, None),
        (16, "of 12, those that {run} was trained on of 16."),
        (None, "of 12."),
    ],
)
def test_other_data_of_another_scale_is_told(trained_on, caution, run: Path, monkeypatch) -> None:
    examples = dataclasses.replace(make_examples((filled(8), filled(8))), bits=12)
    monkeypatch.setattr(sources, "load_examples", lambda *args, **kwargs: examples)
    Fingerprint.of_images(examples.images, [SIZE], bits=trained_on).write(run)
    told = evaluate(run, dataset="unseen")["caution"]
    assert told == (
        caution
        and "Images whose files do not say how many bits they use are read as "
        + caution.format(run=run)
    )


def test_against_another_run(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", brightest=-0.5)
    evaluated = evaluate(run, against=other)
    output = run / "evaluation-validation-against-other"
    assert sorted(path.name for path in output.iterdir()) == ["against.csv", *FILES]
    assert not (other / "evaluation-validation").exists()
    assert evaluated["against"] == str(other)
    compared = compare(output / "per_image.csv", output / "against.csv")
    assert evaluated["comparison"] == compared
    alone = evaluate(other, tmp_path / "alone")
    for name, score in compared.items():
        assert score["mean"] == evaluated["groups"]["all"]["scores"][name]["mean"]
        assert score["other_mean"] == alone["groups"]["all"]["scores"][name]["mean"]
        assert score["difference"] == pytest.approx(score["mean"] - score["other_mean"])
    assert (output / "against.csv").read_bytes() == (
        tmp_path / "alone" / "per_image.csv"
    ).read_bytes()
    # Without the other run it is another evaluation, and takes no place but its own.
    evaluate(run)
    assert sorted(path.name for path in (run / "evaluation-validation").iterdir()) == FILES
    with pytest.raises(FileExistsError, match=r"another evaluation, whose against is .*other: na"):
        evaluate(run, output)
    evaluate(run, output, against=other)


def test_an_evaluation_is_replaced_by_its_like_only(
    run: Path, unseen: Examples, tmp_path: Path
) -> None:
    output, other = tmp_path / "output", write_run(tmp_path / "other")
    evaluate(run, output)
    with pytest.raises(FileExistsError, match=r"another evaluation, whose run is .*run: name anot"):
        evaluate(other, output)
    with pytest.raises(FileExistsError, match=r"another evaluation, whose identity is synthetic"):
        evaluate(run, output, dataset="unseen")
    assert evaluate(run, output, tolerance=3)["tolerance"] == 3
    evaluate(run)
    moved = run.rename(tmp_path / "moved")
    assert evaluate(moved)["run"] == str(moved)


def test_patients_are_drawn_whole(run: Path, unseen: Examples, tmp_path: Path) -> None:
    groups = ["one", "one", "one", "two", "two", "two"]
    object.__setattr__(unseen, "groups", groups)  # IoU 1, ½, 0 and 0, 1, 0
    other = write_run(tmp_path / "other", brightest=-100.0)  # predicts lesion everywhere
    evaluated = evaluate(run, dataset="unseen", against=other)
    assert "the 2 patients, videos or cases are drawn with all" in evaluated["convention"]
    assert "independent" not in evaluated["convention"]
    iou = evaluated["groups"]["all"]["scores"]["iou"]
    np.testing.assert_allclose(iou["interval"], (1 / 3, 1.5 / 3))  # the two patients' means
    assert evaluated["groups"]["large"]["scores"]["iou"]["interval"] is None  # of one patient
    output = run / "evaluation-unseen-against-other"
    assert [row["group"] for row in read_rows(output / "per_image.csv")] == groups
    everywhere = np.array([1 / 4, 1 / 4, 1 / 8, 1 / 32, 0, 0])
    differences = [1, 0.5, 0, 0, 1, 0] - everywhere
    compared = evaluated["comparison"]["iou"]
    means = sorted(differences.reshape(2, 3).mean(axis=1))
    np.testing.assert_allclose(compared["interval"], means, rtol=1e-6)
    assert compare(output / "per_image.csv", output / "against.csv") == evaluated["comparison"]
    assert "are drawn with all their images" in format_table(evaluated)


def test_of_a_single_patient_no_interval_is_told(run: Path, unseen: Examples) -> None:
    object.__setattr__(unseen, "groups", ["one"] * 6)
    told = evaluate(run, dataset="unseen")["convention"]
    assert told.endswith("Means over a single patient, video or case have no interval.")


def test_images_of_no_patient_are_drawn_singly(run: Path, unseen: Examples) -> None:
    alone = evaluate(run, dataset="unseen")
    assert "of images taken as independent" in alone["convention"]
    values = [float(row["iou"]) for row in read_rows(run / "evaluation-unseen" / "per_image.csv")]
    assert alone["groups"]["all"]["scores"]["iou"]["interval"] == mean_interval(values)


class TestFolders:
    """A run on the user's own folder, and evaluations on that, on a copy and on another."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> Path:
        """The folders `own` and `other`, with images of the same names."""
        for name, shade in (("own", 20), ("other", 40)):
            for part in ("images", "masks"):
                (tmp_path / name / part).mkdir(parents=True)
            for index in range(4):
                image = np.full((*SIZE, 3), shade + index, "uint8")
                cv2.imwrite(str(tmp_path / name / "images" / f"{index}.png"), image)
                mask = (255 * filled(4 + index)).astype("uint8")
                cv2.imwrite(str(tmp_path / name / "masks" / f"{index}.png"), mask)
        return tmp_path

    @pytest.fixture
    def trained(self, folders: Path) -> Path:
        """A run on `own`, trained on all but one of its images."""
        data = Data(source="image_folder", image_size=SIZE)
        run = write_run(folders / "run", dataclasses.replace(RECIPE, data=data))
        dataset = self.identity(folders / "own", folders / "data")
        values = read_json(run, "recipe.json")
        write_json(run / "recipe.json", values | {"dataset": dataset})
        write_json(run / "splits.json", {"train": ["0", "1", "2"], "validation": ["3"]})
        return run

    @staticmethod
    def identity(folder: Path, data_dir: Path) -> str:
        return load_examples("image_folder", SIZE, folder, data_dir, progress=False).dataset

    def evaluate(self, run: Path, folder: str, **options) -> dict:
        return evaluate(
            run, manual_dir=run.parent / folder, data_dir=run.parent / "data", **options
        )

    def test_its_own_folder(self, trained: Path) -> None:
        evaluated = self.evaluate(trained, "own")
        assert "on the 1 validation image of image_folder/own." in format_table(evaluated)
        assert (trained / "evaluation-validation").is_dir()
        (trained.parent / "own").rename(trained.parent / "moved")
        moved = self.evaluate(trained, "moved")
        assert moved["dataset"] == "image_folder/moved"
        assert moved["identity"] == evaluated["identity"]

    def test_held_out_images_are_not_sought_in_another_folder(self, trained: Path) -> None:
        with pytest.raises(ValueError, match=r"of image_folder/other are not those that .*run was"):
            self.evaluate(trained, "other")
        assert not list(trained.glob("evaluation*"))

    def test_all_of_another_folder(self, trained: Path) -> None:
        evaluated = self.evaluate(trained, "other", dataset="image_folder")
        assert (evaluated["dataset"], evaluated["images"]) == ("image_folder/other", 4)
        output = trained / "evaluation-image_folder-other"
        assert len(read_rows(output / "per_image.csv")) == 4
        assert "on 4 images of image_folder/other." in (output / "table.md").read_text()
        # Told, since nothing shows that they are not images trained on and some others.
        assert "images of 3 of these names in another folder" in evaluated["caution"]

    @pytest.mark.parametrize("name", ["own", "moved"])
    def test_images_trained_on_are_not_scored(self, name, trained: Path) -> None:
        (trained.parent / "own").rename(trained.parent / name)
        message = rf"was trained on 3 of the 4 images of image_folder/{name}, such as 0: leave"
        with pytest.raises(ValueError, match=message):
            self.evaluate(trained, name, dataset="image_folder")
        assert not list(trained.glob("evaluation*"))

    def test_runs_on_different_folders_are_not_compared(self, trained: Path) -> None:
        other = trained.with_name("other run")
        shutil.copytree(trained, other)
        values = read_json(other, "recipe.json")
        dataset = self.identity(trained.parent / "other", trained.parent / "data")
        write_json(other / "recipe.json", values | {"dataset": dataset})
        with pytest.raises(ValueError, match=r"held out different images"):
            self.evaluate(trained, "own", against=other)
        # Each was trained on one of the folders, so neither is unseen by both.
        with pytest.raises(ValueError, match=r"other run was trained on 3 of the 4 images"):
            self.evaluate(trained, "other", dataset="image_folder", against=other)


def test_an_incomplete_archive_is_scored_where_asked(run: Path, monkeypatch) -> None:
    asked = []

    def load(builder, *arguments, allow_incomplete, **options) -> Examples:
        asked.append(allow_incomplete)
        return make_examples((filled(8), filled(8)))

    monkeypatch.setattr(sources, "load_examples", load)
    evaluate(run, dataset="unseen")
    evaluate(run, dataset="unseen", allow_incomplete=True)
    assert asked == [False, True]


def test_runs_of_different_images_are_not_compared(run: Path, tmp_path: Path, unseen) -> None:
    other = write_run(tmp_path / "other")
    splits = read_json(other, "splits.json")
    write_json(other / "splits.json", {"train": IDS[:7], "validation": IDS[7:]})
    with pytest.raises(ValueError, match=r"held out different images.*--dataset"):
        evaluate(run, against=other)
    assert not (run / "evaluation-validation").exists()
    evaluate(run, against=other, dataset="unseen")  # there they can be
    write_json(other / "splits.json", {**splits, "validation": VALIDATION_IDS[::-1]})
    evaluate(run, against=other)  # the order is no difference


def test_runs_of_different_size_are_not_compared(run: Path, tmp_path: Path) -> None:
    data = dataclasses.replace(RECIPE.data, image_size=(64, 32))
    other = write_run(tmp_path / "other", dataclasses.replace(RECIPE, data=data))
    with pytest.raises(ValueError, match=r"one image_size only.* 32 × 32 in .*64 × 32 in .*other"):
        evaluate(run, against=other)


def test_images_trained_on_are_not_scored(run: Path) -> None:
    with pytest.raises(ValueError, match=r"trained on 7 of the 10 images of synthetic.*leave"):
        evaluate(run, dataset="synthetic")
    assert not (run / "evaluation-synthetic").exists()


def test_another_config_of_the_dataset_trained_on_is_not_unseen(
    run: Path, unseen: Examples
) -> None:
    recipe = read_json(run, "recipe.json")
    recipe["recipe"]["data"] |= {"source": "unseen/all", "num_images": None}
    recipe["dataset"] = "unseen/all/1.0.0"
    write_json(run / "recipe.json", recipe)
    write_json(run / "splits.json", {"train": unseen.ids[:1], "validation": unseen.ids[1:]})
    with pytest.raises(ValueError, match=r"was trained on 1 of .* images of unseen"):
        evaluate(run, dataset="unseen")


def test_runs_on_images_resized_otherwise_are_not_compared(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other")
    recipe = read_json(other, "recipe.json")
    recipe["recipe"]["data"]["interpolation"] = "lanczos"
    write_json(other / "recipe.json", recipe)
    with pytest.raises(ValueError, match=r"one way only. Received: linear in .*, lanczos in"):
        evaluate(run, against=other)


def test_unknown_dataset(run: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*isic2018_task1.*builder='ph3'"):
        evaluate(run, dataset="ph3")


def test_changed_data_are_noticed(run: Path) -> None:
    write_json(run / "splits.json", {"train": [], "validation": ["synthetic_00010"]})
    with pytest.raises(ValueError, match=r"10 loaded examples. Received: 'synthetic_00010'"):
        evaluate(run)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("recipe.json", None, FileNotFoundError, r"is not a run directory: it has no recipe.json"),
        ("splits.json", b"{}", ValueError, r"splits.json is damaged: it has no train, validation"),
        ("model.keras", None, FileNotFoundError, r"has no trained network yet: no model.keras"),
        ("model.keras", b"PK", ValueError, r"model.keras is damaged: it is not a Keras archive"),
        ("model.keras", b"PK\5\6" + bytes(18), ValueError, r"model.keras is damaged: .*"),
    ],
)
def test_damaged_runs_are_named(name, content, error, message, run: Path) -> None:
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(error, match=message):
        evaluate(run)
    assert not (run / "evaluation-validation").exists()


def test_a_folder_in_use_is_not_written_to(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(FileExistsError, match=r"run is in use: choose another"):
        evaluate(run, run)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match=r"file is in use"):
        evaluate(run, tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot be written to"):
        evaluate(run, tmp_path / "file" / "below")


@pytest.mark.parametrize("name", FILES)
def test_full_disk_leaves_no_mixture(name, run: Path, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "output"
    evaluate(run, output)
    expected = {path.name: path.read_bytes() for path in output.iterdir()}
    replace = writing.os.replace

    def failing(source, target) -> None:
        if target.name == name:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    with monkeypatch.context() as context:
        context.setattr(writing.os, "replace", failing)
        with pytest.raises(OSError, match=r"No space left"):
            evaluate(run, output, tolerance=1)
    assert not (output / "evaluation.json").exists()  # which would vouch for the others
    (output / ".unfinished-table.md").touch()  # of a process that was killed
    evaluate(run, output)
    (output / ".unfinished-table.md").unlink(missing_ok=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == expected


@pytest.mark.parametrize("tolerance", [-1.0, math.nan])
def test_wrong_tolerance_is_refused_before_anything_is_read(tolerance, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tolerance must be at least 0"):
        evaluate(tmp_path / "no run", tolerance=tolerance)


# The tables


def test_table(run: Path, unseen: Examples, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", brightest=-100.0)  # predicts lesion everywhere
    evaluated = evaluate(run, dataset="unseen", against=other)
    text = format_table(evaluated)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    cells = {line[0]: line[1:] for line in lines if line}
    assert cells["Images"] == ["6", "2", "1", "1", "2"]
    assert cells["Missed"] == ["2 of 4", "–", "1 of 1", "1 of 1", "0 of 2"]
    assert cells["False alarms"] == ["1 of 2", "1 of 2", "–", "–", "–"]
    header = ["", "all", "no lesion", "small (< 5 %)", "medium (5–20 %)", "large (≥ 20 %)"]
    assert header in lines
    assert ["", run.name, other.name, "difference", "Wilcoxon p", "t-test p"] in lines
    groups = next(line for line in lines if line and line[0] == "IoU, %")
    low, high = (100 * end for end in evaluated["groups"]["all"]["scores"]["iou"]["interval"])
    assert groups[1] == f"41.67 [{low:.2f}, {high:.2f}]"
    assert groups[3] == "0.00"
    compared = evaluated["comparison"]["iou"]
    # Everywhere: 1/4, 1/4, 1/8, 1/32, 0, 0.
    assert cells["IoU, %"][:2] == ["41.67", "10.94"]
    assert cells["IoU, %"][2].startswith("30.73 [")
    assert cells["IoU, %"][3:] == [
        f"{compared['wilcoxon_p']:.3f}",
        f"{compared['t_test_p']:.3f}",
    ]
    assert f"{run.name} minus {other.name}" in text
    latex = format_table(evaluated, "latex")
    assert latex.count(r"\begin{table}") == 2
    assert r"IoU, \% & 41.67 & 10.94 & 30.73 [" in latex


def test_marks_and_small_p_values_in_the_table() -> None:
    values = {"mean": 0.9, "other_mean": 0.8, "difference": 0.1, "interval": (0.05, 0.15)}
    text = format_table(
        {
            "run": "a",
            "against": "b",
            "kind": "images",
            "dataset": "d",
            "subset": "all",
            "images": 1,
            "convention": "How.",
            "caution": None,
            "groups": {},
            "comparison": {
                "iou": {**values, "wilcoxon_p": 0.0004, "t_test_p": 0.04, "mark": "**"},
                "hd95": {**values, "wilcoxon_p": None, "t_test_p": None, "mark": ""},
            },
        }
    )
    assert "| 90.00 | 80.00 | 10.00** [5.00, 15.00] | < 0.001    | 0.040    |" in text
    assert "| 0.90  | 0.80  | 0.10 [0.05, 0.15]     | –          | –        |" in text


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match=r"markdown, latex. Received: style='html'"):
        format_table({}, "html")


# Comparing files


def write_table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_compare_draws_groups_where_the_first_tells_them(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.csv", "id,group,iou\nx,P,0.5\ny,P,0.25\nz,Q,1\n")
    second = write_table(tmp_path / "b.csv", "id,iou\nx,0\ny,0\nz,0\n")
    assert compare(first, second)["iou"]["interval"] == (0.375, 1)  # P's mean and Q's
    low, high = compare(second, first)["iou"]["interval"]
    assert (low, high) != (-1, -0.375)


def test_compare_pairs_by_id_and_ignores_other_columns(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.csv", "id,note,iou,f1\nx,good,0.5,0.6\ny,bad,0.25,0.4\n")
    second = write_table(tmp_path / "b.csv", "\ufeffid,iou\ny,0.5\nx,0.125\n")
    compared = compare(first, str(second))
    assert list(compared) == ["iou"]
    assert compared["iou"]["mean"] == 0.375
    assert compared["iou"]["difference"] == pytest.approx((0.375 - 0.25) / 2)
    assert compared["iou"]["interval"] == (-0.25, 0.375)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,iou\nx,0.5\nz,0.5\n", r"2 ids, such as 'y', are in one of them only"),
        ("id,iou\nx,0.5\n", r"1 ids, such as 'y'"),
        ("id,iou\nx,0.5\nx,0.5\n", r"b.csv, line 3: the id 'x' occurs twice"),
        ("id,iou\nx,0.5\ny,much\n", r"b.csv, line 3: a score is not a number"),
        ("id,iou\nx\ny,0.5\n", r"b.csv, line 2: a score is not a number"),
        ("id,iou\nx,nan\ny,0.5\n", r"b.csv, line 2: a score is not finite"),
        ("name,iou\nx,0.5\n", r"b.csv must have a column named id"),
        ("id,dice\nx,0.5\ny,0.5\n", r"must have one of the columns iou, f1"),
        ("", r"b.csv holds no image"),
    ],
)
def test_tables_that_cannot_be_compared(text, message, tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.csv", "id,iou\nx,0.5\ny,0.25\n")
    with pytest.raises(ValueError, match=message):
        compare(first, write_table(tmp_path / "b.csv", text))


def test_a_table_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,iou\n\xff,0.5\n")
    with pytest.raises(ValueError, match=r"a.csv is not a CSV file in UTF-8"):
        compare(tmp_path / "a.csv", tmp_path / "a.csv")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        compare(tmp_path / "none.csv", tmp_path / "none.csv")

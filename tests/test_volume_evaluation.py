"""Evaluation of runs on volumes: scores on the scan's own grid, tables and comparisons."""

import csv
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import VolumeSource
from keras_lgmsnet.evaluation import volumes as volume_evaluation
from keras_lgmsnet.evaluation.runs import evaluate
from keras_lgmsnet.evaluation.score_tables import compare, format_table
from keras_lgmsnet.evaluation.selection import read_images
from keras_lgmsnet.evaluation.volumes import describe_convention
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.recipe.schema import Data, Recipe, VolumeData
from keras_lgmsnet.run import Run
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.scoring.regions import SCORES
from tests.helpers.volumes import make_source

SHAPE = (10, 12, 8)
# Voxels of 3, 1 and 2 mm whose axes point to the head, the left and the back.
AFFINE = np.array([[0, -1, 0, 9], [0, 0, -2, 8], [3, 0, 0, 7], [0, 0, 0, 1]], "float64")
RECIPE = Recipe(
    data=VolumeData(
        source="btcv",
        spacing=(1, 2, 3),  # along x, y and z as the volumes have it: nothing is resampled
        intensity_window=(-100, 300),
        patch_size=(32, 32, 32),
    )
)
FILES = ["evaluation.json", "per_case.csv", "table.md", "table.tex"]
DIAGONAL = math.hypot(30, 12, 16)


def labels(**parts: tuple[slice, slice, slice]) -> np.ndarray:
    result = np.zeros(SHAPE, "uint8")
    for name, part in parts.items():
        result[part] = {"organ": 1, "tumour": 2}[name]
    return result


BLOCK = (slice(2, 6), slice(2, 6), slice(2, 6))
NEXT = (slice(3, 7), slice(2, 6), slice(2, 6))  # 3 mm towards the head
SPOT = (slice(8, 9), slice(9, 10), slice(1, 2))

# True and predicted labels of the volumes.
PAIRS = (
    (labels(organ=BLOCK, tumour=SPOT), labels(organ=BLOCK, tumour=SPOT)),
    (labels(organ=BLOCK, tumour=SPOT), labels(organ=NEXT)),  # the tumour missed
    (labels(organ=BLOCK), labels(organ=BLOCK)),  # no tumour
    (labels(organ=BLOCK), labels(organ=BLOCK, tumour=SPOT)),  # a tumour imagined
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch) -> VolumeSource:
    """Volumes as bright as what is to be predicted: -100, 100 and 300 HU."""
    images = [200.0 * predicted - 100 for _, predicted in PAIRS]
    source = make_source(tmp_path / "copy", images, [mask for mask, _ in PAIRS], affine=AFFINE)
    monkeypatch.setattr(volume_evaluation, "load_volumes", lambda *folders, **options: source)
    return source


def write_run(
    run: Path,
    source: VolumeSource,
    *,
    seen: tuple[str, ...] = (),
    bias: float = 0.0,
) -> Path:
    """A finished run whose network tells brightnesses apart; `bias` is in favour of the organ."""
    run.mkdir(parents=True)
    patch = keras.Input((32, 32, 32, 1))
    layer = keras.layers.Conv3D(3, 1)
    network = keras.Model(patch, layer(patch))
    # In the window scaled to 0 … 1, labels change at 0.25 and 0.75.
    kernel, biases = np.array([0, 40, 80]), np.array([0, -10 + 40 * bias, -40])
    layer.set_weights([kernel.reshape(1, 1, 1, 1, 3), biases])
    network.save(run / "model.keras")
    begun = {"dataset": "test/1.0.0", "backend": "any", "versions": {}}
    write_json(run / "recipe.json", {"recipe": RECIPE.to_dict(), **begun})
    held_out = [f"volume{number}" for number in range(4)]
    write_json(run / "splits.json", {"train": list(seen), "validation": held_out})
    write_json(run / "metrics.json", {})
    VolumeFingerprint.of_volumes(source, source.ids, RECIPE.data, progress=False).write(run)
    return run


@pytest.fixture
def run(tmp_path: Path, source: VolumeSource) -> Path:
    return write_run(tmp_path / "run", source)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_by_hand_on_the_own_grid(run: Path, source: VolumeSource) -> None:
    evaluated = evaluate(run)
    output = run / "evaluation-validation"
    assert sorted(path.name for path in output.iterdir()) == FILES
    rows = read_rows(output / "per_case.csv")
    assert list(rows[0]) == ["id", "region", "group", *SCORES, "volume", "predicted_volume"]
    assert [(row["id"], row["region"]) for row in rows] == [
        (id_, region) for id_ in source.ids for region in ("organ", "tumour")
    ]
    found = {
        name: [row[name] and float(row[name]) for row in rows] for name in rows[0] if name in SCORES
    }
    # Moved by one of four layers, 3/4 overlap. Of the 56 voxels of a surface, those of the
    # outermost layer are 3 mm from the other surface, and the middle of the opposite one 1 mm.
    assert found["dice"] == [1, 1, 0.75, 0, 1, "", 1, 0]
    assert found["iou"] == [1, 1, 0.6, 0, 1, "", 1, 0]
    assert found["nsd"] == [1, 1, pytest.approx((56 - 16) / 56), 0, 1, "", 1, 0]
    assert found["hd95"] == pytest.approx([0, 0, 3, DIAGONAL, 0, "", 0, DIAGONAL])
    voxel = 0.006
    assert found["volume_difference"] == pytest.approx([0, 0, 0, voxel, 0, "", 0, voxel])
    assert [float(row["volume"]) for row in rows][:2] == pytest.approx([64 * voxel, voxel])

    assert read_json(output, "evaluation.json") == json.loads(json.dumps(evaluated))
    assert (evaluated["volumes"], evaluated["subset"], evaluated["kind"]) == (
        4,
        "validation",
        "volumes",
    )
    regions = evaluated["regions"]
    assert regions["organ"]["scores"]["dice"]["mean"] == pytest.approx(3.75 / 4)
    assert regions["tumour"]["scores"]["dice"]["mean"] == pytest.approx(1 / 3)
    assert (regions["tumour"]["missed"], regions["tumour"]["present"]) == (1, 2)
    assert (regions["tumour"]["false_alarms"], regions["tumour"]["absent"]) == (1, 2)
    assert evaluated["mean"]["dice"]["mean"] == pytest.approx((3.75 / 4 + 1 / 3) / 2)
    assert "own grid" in evaluated["convention"]
    assert "of volumes taken as independent" in evaluated["convention"]
    assert "picked by its Dice on these same volumes" in evaluated["caution"]


def test_the_fingerprint_is_read_once(run: Path, source: VolumeSource, monkeypatch) -> None:
    read, directories = VolumeFingerprint.read, []
    monkeypatch.setattr(
        VolumeFingerprint, "read", lambda path: directories.append(path) or read(path)
    )
    evaluate(run)
    assert directories == [run]


def test_the_convention_is_one_sentence() -> None:
    convention = describe_convention(1.5)
    assert "1.5 mm" in convention
    assert convention.count(". ") == 0


def test_table(run: Path, source: VolumeSource) -> None:
    evaluated = evaluate(run, tolerance=3)
    text = format_table(evaluated)
    assert text.startswith("run on the 4 validation volumes of btcv.")
    assert evaluated["convention"] in text
    assert "within 3 mm" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    cells = {line[0]: line[1:] for line in lines if line}
    assert list(cells)[2:] == ["organ", "tumour", "Mean"]
    assert cells[""] == [*SCORES.values(), "Missed", "False alarms"]
    assert cells["organ"][0].startswith("93.75 [")
    assert cells["organ"][3] == "100.00 [100.00, 100.00]"
    assert cells["organ"][5:] == ["0 of 4", "–"]
    assert cells["tumour"][5:] == ["1 of 2", "1 of 2"]
    assert cells["Mean"][0].startswith("63.54 [")
    assert cells["Mean"][4:] == ["–", "", ""]
    assert r"\begin{tabular}{lrrrrrrr}" in format_table(evaluated, "latex")


def test_against_another_run(run: Path, source: VolumeSource, tmp_path: Path) -> None:
    """The other run takes all tumours for the organ."""
    other = write_run(tmp_path / "other", source, bias=2.0)
    evaluated = evaluate(run, against=other)
    output = run / "evaluation-validation-against-other"
    assert compare(output / "per_case.csv", output / "against.csv") == evaluated["comparison"]
    tumour = evaluated["comparison"]["regions"]["tumour"]
    # Found against missed, missed twice, and a false alarm against none.
    assert tumour["mean"] == pytest.approx((1 + 0 + 0) / 3)
    assert tumour["other_mean"] == pytest.approx((0 + 0 + 1) / 3)
    mean = evaluated["comparison"]["mean"]
    assert mean["mean"] == pytest.approx((1 + 0.375 + 1 + 0.5) / 4)
    assert mean["difference"] == pytest.approx(mean["mean"] - mean["other_mean"])
    text = format_table(evaluated)
    assert "| Dice, %" in text
    assert "Mean of a volume" in text
    assert "run minus other, volume by volume" in text


def test_patients_are_drawn_whole(run: Path, source: VolumeSource) -> None:
    object.__setattr__(source, "groups", ["a", "a", "b", "b"])
    evaluated = evaluate(run)
    assert "2 patients, videos or cases are drawn with all their volumes" in evaluated["convention"]
    interval = evaluated["regions"]["organ"]["scores"]["dice"]["interval"]
    assert interval == pytest.approx((0.875, 1))


def test_another_dataset(run: Path, source: VolumeSource) -> None:
    object.__setattr__(source, "dataset", "msd_folder@89ab/1.0.0")
    evaluated = evaluate(run, dataset="msd_folder", manual_dir="/data/liver")
    assert (evaluated["dataset"], evaluated["subset"]) == ("msd_folder/liver", "all")
    assert evaluated["caution"] is None
    assert (run / "evaluation-msd_folder-liver").is_dir()
    with pytest.raises(ValueError, match=r"volumes of btcv are not those that .*run was trained"):
        evaluate(run)


def test_volumes_trained_on_are_not_scored(source: VolumeSource, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", source, seen=("volume1",))
    message = r"run was trained on 1 of the 4 volumes of btcv, such as volume1: leave"
    with pytest.raises(ValueError, match=message):
        evaluate(run, dataset="btcv")


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("labels", {0: "background", 1: "tumour", 2: "organ"}, r"labels of .*: background, tumour"),
        ("labels", {0: "background", 1: "organ"}, r"organ, tumour. Received: background, organ$"),
        ("channels", ["MR"], r"channels of .* trained on, .*: CT. Received: MR"),
    ],
)
def test_labels_and_channels_must_be_the_runs(field, values, message, run: Path, source) -> None:
    object.__setattr__(source, field, values)
    with pytest.raises(ValueError, match=message):
        evaluate(run)
    assert not (run / "evaluation-validation").exists()


def test_images_and_volumes_are_not_compared(run: Path, source, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", source)
    values = read_json(other, "recipe.json")
    recipe = Recipe(data=Data(source="busi")).to_dict()
    write_json(other / "recipe.json", values | {"recipe": recipe})
    with pytest.raises(ValueError, match=r"run, on volumes, .*other, on images"):
        evaluate(run, against=other)


def test_a_run_on_volumes_is_none_on_images(run: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one on images. Received: .*run, trained on vol"):
        read_images([Run.read(run)], None, None, None)


def test_a_table_of_another_program(tmp_path: Path) -> None:
    """Regions without any Dice are not compared, nor volumes without any region."""
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text("id,region,dice\na,liver,0.5\na,cyst,\nb,liver,1\nb,cyst,\nc,liver,\nc,cyst,\n")
    theirs.write_text(
        "dice,region,id\n0.25,liver,a\n,cyst,a\n1,liver,b\n,cyst,b\n,liver,c\n,cyst,c\n"
    )
    compared = compare(ours, theirs)
    assert compared["regions"]["cyst"] is None
    assert compared["regions"]["liver"]["difference"] == pytest.approx(0.125)
    assert compared["mean"]["mean"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,region,dice\na,liver,x\n", "line 2: a score is not a number"),
        ("id,region,dice\na,liver,1\na,liver,1\n", "line 3: the id 'a, liver' occurs twice"),
        ("id,region,iou\na,liver,1\n", "must have one of the columns dice"),
        ("id,region,dice\na,spleen,1\n", "the same volumes only; 2 ids, such as 'a, liver'"),
    ],
)
def test_tables_that_cannot_be_compared(text, message, tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("id,region,dice\na,liver,0.5\n")
    second.write_text(text)
    with pytest.raises(ValueError, match=message):
        compare(first, second)

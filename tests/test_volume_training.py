"""Training on volumes: what differs from images, which `test_training` has."""

import contextlib
import csv
import dataclasses
import io
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lgmsnet.data.patches import prepare_volumes
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import load_volumes
from keras_lgmsnet.inference.windows import segment_volume
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Model, Recipe, VolumeData, VolumeTraining
from keras_lgmsnet.reports import volumes as volume_report
from keras_lgmsnet.run_directory import read_json, read_recipe
from keras_lgmsnet.scoring.regions import mean_dice
from keras_lgmsnet.training import volumes as volume_task
from keras_lgmsnet.training.finished_epochs import FinishedEpochs
from keras_lgmsnet.training.loop import train
from tests.helpers.runs import (
    assert_same_run,
    create_small,
    leave_figures_empty,
    saved_scalars,
    stop,
)
from tests.helpers.volumes import write_msd_folder

RECIPE = Recipe(
    data=VolumeData(
        source="msd_folder",
        patch_size=(32, 32, 32),
        patches_per_volume=1,
        validation_fraction=0.4,
    ),
    training=VolumeTraining(epochs=3, warmup_epochs=1, learning_rate=0.05, validate_every=2),
)


def train_quickly(monkeypatch) -> None:
    """Train a network that compiles in a moment, and draw no surface: both have their own tests."""
    monkeypatch.setattr(registry, "create", create_small)
    blank = np.zeros((8, 8, 3), "uint8")
    monkeypatch.setattr(volume_report, "draw_surface", lambda labels, spacing: blank)


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    train_quickly(monkeypatch)
    leave_figures_empty(monkeypatch)  # but for those of the run below


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Five volumes, and the folder that they are prepared in once."""
    folder = tmp_path_factory.mktemp("volumes")
    return {"manual_dir": write_msd_folder(folder / "Task", 5), "data_dir": folder / "prepared"}


@pytest.fixture(scope="module")
def uninterrupted(folders, tmp_path_factory) -> tuple[Path, str]:
    """A finished run and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        train_quickly(monkeypatch)
        run = train(RECIPE, tmp_path_factory.mktemp("runs") / "uninterrupted", **folders)
    return run, printed.getvalue()


def changed(section: str, **fields) -> Recipe:
    return dataclasses.replace(
        RECIPE, **{section: dataclasses.replace(getattr(RECIPE, section), **fields)}
    )


def test_run_directory(uninterrupted, folders) -> None:
    run, printed = uninterrupted
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoint-0003.keras",
        "fingerprint.json",
        "history.csv",
        "metrics.json",
        "model.keras",
        "per_case.csv",
        "recipe.json",
        "report.html",
        "splits.json",
        "state.json",
        "tensorboard",
    ]
    recipe = read_recipe(run)
    assert (recipe.data, recipe.training) == (RECIPE.data, RECIPE.training)
    assert {part: len(ids) for part, ids in read_json(run, "splits.json").items()} == {
        "train": 3,
        "validation": 2,
    }
    fingerprint = VolumeFingerprint.read(run)
    assert fingerprint.spacing == (1.0, 1.5, 2.0)
    assert fingerprint.tabulate() in printed


def test_skipped_validations_are_blank(uninterrupted) -> None:
    run, printed = uninterrupted
    history = read_json(run, "state.json", "history")["history"]
    assert history[0]["val_dice"] is None
    assert all(0 <= row["val_dice"] <= 1 for row in history[1:])
    with open(run / "history.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["epoch", "dice", "loss", "val_dice", "learning_rate"]
    assert [row["val_dice"] for row in table] == [
        "",
        *(str(row["val_dice"]) for row in history[1:]),
    ]
    points = saved_scalars(run / "tensorboard")["validation", "dice"]
    assert points == [(epoch, np.float32(history[epoch - 1]["val_dice"])) for epoch in (2, 3)]
    evaluated = read_json(run, "metrics.json")["means"]["dice"]
    told = [
        "Validation skipped until epoch 2.",
        *(f"Validation Dice {row['val_dice']:.4f}." for row in history[1:]),
        "Evaluating 2 validation volumes.",
        f"Validation Dice {evaluated:.4f} on the volumes' own grids.",
    ]
    lines = printed.splitlines()
    assert [line for line in lines if line.startswith(("Validation", "Evaluating"))] == told


def test_rate_warms_up_and_falls_to_0(uninterrupted) -> None:
    rates = [row["learning_rate"] for row in read_json(uninterrupted[0], "state.json")["history"]]
    np.testing.assert_allclose(rates, [0.05, 0.025, 0], atol=1e-7)  # 3 steps an epoch


def test_metrics_are_of_every_case_and_region(uninterrupted) -> None:
    run, _ = uninterrupted
    metrics = read_json(run, "metrics.json")
    assert (metrics["subset"], metrics["volumes"], metrics["tolerance"]) == ("validation", 2, 2)
    assert "same volumes" in metrics["caution"]
    with open(run / "per_case.csv", newline="") as file:
        table = list(csv.DictReader(file))
    ids = read_json(run, "splits.json")["validation"]
    assert [(row["id"], row["region"]) for row in table] == [
        (id_, region) for id_ in ids for region in ("organ", "tumour")
    ]
    dice = [
        np.mean([float(row["dice"]) for row in table if row["region"] == region])
        for region in ("organ", "tumour")
    ]
    assert metrics["means"]["dice"] == pytest.approx(np.mean(dice))
    # Spacing and orientation are the scans' own, so nothing is lost on the way there and back.
    best = read_json(run, "state.json")["history"][metrics["best_epoch"] - 1]
    assert metrics["means"]["dice"] == pytest.approx(best["val_dice"], abs=1e-3)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "LGMSNet on msd_folder/Task</title>" in text
    assert "2 validation volumes" in text


@pytest.mark.parametrize("model", [Model(), Model(network="unet", filters=(4, 8))])
def test_cases_set_aside_for_a_test_are_reported(model, folders, tmp_path: Path) -> None:
    recipe = changed("data", test_fraction=0.2)
    recipe = dataclasses.replace(
        recipe,
        model=model,
        training=VolumeTraining(epochs=1, warmup_epochs=0, batch_size=2, precision="mixed_float16"),
    )
    run = train(recipe, tmp_path / "run", **folders)
    metrics = read_json(run, "metrics.json")
    assert (metrics["subset"], metrics["volumes"], metrics["caution"]) == ("test", 1, None)
    val_dice = read_json(run, "state.json")["history"][0]["val_dice"]
    mean = metrics["validation_summary"]["mean"]["dice"]["mean"]
    assert mean == pytest.approx(val_dice, abs=1e-3)
    network = keras.saving.load_model(run / "model.keras")
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


def test_scores_are_there_once_the_report_is(folders, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(volume_task, "render_volume_report", stop)
    with pytest.raises(KeyboardInterrupt):
        train(changed("training", epochs=1, warmup_epochs=0), tmp_path / "run", **folders)
    assert (tmp_path / "run" / "per_case.csv").is_file()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_best_network_is_the_one_of_the_best_dice(uninterrupted, folders) -> None:
    run, _ = uninterrupted
    history = read_json(run, "state.json")["history"]
    dice = [-1 if row["val_dice"] is None else row["val_dice"] for row in history]
    assert read_json(run, "metrics.json")["best_epoch"] == 1 + int(np.argmax(dice))
    source = load_volumes("msd_folder", **folders)
    ids = read_json(run, "splits.json")["validation"]
    volumes = prepare_volumes(source, ids, VolumeFingerprint.read(run))
    network = keras.saving.load_model(run / "model.keras", compile=False)
    pairs = [
        (
            volume.segmentation_mask,
            segment_volume(network, volume.image.astype("float32"), (32, 32, 32)),
        )
        for volume in volumes.values()
    ]
    assert mean_dice(pairs, {"organ": [1], "tumour": [2]}) == pytest.approx(max(dice), abs=1e-4)


def test_resumed_run_equals_the_uninterrupted(
    uninterrupted, folders, tmp_path: Path, monkeypatch
) -> None:
    run = tmp_path / "run"

    def interrupt(self, epoch, logs=None) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(FinishedEpochs, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, run, **folders)
    assert not (run / "model.keras").exists()  # no epoch was validated yet
    train(RECIPE, run, resume=True, **folders)
    assert_same_run(run, uninterrupted[0])


def test_weights_destroyed_by_the_last_step_are_not_kept(
    folders, tmp_path: Path, monkeypatch
) -> None:
    def destructive(y_true, y_pred):
        return keras.ops.sum(keras.ops.sqrt(0 * keras.ops.abs(y_pred)))  # its gradient is NaN

    monkeypatch.setattr(volume_task, "DiceCELoss", lambda: destructive)
    recipe = changed("training", batch_size=3)  # one step
    with pytest.raises(ValueError, match=r"not finite at the end of epoch 1; .*after epoch 0"):
        train(recipe, tmp_path / "run", **folders)
    assert not (tmp_path / "run" / "state.json").exists()


def test_other_classes_than_the_labels_are_refused(folders, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"None or the 3 labels of msd_folder.*Received: 4"):
        train(changed("model", num_classes=4), tmp_path / "run", **folders)
    assert not list(tmp_path.iterdir())


def test_recipe_reaches_network_batches_and_optimizer(folders, tmp_path: Path, monkeypatch) -> None:
    seen = {}

    def record(module, name: str, stop: bool = False) -> None:
        original = getattr(module, name)

        def recording(*arguments, **options):
            seen[name] = arguments, options
            if stop:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, recording)

    record(registry, "create")
    record(volume_task, "prepare_volumes")
    record(volume_task, "PatchBatches")
    record(volume_task, "adamw_warmup_cosine", stop=True)
    recipe = Recipe(
        data=VolumeData(
            source="msd_folder",
            spacing=(2, 2, 2),
            normalization="z_score",
            crop_foreground=False,
            patch_size=(32, 64, 32),
            patches_per_volume=2,
            positive_fraction=0.25,
            augmentation=None,
            validation_ids=["case_001"],
        ),
        model=Model(dims=(4, 4, 4, 4, 4), kernel_sizes=(3,), transformer_ratio=0.5),
        training=VolumeTraining(
            epochs=5, batch_size=3, learning_rate=0.3, weight_decay=0.25, warmup_epochs=2, seed=7
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", **folders)
    assert seen["create"][0] == ("lgmsnet",)
    assert seen["create"][1] == {
        "input_shape": (32, 64, 32, 1),
        "num_classes": 3,
        "dims": (4, 4, 4, 4, 4),
        "kernel_sizes": (3,),
        "transformer_ratio": 0.5,
        "activation": "gelu",
        "normalization": None,
        "dtype": "float32",
    }
    (_, _, fingerprint), options = seen["prepare_volumes"]
    assert (fingerprint.spacing, fingerprint.normalization) == ((2, 2, 2), "z_score")
    assert options["crop_foreground"] is False
    (_, ids, patch_size, batch_size), options = seen["PatchBatches"]
    assert (len(ids), "case_001" in ids, patch_size, batch_size) == (4, False, (32, 64, 32), 3)
    assert options == {
        "patches_per_volume": 2,
        "positive_fraction": 0.25,
        "augmentation": None,
        "seed": 7,
    }
    assert seen["adamw_warmup_cosine"] == ((2 * 2, 5 * 2, 0.3, 0.25), {})


def test_labels_lost_in_resampling_cannot_be_validated_on(folders, tmp_path: Path) -> None:
    recipe = changed(
        "data", spacing=(13, 60, 60)
    )  # two voxels along x, to both sides of the labels
    with pytest.raises(ValueError, match=r"keep a labelled voxel.*Received: spacing \(13.0, 60"):
        train(recipe, tmp_path / "run", **folders)


@pytest.mark.parametrize(("part", "unlabelled"), [("training", {0, 1}), ("validation", {2})])
def test_a_part_without_a_label_cannot_be_trained_on(part, unlabelled, tmp_path: Path) -> None:
    folder = write_msd_folder(tmp_path / "Task", 3, unlabelled=unlabelled)
    recipe = changed("data", intensity_window=(-100, 300), validation_ids=("case_002",))
    message = rf"The {part} volumes must have a labelled voxel.*Received: \['case_00"
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", manual_dir=folder, data_dir=tmp_path / "prepared")

"""Training: what a run directory holds, and that no interruption changes it."""

import csv
import dataclasses
import json
import os
import resource
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lgmsnet.data import synthetic
from keras_lgmsnet.data.image_fingerprint import Fingerprint
from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.data.splits import split_ids
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, Training, VolumeData
from keras_lgmsnet.run_directory import lock, read_json, read_recipe, require_no_run
from keras_lgmsnet.training import images as image_task, loop as training
from keras_lgmsnet.training.finished_epochs import FinishedEpochs
from keras_lgmsnet.training.loop import train
from tests.helpers.runs import assert_same_run, create_small, leave_figures_empty, saved_scalars

RECIPE = Recipe(
    data=Data(source="synthetic", num_images=10, image_size=(32, 32)),
    training=Training(epochs=2, batch_size=4, learning_rate=0.1),
)


def use_small_network(monkeypatch) -> None:
    """Train a network that compiles in a moment; LGMSNet itself trains in `test_cli`."""
    monkeypatch.setattr(registry, "create", create_small)


@pytest.fixture(autouse=True)
def _small_network(monkeypatch) -> None:
    use_small_network(monkeypatch)
    leave_figures_empty(monkeypatch)  # but for those of the run below


def changed(section: str, **fields) -> Recipe:
    return dataclasses.replace(
        RECIPE, **{section: dataclasses.replace(getattr(RECIPE, section), **fields)}
    )


def train_one_epoch(recipe: Recipe, run: Path, monkeypatch) -> None:
    """Train until the second epoch is interrupted."""
    with monkeypatch.context() as context:
        interrupt(context, epoch=2)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, run)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def interrupt(monkeypatch, epoch: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Make the first step of an epoch, counted from 1, end in an error."""
    original = FinishedEpochs.on_train_batch_end

    def failing(self, batch, logs) -> None:
        original(self, batch, logs)
        if len(self.history) + 1 == epoch:
            raise error

    monkeypatch.setattr(FinishedEpochs, "on_train_batch_end", failing)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_network(monkeypatch)
        return train(RECIPE, tmp_path_factory.mktemp("runs") / "a" / "uninterrupted")


def test_bits_that_files_do_not_declare_are_told_and_kept(tmp_path: Path, capsys) -> None:
    images = np.arange(48, dtype="uint8").reshape(1, 4, 4, 3)
    task = image_task.ImageTask.__new__(image_task.ImageTask)
    task.examples = {"train": Examples(["a"], images, images[..., :1] % 2, bits=12)}
    task.prepare(tmp_path)
    assert Fingerprint.read(tmp_path).bits == 12
    told = "do not say how many they use are read as of 12, as the one that uses most.\n"
    assert capsys.readouterr().out.endswith(told)


def test_images_scaled_by_their_own_values_are_told(tmp_path: Path, capsys) -> None:
    images = np.arange(96, dtype="uint8").reshape(2, 4, 4, 3)
    task = image_task.ImageTask.__new__(image_task.ImageTask)
    task.examples = {
        "train": Examples(["a", "b"], images, images[..., :1] % 2, own_scale=["b", "c"]),
        "validation": Examples(["d", "e"], images, images[..., :1] % 2, own_scale=["b", "c"]),
    }
    task.prepare(tmp_path)
    assert capsys.readouterr().out == (
        "Training images: 1 of 2 images are of floats or partly negative: each is scaled by its "
        "own least and largest value.\n"
    )


def test_run_directory(uninterrupted: Path) -> None:
    assert sorted(path.name for path in uninterrupted.iterdir()) == [
        ".lock",
        "checkpoint-0002.keras",
        "fingerprint.json",
        "history.csv",
        "metrics.json",
        "model.keras",
        "per_image.csv",
        "recipe.json",
        "report.html",
        "splits.json",
        "state.json",
        "tensorboard",
    ]
    recipe = read_recipe(uninterrupted)
    assert (recipe.data, recipe.training) == (RECIPE.data, RECIPE.training)
    # With every argument of the network, should a default ever change.
    assert recipe.model.arguments == {
        "dims": (16, 32, 64, 128, 128),
        "kernel_sizes": (3, 5, 7, 9),
        "transformer_ratio": 0.75,
        "activation": "gelu",
        "normalization": None,
    }
    begun = read_json(uninterrupted, "recipe.json")
    assert begun["dataset"] == "synthetic/0"
    assert begun["backend"] == keras.backend.backend()
    assert begun["versions"]["keras"] == keras.__version__
    splits = split_ids(synthetic.generate(10, (32, 32)).ids)
    assert read_json(uninterrupted, "splits.json") == splits
    images = synthetic.generate(10, (32, 32)).subset(splits["train"]).images
    fingerprint = Fingerprint.of_images(images, [(32, 32)] * 7)
    assert Fingerprint.read(uninterrupted) == fingerprint


def test_history(uninterrupted: Path) -> None:
    state = read_json(uninterrupted, "state.json")
    table = rows(uninterrupted / "history.csv")
    assert [row.pop("epoch") for row in table] == ["1", "2"]
    for name in ("loss", "iou", "f1", "val_loss", "val_iou", "val_f1", "learning_rate"):
        assert name in table[0]
    assert [{k: float(v) for k, v in row.items()} for row in table] == state["history"]
    # Two steps an epoch, four in all; the rate that the next epoch begins with.
    rates = [0.1 * (1 - (step - 1) / 4) ** 0.9 for step in (2, 4)]
    np.testing.assert_allclose([row["learning_rate"] for row in state["history"]], rates, 1e-5)


def test_tensorboard_shows_the_history(uninterrupted: Path) -> None:
    curves = saved_scalars(uninterrupted / "tensorboard")
    history = read_json(uninterrupted, "state.json", "history")["history"]
    assert len(curves) == len(history[0])
    for (part, name), points in curves.items():
        key = f"val_{name}" if part == "validation" else name
        assert [epoch for epoch, _ in points] == [1, 2]
        expected = [row[key] for row in history]
        np.testing.assert_allclose([value for _, value in points], expected, rtol=1e-6)


def test_metrics_are_those_of_the_best_epoch(uninterrupted: Path) -> None:
    state, metrics = (read_json(uninterrupted, f"{name}.json") for name in ("state", "metrics"))
    ious = [row["val_iou"] for row in state["history"]]
    assert metrics["best_epoch"] == 1 + ious.index(max(ious))
    best = state["history"][metrics["best_epoch"] - 1]
    assert (metrics["subset"], metrics["images"]) == ("validation", 3)
    assert "validation_means" not in metrics
    assert metrics["means"]["iou"] == pytest.approx(best["val_iou"], abs=1e-5)
    assert metrics["means"]["f1"] == pytest.approx(best["val_f1"], abs=1e-5)
    assert "same images" in metrics["caution"]
    table = rows(uninterrupted / "per_image.csv")
    assert [row["id"] for row in table] == read_json(uninterrupted, "splits.json")["validation"]
    for name, mean in metrics["means"].items():
        assert np.mean([float(row[name]) for row in table]) == pytest.approx(mean)


def test_report_shows_the_run(uninterrupted: Path) -> None:
    text = (uninterrupted / "report.html").read_text(encoding="utf-8")
    for row in rows(uninterrupted / "per_image.csv"):
        assert f"{row['id']}<br>IoU {float(row['iou']):.3f}" in text
    assert "LGMSNet on synthetic" in text


def test_resumed_run_equals_the_uninterrupted(
    uninterrupted: Path, tmp_path: Path, monkeypatch
) -> None:
    run = tmp_path / "run"
    train_one_epoch(RECIPE, run, monkeypatch)
    assert not (run / "metrics.json").exists()
    assert train(RECIPE, run, resume=True) == run
    assert_same_run(run, uninterrupted)


@pytest.mark.parametrize(
    "name",
    ["recipe.json", "fingerprint.json", "state.json", "model.keras", "checkpoint-0002.keras"],
)
def test_full_disk(name, uninterrupted: Path, tmp_path: Path, monkeypatch) -> None:
    run = tmp_path / "run"
    replace = os.replace

    def failing(source, target) -> None:
        if target.name == name:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    with monkeypatch.context() as context:
        context.setattr(os, "replace", failing)
        with pytest.raises(OSError, match=r"No space left on device"):
            train(RECIPE, run)
    # Without recipe.json there is nothing to resume, and nothing in the way of a new run.
    train(RECIPE, run, resume=name != "recipe.json")
    assert_same_run(run, uninterrupted)


def test_disk_that_is_full_in_the_middle_of_a_file(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    size = (uninterrupted / "checkpoint-0002.keras").stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, most))  # of any file of this process
    try:
        with pytest.raises(OSError):
            train(RECIPE, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert not list(run.glob("*.keras"))
    train(RECIPE, run, resume=True)
    assert_same_run(run, uninterrupted)


def test_a_run_killed_in_its_first_write_may_begin_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".unfinished-recipe.json").touch()
    require_no_run(tmp_path / "run")


def test_test_images_are_neither_trained_nor_validated_on(tmp_path: Path) -> None:
    run = train(
        changed("data", test_fraction=0.2, num_folds=2, fold=1, augmentation="kvasir"),
        tmp_path / "run",
    )
    splits = read_json(run, "splits.json")
    assert {part: len(ids) for part, ids in splits.items()} == {
        "train": 4,
        "validation": 4,
        "test": 2,
    }
    metrics = read_json(run, "metrics.json")
    assert (metrics["subset"], metrics["images"], metrics["caution"]) == ("test", 2, None)
    table = rows(run / "per_image.csv")
    assert [row["id"] for row in table] == splits["test"]
    for name, mean in metrics["means"].items():
        assert np.mean([float(row[name]) for row in table]) == pytest.approx(mean)
    best = read_json(run, "state.json")["history"][metrics["best_epoch"] - 1]
    assert metrics["validation_means"]["iou"] == pytest.approx(best["val_iou"], abs=1e-5)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "Means over 2 test images" in text
    assert all(f"{id_}<br>" in text for id_ in splits["test"])


def test_finished_run_is_resumed_in_place(uninterrupted: Path) -> None:
    before = {path.name: path.read_bytes() for path in uninterrupted.glob("*.json")}
    (uninterrupted / "report.html").unlink()
    train(RECIPE, uninterrupted, resume=True)
    assert {path.name: path.read_bytes() for path in uninterrupted.glob("*.json")} == before
    assert (uninterrupted / "report.html").exists()


@pytest.mark.parametrize("model", [Model(), Model(network="unet", filters=(4, 8))])
def test_mixed_precision(model: Model, tmp_path: Path, monkeypatch) -> None:
    recipe = changed("training", precision="mixed_float16")
    recipe = dataclasses.replace(recipe, model=model)
    expected = train(recipe, tmp_path / "uninterrupted")
    train_one_epoch(recipe, tmp_path / "run", monkeypatch)
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", expected)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_layers_of_keras_cv_resume_exactly(tmp_path: Path, monkeypatch) -> None:
    recipe = changed("data", augmentation={"RandomRotation": {"factor": 0.1}, "RandomFlip": {}})
    expected = train(recipe, tmp_path / "uninterrupted")
    train_one_epoch(recipe, tmp_path / "run", monkeypatch)
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", expected)


def test_a_run_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"is in use: choose another .*empty\.$"):
        train(RECIPE, tmp_path)  # where there is no run to resume
    with pytest.raises(FileExistsError, match=r"is in use"):
        train(RECIPE, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_processes_cannot_train_in_one_directory(tmp_path: Path, monkeypatch) -> None:
    run = tmp_path / "run"
    train_one_epoch(RECIPE, run, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with (
        lock(run),  # as the other process has it
        pytest.raises(BlockingIOError, match=r"Another process is training in .*run: wait for it"),
    ):
        train(RECIPE, run, resume=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    train(RECIPE, run, resume=True)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (changed("model", num_classes=2), r"model.num_classes must be the 1 of synthetic. .* 2"),
        (changed("data", source="no_such_data", num_images=None), r"no_such_data"),
        (changed("data", augmentation={"MixUp": {}}), r"keras-cv is made of .*Received: 'MixUp'"),
    ],
)
def test_nothing_is_left_when_data_do_not_fit(recipe, message, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_unwritable_directory_is_refused_before_any_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "ImageTask", None)  # calling it would raise a TypeError
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written to"):
        train(RECIPE, tmp_path / "file" / "run")


TWO_IMAGES = types.SimpleNamespace(  # what is known of one to train on and one to validate on
    kind="images",
    recipe=RECIPE,
    dataset="synthetic/0",
    splits={"train": ["0"], "validation": ["1"]},
    prepare=lambda run_directory: None,
)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run directory that ends before the first epoch."""
    run = tmp_path / "run"
    run.mkdir()
    training._begin(run, TWO_IMAGES, resume=False)
    return run


def test_resume_refuses_another_recipe(begun: Path) -> None:
    with pytest.raises(ValueError, match=r"in .*run, training.epochs was 2."):
        train(changed("training", epochs=4), begun, resume=True)


def test_resume_takes_defaults_that_are_told_and_refuses_others(begun: Path) -> None:
    """And version 0.1 wrote no argument that came later."""
    begun_with = read_json(begun, "recipe.json")
    begun_with["recipe"]["model"] = {"num_classes": 1}
    write_json(begun / "recipe.json", begun_with)
    with pytest.raises(ValueError, match=r"images of synthetic are no longer those"):
        train(changed("model", dims=(16, 32, 64, 128, 128)), begun, resume=True)
    with pytest.raises(ValueError, match=r"in .*run, model.dims was \(16, 32, 64, 128, 128\)\."):
        train(changed("model", dims=(4, 4, 4, 4, 4)), begun, resume=True)
    with pytest.raises(ValueError, match=r"in .*run, model.network was 'lgmsnet'"):
        train(changed("model", network="unet"), begun, resume=True)


def test_resume_refuses_a_recipe_of_another_rank(begun: Path) -> None:
    recipe = Recipe(data=VolumeData(source="btcv"))
    with pytest.raises(ValueError, match=r"data.image_size was \(32, 32\), .*training.momentum"):
        train(recipe, begun, resume=True)


def test_resume_refuses_another_backend(begun: Path) -> None:
    write_json(begun / "recipe.json", read_json(begun, "recipe.json") | {"backend": "other"})
    with pytest.raises(ValueError, match=r"on the backend it began on, other"):
        train(RECIPE, begun, resume=True)


def test_resume_refuses_another_copy_of_the_dataset(begun: Path) -> None:
    values = read_json(begun, "recipe.json")
    write_json(begun / "recipe.json", values | {"dataset": "image_folder@0/1.0.0"})
    (begun / "splits.json").unlink()  # equal ids would not do
    message = r"begun with: give it the same data.* synthetic/0 instead of image_folder@0/1.0.0"
    with pytest.raises(ValueError, match=message):
        train(RECIPE, begun, resume=True)
    assert not (begun / "splits.json").exists()


def test_resume_refuses_other_data(begun: Path) -> None:
    with pytest.raises(ValueError, match=r"images of synthetic are no longer those"):
        train(RECIPE, begun, resume=True)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not a run directory"):
        train(RECIPE, tmp_path / "run", resume=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_resume_refuses_a_damaged_checkpoint(content, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.json", "splits.json", "state.json"):
        (run / name).write_bytes((uninterrupted / name).read_bytes())
    (run / "checkpoint-0002.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint-0002.keras is damaged or missing"):
        train(RECIPE, run, resume=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.json", b'{"recipe": {}}', r"recipe.json is damaged: it has no backend"),
        ("state.json", b"{}", r"state.json is damaged: it has no history"),
        ("splits.json", b"[]", r"splits.json is damaged: it must hold a JSON object"),
        ("model.keras", b"PK\x03\x04 cut short", r"model.keras is damaged or missing"),
    ],
)
def test_resume_names_the_damaged_file(
    name, content, message, uninterrupted: Path, tmp_path: Path, monkeypatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / name).write_bytes(content)
    # A best network of an earlier epoch is not written again.
    monkeypatch.setattr(FinishedEpochs, "best_epoch", 1)
    with pytest.raises(ValueError, match=message):
        train(RECIPE, run, resume=True)


def test_a_run_begun_while_the_data_were_read_is_not_joined(begun: Path) -> None:
    with pytest.raises(FileExistsError, match=r"is in use"):
        training._begin(begun, TWO_IMAGES, resume=False)


def test_infinite_loss_stops_and_keeps_the_last_epoch(tmp_path: Path, monkeypatch) -> None:
    run = tmp_path / "run"
    train_one_epoch(RECIPE, run, monkeypatch)
    kept = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    def not_a_number(y_true, y_pred):
        return keras.ops.mean(y_pred) * float("nan")

    monkeypatch.setattr(image_task, "BCEDiceLoss", lambda: not_a_number)
    with pytest.raises(ValueError, match=r"not finite in step 1 of epoch 2; .*after epoch 1"):
        train(RECIPE, run, resume=True)
    # Resuming rewrote model.keras, a zip archive, which holds the time of writing.
    for name in kept.keys() - {"model.keras"}:
        assert (run / name).read_bytes() == kept[name]


def test_network_destroyed_by_the_last_step_is_not_kept(tmp_path: Path) -> None:
    # One step: its loss is finite, and the rate then sends the weights to infinity.
    recipe = changed("training", epochs=1, batch_size=8, learning_rate=1e38)
    with pytest.raises(ValueError, match=r"not finite at the end of epoch 1"):
        train(recipe, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert not (tmp_path / "run" / "state.json").exists()


def test_recipe_reaches_network_batches_and_optimizer(tmp_path: Path, monkeypatch) -> None:
    seen = {}

    def record(module, name: str) -> None:
        original = getattr(module, name)

        def recording(*arguments, **options):
            seen.setdefault(name, (arguments, options))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, recording)

    record(registry, "create")
    record(image_task, "ImageBatches")
    record(image_task, "TorchSGD")
    recipe = Recipe(
        data=Data(
            source="synthetic",
            num_images=10,
            image_size=(32, 64),
            validation_fraction=0.4,
            preprocessing="published",
            augmentation=None,
        ),
        model=Model(dims=(4, 4, 4, 4, 4), kernel_sizes=(3,), transformer_ratio=0.5),
        training=Training(
            epochs=1, batch_size=3, learning_rate=0.3, momentum=0.5, weight_decay=0.25, seed=7
        ),
    )
    train(recipe, tmp_path / "run")
    assert seen["create"][0] == ("lgmsnet",)
    assert seen["create"][1] == {
        "input_shape": (32, 64, 3),
        "num_classes": 1,
        "dims": (4, 4, 4, 4, 4),
        "kernel_sizes": (3,),
        "transformer_ratio": 0.5,
        "activation": "gelu",
        "normalization": None,
        "dtype": "float32",
    }
    (examples, batch_size), options = seen["ImageBatches"]
    assert (len(examples.ids), batch_size) == (6, 3)
    assert options == {
        "preprocessing": "published",
        "augmentation": None,
        "shuffle": True,
        "seed": 7,
    }
    (schedule, momentum, weight_decay), _ = seen["TorchSGD"]
    assert (momentum, weight_decay) == (0.5, 0.25)
    assert schedule.get_config()["initial_learning_rate"] == 0.3
    assert schedule.get_config()["total_steps"] == 2

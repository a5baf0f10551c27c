"""The commands: a run from end to end, and what a user's mistakes look like."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import cv2
import keras
import numpy as np
import pytest

from keras_lgmsnet.cli.benchmark import benchmark as lgms_benchmark
from keras_lgmsnet.cli.common import choose_backend
from keras_lgmsnet.cli.compare import compare as lgms_compare
from keras_lgmsnet.cli.evaluate import evaluate as lgms_evaluate
from keras_lgmsnet.cli.export import export as lgms_export
from keras_lgmsnet.cli.figures import figures as lgms_figures
from keras_lgmsnet.cli.networks import networks as lgms_networks
from keras_lgmsnet.cli.predict import predict as lgms_predict
from keras_lgmsnet.cli.train import train as lgms_train
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.kinds import kind_of_rank
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.network import Network
from keras_lgmsnet.process import progress
from keras_lgmsnet.recipe.loading import load_recipe
from keras_lgmsnet.run_directory import read_json, read_recipe
from tfds_builders.isic2018_task1 import isic2018_task1_dataset_builder_test as isic

TINY = [
    "--set=data.num_images=8",
    "--set=data.image_size=32,32",
    "--set=model.dims=4,4,4,4,4",
    "--set=model.kernel_sizes=3,",
    "--set=model.transformer_ratio=0",  # JAX compiles the transformer for half a minute
    "--set=training.epochs=1",
    "--set=training.batch_size=5",  # all: for JAX compiles each size of a batch anew
]

UNET = ["--set", "model.network=unet"]


@pytest.fixture(autouse=True)
def _unchanged_process(monkeypatch) -> Iterator[None]:
    """Undo what the commands do to the process they run in."""
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "LGMS_VERBOSE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.setattr(keras.config, "disable_traceback_filtering", lambda: None)
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")


def run(command: click.Command, *arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(command, [str(argument) for argument in arguments])


def assert_one_sentence(result: click.testing.Result, *words: str) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.no_backend  # as the guest below takes the same way, of fewer layers
def test_train_lgmsnet(tmp_path: Path, monkeypatch) -> None:
    """LGMSNet itself, narrow, from the command to the report and the table."""
    output = tmp_path / "run"
    with monkeypatch.context() as context:
        context.setattr(progress, "SECONDS", 0)
        result = run(lgms_train, "quickstart", "-o", output, *TINY)
    assert result.exit_code == 0, result.output
    assert "Epoch 1: 1 of 1 steps after" in result.stderr
    assert "Evaluating: 1 of 1 steps after" in result.stderr
    assert "\r" not in result.output
    backend = keras.backend.backend()
    assert result.stdout.startswith(f"Keras backend: {backend}\n")
    metrics = read_json(output, "metrics.json")
    assert result.stdout.endswith(
        f"Validation IoU {metrics['means']['iou']:.4f}, F1 {metrics['means']['f1']:.4f} "
        f"after epoch 1. Report: {output / 'report.html'}\n"
    )
    recipe = read_recipe(output)
    assert (recipe.data.image_size, recipe.training.epochs) == ((32, 32), 1)
    assert read_json(output, "recipe.json")["backend"] == backend
    model = keras.saving.load_model(output / "model.keras")
    assert model.predict_on_batch(np.zeros((1, 32, 32, 3), "float32")).shape == (1, 32, 32, 1)

    cv2.imwrite(tmp_path / "white.png", np.full((40, 50, 3), 255, "uint8"))
    result = run(lgms_predict, output, tmp_path / "white.png", "-o", tmp_path / "predicted")
    assert result.exit_code == 0, result.output
    assert "white.png: brightness is 1, in training 0." in result.stderr
    mask = cv2.imread(tmp_path / "predicted" / "masks" / "white.png", cv2.IMREAD_UNCHANGED)
    assert mask.shape == (40, 50)

    result = run(lgms_train, "quickstart", "-o", output, *TINY)
    assert_one_sentence(result, f"{output} is in use", "--resume")

    result = run(lgms_evaluate, output)
    assert result.exit_code == 0, result.output
    table = (output / "evaluation-validation" / "table.md").read_text(encoding="utf-8")
    assert result.stdout == f"Keras backend: {backend}\n{table}"
    assert f"{output.name} on the 3 validation images of synthetic." in table
    groups = read_json(output / "evaluation-validation", "evaluation.json")["groups"]
    for name, mean in metrics["means"].items():
        assert groups["all"]["scores"][name]["mean"] == pytest.approx(mean, abs=1e-6)


def test_a_guest_goes_the_same_way(tmp_path: Path) -> None:
    """U-Net, narrow, is trained, predicts, and is held against LGMSNet.

    So it is whatever a user's `keras.json` asks for.
    """
    from tests import test_figures

    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    output = tmp_path / "guest"
    tiny = [option for option in TINY if "model" not in option]
    result = run(lgms_train, "quickstart", "-o", output, *tiny, *UNET, "--set=model.filters=4,8")
    assert result.exit_code == 0, result.output
    assert "U-Net on synthetic</title>" in (output / "report.html").read_text(encoding="utf-8")
    assert read_recipe(output).model.arguments == {"filters": (4, 8), "block": None}

    cv2.imwrite(tmp_path / "white.png", np.full((40, 50, 3), 255, "uint8"))
    result = run(lgms_predict, output, tmp_path / "white.png", "-o", tmp_path / "out", "--tiles")
    assert result.exit_code == 0, result.output
    mask = cv2.imread(tmp_path / "out" / "masks" / "white.png", cv2.IMREAD_UNCHANGED)
    assert mask.shape == (40, 50)

    other = test_figures.write_run(tmp_path / "lgmsnet")
    shutil.copy(output / "splits.json", other)
    result = run(lgms_evaluate, output, "--against", other)
    assert result.exit_code == 0, result.output
    assert "guest against lgmsnet on the 3 validation images of synthetic." in result.stdout


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("recipe", "subset", "caution"),
    [("isic", "test", None), ("isic", "validation", "Optimistic."), ("kits23", "test", None)],
)
def test_train_prints_what_was_scored(recipe, subset, caution, tmp_path, monkeypatch) -> None:
    from keras_lgmsnet import training

    def write(recipe, run_directory, *arguments, **options) -> None:
        means = {"iou": 0.5, "f1": 0.625, "dice": 0.75}
        metrics = {"subset": subset, "means": means, "best_epoch": 3}
        write_json(run_directory / "metrics.json", metrics)
        runs = {"iou": (0.25, 0.75), "f1": (0.5, 0.75), "dice": (0.5, 1.0)}
        summary = {"subset": subset, "runs": runs, "caution": caution}
        write_json(run_directory / "summary.json", summary)

    monkeypatch.setattr(training, "train", write)
    monkeypatch.setattr(training, "train_splits", write)
    name = subset.capitalize()
    result = run(lgms_train, recipe, "-o", tmp_path)
    means = {"isic": "IoU 0.5000, F1 0.6250", "kits23": "Dice 0.7500"}[recipe]
    line = f"{name} {means} after epoch 3. Report: {tmp_path / 'report.html'}\n"
    assert result.stdout.endswith(line), result.output
    result = run(lgms_train, recipe, "-o", tmp_path, "--split-seeds", "1,2")
    means = {"isic": "IoU 0.5000 ± 0.3536, F1 0.6250 ± 0.1768", "kits23": "Dice 0.7500 ± 0.3536"}
    line = f"{name} {means[recipe]} over 2 splits.\n"
    assert result.stdout.endswith(line + (f"{caution}\n" if caution else "")), result.output


def test_train_prints_what_a_study_found(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import training
    from keras_lgmsnet.study_directory import StudyRun

    seen: dict[str, Any] = {}

    def record(study, directory, seeds, **options) -> list[StudyRun]:
        seen.update(study=study, directory=directory, seeds=seeds, **options)
        runs = [
            StudyRun(label, seed, tmp_path / f"{label}-{seed}")
            for seed in (1, 2)
            for label in study
        ]
        for score, run in zip((0.25, 0.5, 0.75), runs, strict=False):
            means = {"iou": score, "f1": score}
            metrics = {"subset": "validation", "means": means, "caution": "They flatter."}
            recipe = {"recipe": study[run.label].to_dict()}
            run.directory.mkdir()
            write_json(run.directory / "recipe.json", recipe)
            write_json(run.directory / "metrics.json", metrics)
        return runs

    monkeypatch.setattr(training, "train_study", record)
    result = run(
        lgms_train,
        *("busi", "--networks", "lgmsnet,swin_unet", "--set", "training.epochs=5"),
        *("--split-seeds", "1,2", "--part", "1/2", "--backend", keras.backend.backend()),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Swin-Unet gets data.image_size=224,224.",
        f"Keras backend: {keras.backend.backend()}",
        "LGMSNet: validation IoU 0.5000 ± 0.3536, F1 0.5000 ± 0.3536 over 2 splits.",
        "Swin-Unet: validation IoU 0.5000, F1 0.5000 over 1 split.",
        "They flatter.",
        f"Not finished, 1 of 4 runs: {tmp_path / 'Swin-Unet-2'}.",
    ]
    assert {recipe.training.epochs for recipe in seen.pop("study").values()} == {5}
    assert (str(seen.pop("part")), seen.pop("seeds")) == ("1/2", (1, 2))
    assert seen.pop("directory") == Path("studies/busi")
    run(lgms_train, "study_blocks")
    assert len(seen["study"]) == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("busi", "--part", "1/2"), "--part shares the runs of a study"),
        (("study_blocks", "--part", "3/2"), "Received: 3/2"),
        (("study_blocks", "--part", "slurm"), "within its tasks only"),
        (("study_blocks", "--networks", "unet"), "study_blocks is a study already"),
        (("study_blocks", "--dry-run"), "--dry-run tells of one run"),
        (("busi", "--networks", "unett"), "did you mean unet"),
        (("btcv", "--networks", "cmunext"), "takes images"),
    ],
)
def test_mistakes_with_studies(arguments, sentence) -> None:
    assert_one_sentence(run(lgms_train, *arguments), sentence)


def test_train_passes_everything_on(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import training

    seen = {}

    def record(recipe, run_directory, **options) -> None:
        seen.update(recipe=recipe, run_directory=run_directory, **options)
        raise FileNotFoundError("enough")

    monkeypatch.setattr(training, "train", record)
    result = run(
        lgms_train,
        *("isic", "--set", "training.epochs=5", "--set", "training.seed=3"),
        *("--manual-dir", "m", "--data-dir", "d", "--resume"),
    )
    assert_one_sentence(result, "enough")
    assert (seen["recipe"].training.epochs, seen["recipe"].training.seed) == (5, 3)
    del seen["recipe"]
    folders = {"manual_dir": Path("m"), "data_dir": Path("d")}
    assert seen == {"run_directory": Path("runs/isic"), "resume": True, **folders}

    def rehearse(recipe, run_directory, **options) -> dict[str, str]:
        seen.update(run_directory=run_directory, **options)
        return {"steps": "7 an epoch"}

    seen.clear()
    monkeypatch.setattr(training, "rehearse", rehearse)
    result = run(lgms_train, "isic", "--dry-run", "--manual-dir", "m", "--data-dir", "d")
    assert seen == {"run_directory": Path("runs/isic"), **folders}
    assert result.stdout.endswith(
        "  steps  7 an epoch\nWithout --dry-run, this would be trained, into runs/isic.\n"
    )
    result = run(lgms_train, "isic", "--dry-run", "--resume")
    assert_one_sentence(result, "leave out --resume")


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["no_such_recipe"],
            ["no recipe file no_such_recipe", "are: btcv, busi, busi_ablations, busi_keras_cv"],
        ),
        (["isic", "--set", "training.epoch=5"], ["'training.epoch'", "training.epochs"]),
        (["isic", "--set", "training.epochs=x"], ["must be an integer. Received: 'x'"]),
        (["isic", "--set", "training.epochs={[]:1}"], ["must be an integer"]),
        (["isic", "--set", "model.dims=16", "-o", "run"], ["dims must be integers", "dims=16"]),
        (["isic", "--set", "model.network=unett"], ["no network 'unett'; did you mean unet"]),
        (
            ["isic", *UNET, "--set", "model.filterz=8", "-o", "run"],
            ["U-Net for images has no argument 'filterz'; did you mean filters?"],
        ),
        (["isic", *UNET, "--set", "model.filters=8", "-o", "run"], ["filters must be integers"]),
        (
            ["isic", *UNET, "--set", "data.image_size=100,96", "-o", "run"],
            ["data.image_size", "divisible by 16", "(96, 96), the nearest", "(100, 96)"],
        ),
        (["isic", "--set", "model.activation=gelo", "-o", "run"], ["such as 'gelu'", "'gelo'"]),
        (["isic", "--set", "data.image_size=100,100", "-o", "run"], ["divisible by 32", "100"]),
        (["isic", "-o", "file/run"], ["file/run cannot be written to: Not a directory."]),
        (["isic", "-o", "."], [". is in use"]),
        (["isic", "-o", "run", "--data-dir", "data"], ["neither prepared in", "manual"]),
        (
            ["isic", "-o", "run", "--manual-dir", ".", "--data-dir", "file/data"],
            ["file/data cannot be written to: Not a directory: choose another", "(--data-dir"],
        ),
        (["isic", "-o", "run", "--resume"], ["run is not a run directory"]),
        (["broken.py"], ["Recipe broken.py, line 1: ZeroDivisionError"]),
    ],
)
def test_mistakes_in_train(arguments, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "broken.py").write_text("1 / 0")
    before = sorted(tmp_path.rglob("*"))
    assert_one_sentence(run(lgms_train, *arguments), *words)
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all("data" in path.parts for path in left)  # TensorFlow Datasets' own


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (isic.truncate_image, ["ISIC_0000001.jpg cannot be read as an image"]),
        (isic.enlarge_mask, ["ISIC_0000001_segmentation.png must be", "(10, 12)"]),
    ],
)
def test_damaged_data_in_train(damage, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(isic.Builder, "NUM_EXAMPLES", len(isic.IDS))
    isic.write_archive(tmp_path / "manual")
    damage(tmp_path / "manual")
    folders = ("--manual-dir", tmp_path / "manual", "--data-dir", tmp_path / "data")
    result = run(lgms_train, "isic", *TINY[1:], "-o", tmp_path / "run", *folders)
    told, error = result.stderr_bytes.splitlines(keepends=True)
    assert told.startswith(f"Preparing isic2018_task1 in {tmp_path / 'data'}".encode())
    result.stderr_bytes = error
    assert_one_sentence(result, *words)
    assert not (tmp_path / "run").exists()


def test_evaluate_passes_everything_on(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import evaluation

    seen = []

    def record(*arguments, **options) -> dict:
        seen.append((arguments, options))
        return {}

    monkeypatch.setattr(evaluation, "evaluate", record)
    monkeypatch.setattr(evaluation, "format_table", lambda evaluated, style: f"in {style}")
    result = run(
        lgms_evaluate,
        *("a", "-o", "out", "--dataset", "ph2", "--against", "b", "--table", "latex"),
        *("--manual-dir", "m", "--data-dir", "d", "--tolerance", "1.5", "--allow-incomplete"),
        *("--mask-threshold", "127"),
    )
    assert result.stdout.endswith("in latex\n")
    assert run(lgms_evaluate, "a").stdout.endswith("in markdown\n")
    everything, default = seen
    assert everything == (
        (Path("a"), Path("out")),
        {
            "dataset": "ph2",
            "against": Path("b"),
            "manual_dir": Path("m"),
            "data_dir": Path("d"),
            "tolerance": 1.5,
            "allow_incomplete": True,
            "mask_threshold": 127,
        },
    )
    options = dict.fromkeys(everything[1]) | {"tolerance": 2.0, "allow_incomplete": False}
    assert default == ((Path("a"), None), options)


def test_mistakes_in_evaluate(tmp_path: Path) -> None:
    from tests import test_evaluation

    result = run(lgms_evaluate, tmp_path / "none")
    assert_one_sentence(result, "none is not a run directory: it has no recipe.json")
    directory = test_evaluation.write_run(tmp_path / "run")
    result = run(lgms_evaluate, directory, "--against", tmp_path / "none")
    assert_one_sentence(result, "none is not a run directory")
    result = run(lgms_evaluate, directory, "--dataset", "no_such_data")
    assert_one_sentence(result, "must be one of", "isic2018_task1", "no_such_data")
    result = run(
        lgms_evaluate, directory, "--dataset", "isic2018_task1", "--data-dir", tmp_path / "data"
    )
    assert_one_sentence(result, "isic2018_task1 is neither prepared in", "Download")
    result = run(lgms_evaluate, directory, "--dataset", "synthetic")
    assert_one_sentence(result, "was trained on 7 of the 10 images", "leave --dataset")
    result = run(lgms_evaluate, directory, "-o", directory)
    assert_one_sentence(result, "run is in use")
    result = run(lgms_evaluate, directory, "--tolerance", "-1")
    assert_one_sentence(result, "tolerance must be at least 0", "-1.0")
    other = test_evaluation.write_run(tmp_path / "other")
    (other / "splits.json").write_text('{"train": ["b"], "validation": ["a"]}')
    result = run(lgms_evaluate, directory, "--against", other)
    assert_one_sentence(result, "held out different images", "--dataset")
    assert not list(tmp_path.rglob("evaluation*"))
    assert run(lgms_evaluate, directory, "--table", "html").exit_code == 2


def test_compare_passes_everything_on(monkeypatch) -> None:
    from keras_lgmsnet import comparison

    class Found:
        def text(self) -> str:
            return "A table."

    seen = []

    def record(*arguments, **options) -> Found:
        seen.append((arguments, options))
        return Found()

    monkeypatch.setattr(comparison, "compare_runs", record)
    result = run(
        lgms_compare,
        *("a", "b", "-o", "out", "--reference", "LGMSNet", "--dataset", "bus"),
        *("--benchmark", "networks.csv", "--manual-dir", "m", "--data-dir", "d"),
        *("--allow-incomplete", "--mask-threshold", "127", "--pictures", "--image", "a (1)"),
    )
    assert result.stdout.endswith(f"A table.\n\nPage: {Path('out', 'comparison.html')}\n")
    assert run(lgms_compare, "a").exit_code == 0
    everything, default = seen
    assert everything == (
        ((Path("a"), Path("b")), Path("out")),
        {
            "reference": "LGMSNet",
            "dataset": "bus",
            "speeds": Path("networks.csv"),
            "pictures": True,
            "images": ("a (1)",),
            "manual_dir": Path("m"),
            "data_dir": Path("d"),
            "allow_incomplete": True,
            "mask_threshold": 127,
        },
    )
    unset = {"pictures": False, "images": (), "allow_incomplete": False}
    options = dict.fromkeys(everything[1]) | unset
    assert default == (((Path("a"),), None), options)


def test_mistakes_in_compare(tmp_path: Path) -> None:
    from tests.helpers.scored_runs import write_image_run

    assert run(lgms_compare).exit_code == 2
    result = run(lgms_compare, tmp_path / "none")
    assert_one_sentence(result, "none holds no run", "split-SEED")
    directory = write_image_run(tmp_path / "run", {"x": 0.5})
    result = run(lgms_compare, directory, "--reference", "other")
    assert_one_sentence(result, "The reference is one of run", "other")
    result = run(lgms_compare, directory, "-o", directory)
    assert_one_sentence(result, "run is in use")
    result = run(lgms_compare, directory, "--benchmark", tmp_path / "none.csv")
    assert_one_sentence(result, "No such file", "none.csv")
    result = run(lgms_compare, directory, "--dataset", "no_such_data")
    assert_one_sentence(result, "no trained network yet")
    result = run(lgms_compare, directory)
    assert result.exit_code == 0
    assert "| run |" in result.stdout


def test_figures_passes_everything_on(monkeypatch) -> None:
    from keras_lgmsnet import figures

    seen = []

    def record(*arguments, **options) -> dict:
        seen.append((arguments, options))
        return {"captions": {"panels": "What they show."}, "caution": "Beware."}

    monkeypatch.setattr(figures, "draw_figures", record)
    result = run(
        lgms_figures,
        *("a", "-o", "out", "--against", "b", "--dataset", "ph2", "--foreground-of", "busi"),
        *("--foreground-of", "bus", "--image", "x", "--image", "y", "--stage", "stem"),
        *("--manual-dir", "m", "--data-dir", "d", "--allow-incomplete"),
        *("--mask-threshold", "127"),
    )
    panels = Path("out/panels")
    assert result.stdout.endswith(f"{panels}.png, .pdf: What they show.\nBeware.\n")
    assert run(lgms_figures, "a", "-o", "out").exit_code == 0
    everything, default = seen
    assert everything == (
        (Path("a"), Path("out")),
        {
            "against": Path("b"),
            "dataset": "ph2",
            "foreground_of": ("busi", "bus"),
            "images": ("x", "y"),
            "stages": ("stem",),
            "manual_dir": Path("m"),
            "data_dir": Path("d"),
            "allow_incomplete": True,
            "mask_threshold": 127,
        },
    )
    options = dict.fromkeys(everything[1])
    options |= {"foreground_of": (), "images": (), "stages": (), "allow_incomplete": False}
    assert default == ((Path("a"), Path("out")), options)


def test_mistakes_in_figures(tmp_path: Path) -> None:
    from tests import test_evaluation

    result = run(lgms_figures, tmp_path / "none", "-o", tmp_path / "out")
    assert_one_sentence(result, "none is not a run directory: it has no recipe.json")
    directory = test_evaluation.write_run(tmp_path / "run")
    result = run(lgms_figures, directory, "-o", tmp_path / "out")
    assert_one_sentence(result, "Stages must be layers of the network in", "encoder1")
    result = run(lgms_figures, directory, "-o", directory)
    assert_one_sentence(result, "is in use")
    assert not (tmp_path / "out").exists()


def test_predict(tmp_path: Path, monkeypatch) -> None:
    """One good file, one flagged, one unreadable: each is told, and the exit code says so."""
    from keras_lgmsnet import inference
    from keras_lgmsnet.inference.images import Prediction

    rows = [
        Prediction(path="a.png", name="a", lesion_share=0.12345, flags=()),
        Prediction(path="b.png", name="b", lesion_share=0.0, flags=("dark", "small")),
        Prediction(path="c.png", name="c", error="c.png is empty."),
    ]
    seen = {}

    def record(*arguments, **options) -> list:
        seen.update(options, arguments=arguments)
        return rows

    monkeypatch.setattr(inference, "predict_images", record)
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    write_json(Path("run/recipe.json"), {"recipe": load_recipe("isic").to_dict()})
    result = run(lgms_predict, "run", "a.png", "more", "-o", "out", "--tiles", "--probabilities")
    assert result.exit_code == 1
    assert result.stderr == (
        "run is not finished: this is its best network so far.\n"
        "Not predicted: c.png is empty.\nUnlike the training images: b.png: dark; small\n"
    )
    assert result.stdout.endswith(
        "a.png: lesion 12.3 % of the image\nb.png: no lesion found\n"
        "2 of 3 images predicted, 1 flagged: out\n"
    )
    assert seen == {
        "arguments": (Path("run"), (Path("a.png"), Path("more")), Path("out")),
        "tiles": True,
        "probabilities": True,
    }
    rows[:] = [Prediction(path=f"{name}.png", name=name, lesion_share=0.5) for name in "ab"]
    write_json(Path("run/metrics.json"), {})
    result = run(lgms_predict, "run", "a.png", "-o", "out", "--overlap", "0.25")
    assert result.exit_code == 0
    assert "not finished" not in result.stderr
    assert result.stderr.count("run has no fingerprint.json") == 1
    assert (seen["tiles"], seen["overlap"], seen["probabilities"]) == (False, 0.25, False)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none", "a.png"], ["none is not a run directory"]),
        (["run", "a.png"], ["run/model.keras is damaged"]),
        (["untrained", "a.png"], ["untrained has no trained network yet"]),
        (["splits", "a.png"], ["splits holds several runs, split-41: name one"]),
        (["run", "a.png", "--mirror"], ["--mirror is for volumes, and run is a run on images"]),
        (["run", "a.png", "--confidence"], ["--confidence is for volumes"]),
    ],
)
def test_mistakes_in_predict(arguments, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "untrained", "splits/split-41"):
        Path(name).mkdir(parents=True)
        recipe = {"recipe": load_recipe("isic").to_dict()}
        write_json(Path(name, "recipe.json"), recipe)
    Path("run/model.keras").write_text("no archive")
    Path("a.png").touch()
    assert_one_sentence(run(lgms_predict, *arguments, "-o", "out"), *words)
    assert not Path("out").exists()
    result = run(lgms_predict, "run", "a.png", "-o", "out", "--overlap", "1")
    assert result.exit_code == 2


@pytest.mark.no_backend
def test_predict_imports_one_kind(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import inference

    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    write_json(Path("run/recipe.json"), {"recipe": load_recipe("isic").to_dict()})
    monkeypatch.setattr(inference, "predict_images", lambda *arguments, **options: [])
    monkeypatch.delattr(inference, "predict_volumes", raising=False)
    monkeypatch.setitem(sys.modules, "keras_lgmsnet.inference.volumes", None)  # not to be imported
    result = run(lgms_predict, "run", "a.png", "-o", "out")
    assert result.exit_code == 0, result.output


@pytest.mark.no_backend
def test_networks_lists_all() -> None:
    result = run(lgms_networks)
    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(registry.NETWORKS)
    cells = next(row for row in rows if row[0].strip(" |") == "lgmsnet")
    assert [cell.strip(" |") for cell in cells] == [
        *("lgmsnet", "images", "2,321,393", "4.89 G"),
        "256 × 256 × 3, 1 class",
    ]
    assert "unet, for volumes: Çiçek et al., 3D U-Net, MICCAI 2016." in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize("network", registry.NETWORKS, ids=lambda network: network.class_name)
def test_networks_tells_all_of_one(network: Network) -> None:
    """Silently but for that, on the backend that Keras is imported on."""
    result = run(lgms_networks, network.name)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "Keras backend" not in result.stdout
    title = f"{network.title} for {kind_of_rank(network.rank).name}\n"
    _, found, described = f"\n{result.stdout}".partition(f"\n{title}")
    assert found
    described = " ".join(described.split())  # as if lines had no end
    for argument, default in network.arguments().items():
        assert f" {argument} {default!r}" in described
    told = [network.paper, network.program or "none published", *network.stages]
    for published in network.published:
        counts = (published.parameters, published.parameters_counted, published.multiply_adds)
        told += [f"{count:,}" for count in counts if count is not None]
        told += [repr(value) for value in published.arguments.values()]
        told += [published.printed, published.remark]
    for text in told:
        assert text in described


@pytest.mark.no_backend
def test_mistakes_in_networks() -> None:
    assert_one_sentence(run(lgms_networks, "unett"), "no network 'unett'; did you mean unet")


@pytest.mark.no_backend
def test_mistakes_in_export(tmp_path: Path) -> None:
    result = run(lgms_export, tmp_path / "none", "-o", tmp_path / "out")
    assert_one_sentence(result, "is not a run directory")
    result = run(lgms_export, tmp_path, "-o", tmp_path / "out", "--format", "onnx5")
    assert_one_sentence(result, "onnx5", "tflite")
    assert not (tmp_path / "out").exists()


def test_export_passes_everything_on(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import export

    agreement = {
        "max_probability_difference": 2.5e-7,
        "changed_pixels": 1e-6,
        **{"iou": 0.8, "network_iou": 0.81, "f1": 0.9, "network_f1": 0.9},
    }
    seen = []

    def record(*arguments, **options) -> dict:
        seen.append((arguments, options))
        files = {"model_int8.tflite": {"precision": "int8", "agreement": agreement}}
        return {"rank": 2, "files": files, "compared_on": {"examples": 7, "subset": "test"}}

    monkeypatch.setattr(export, "export", record)
    options = ["--format", "tflite", "--precision", "int8", "--precision", "float32"]
    options += ["--activation", "sigmoid", "--manual-dir", "m", "--data-dir", "d"]
    result = run(lgms_export, tmp_path / "run", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert seen == [
        (
            (tmp_path / "run", tmp_path / "out", ("tflite",)),
            {
                "precisions": ("int8", "float32"),
                "activation": "sigmoid",
                "manual_dir": Path("m"),
                "data_dir": Path("d"),
            },
        )
    ]
    assert "80.00 (Keras 81.00)" in result.stdout
    assert f"On 7 test images. Model card: {tmp_path / 'out' / 'model_card.md'}" in result.stdout


@pytest.mark.no_backend
def test_benchmark_passes_everything_on(monkeypatch) -> None:
    from keras_lgmsnet import benchmark

    seen = []

    def record(*arguments) -> list:
        seen.append(arguments)
        return []

    monkeypatch.setattr(benchmark, "benchmark", record)
    monkeypatch.setattr(benchmark, "format_table", lambda rows: "the table")
    result = run(lgms_benchmark, "--backend", "jax", "--case", "forward-2d", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("the table\n")
    own = ("--input-shape", "64,32,4", "--num-classes", "2", "--batch-size", "3")
    run(lgms_benchmark, "--set", "dims=8,8,8,8,8", *own)
    run(lgms_benchmark, "--network", "unet", "--set", "filters=8,16", "--set", "block=none")
    run(lgms_benchmark)
    (named, own, guest, default) = seen
    assert named == (("jax",), {"forward-2d": benchmark.CASES["forward-2d"]}, 5, 1)
    dims = {"dims": (8, 8, 8, 8, 8)}
    case = benchmark.Case((64, 32, 4), batch_size=3, num_classes=2, arguments=dims)
    assert own[1] == {
        "forward-2d": case,
        "training-2d": dataclasses.replace(case, training=True),
    }
    assert list(guest[1]) == ["forward-2d", "training-2d", "forward-3d"]
    assert {case.network for case in guest[1].values()} == {"unet"}
    assert guest[1]["forward-3d"].arguments == {"filters": (8, 16), "block": None}
    assert set(default[1]) == set(benchmark.CASES) - {"training-3d"}
    assert default[0] == ["tensorflow", "jax", "torch"]


@pytest.mark.no_backend
def test_benchmark_of_exports_passes_everything_on(monkeypatch) -> None:
    from keras_lgmsnet import benchmark

    seen = []

    def record(*arguments, **options) -> list:
        seen.append((arguments, options))
        return []

    monkeypatch.setattr(benchmark, "benchmark_exports", record)
    monkeypatch.setattr(benchmark, "format_export_table", lambda rows: "the table")
    monkeypatch.setattr(benchmark, "left_out", lambda **chosen: {f"All of {chosen}": "time"})
    result = run(lgms_benchmark, "--exports")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("the table\nLeft out: All of {}, which needs time.\n")
    chosen = {"network": "unet", "input_shape": (64, 32, 3)}
    own = ("--network", "unet", "--input-shape", "64,32,3", "--num-classes", "2")
    result = run(
        lgms_benchmark, "--exports", *own, "--set", "filters=8,16", "--repeats", 3, "--threads", 4
    )
    assert result.stdout.endswith(f"Left out: All of {chosen}, which needs time.\n")
    more = {"num_classes": 2, "arguments": {"filters": (8, 16)}}
    assert seen == [
        ((), {"repeats": 5, "threads": (1, 2)}),
        ((), {**chosen, **more, "repeats": 3, "threads": (4,)}),
    ]


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "option", [("--backend", "jax"), ("--case", "forward-2d"), ("--batch-size", 1)]
)
def test_benchmark_of_exports_has_no_cases(option) -> None:
    assert_one_sentence(run(lgms_benchmark, "--exports", *option), "leave out", option[0])


@pytest.mark.no_backend
def test_mistakes_in_benchmark() -> None:
    for options, fragments in (
        (("--case", "nothing"), ("forward-2d", "nothing")),
        (("--network", "unet", "--case", "depthwise-3d"), ("forward-2d", "depthwise-3d")),
        (("--network", "unett"), ("did you mean unet",)),
        (("--set", "dims"), ("KEY=VALUE", "'dims'")),
        (("--input-shape", "64,40,3"), ("(64, 32), the nearest", "(64, 40)")),
        (("--input-shape", "64,3"), ("rank 1",)),
        (("--network", "unet", "--input-shape", "24,24,3"), ("divisible by 16", "(24, 24)")),
        (("--exports", "--input-shape", "64,40,3"), ("(64, 32), the nearest", "(64, 40)")),
        (("--batch-size", "0"), ("batch_size", "0")),
    ):
        assert_one_sentence(run(lgms_benchmark, *options), *fragments)
    result = run(lgms_benchmark, "--input-shape", "64,x,3")
    assert result.exit_code == 2
    assert "Received: '64,x,3'" in result.stderr


def test_programming_errors_keep_their_traceback(tmp_path: Path, monkeypatch) -> None:
    from keras_lgmsnet import training

    def numpy_error(*arguments, **options) -> None:
        np.concatenate([])

    for error, fail in (
        (ValueError, numpy_error),
        (ZeroDivisionError, lambda *arguments, **options: 1 / 0),
    ):
        monkeypatch.setattr(training, "train", fail)
        assert type(run(lgms_train, "isic").exception) is error


def test_keras_errors_keep_their_traceback(monkeypatch) -> None:
    """Errors of Keras that pass through a layer of this project are not the user's."""
    from keras_lgmsnet import training

    def keras_error(*arguments, **options) -> None:
        keras.ops.reshape(np.zeros(3), (2, 2))

    monkeypatch.undo()
    monkeypatch.setattr(training, "train", keras_error)
    filtering = keras.config.is_traceback_filtering_enabled()
    try:
        result = run(lgms_train, "isic", "--backend", keras.backend.backend())
    finally:
        if filtering:
            keras.config.enable_traceback_filtering()
    assert result.exception is not None
    assert not isinstance(result.exception, SystemExit)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("package", "extra"), [("no_such_package", "train"), ("tensorflow", "tensorflow")]
)
def test_missing_package_is_named(package: str, extra: str, monkeypatch) -> None:
    from keras_lgmsnet import training

    def fail(*arguments, **options) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(training, "train", fail)
    assert_one_sentence(
        run(lgms_train, "isic"), f"{package} is not installed", f"keras-lgmsnet[{extra}]"
    )


@pytest.mark.no_backend
class TestBackend:
    """Which backend is chosen; `keras` itself is already imported here and stays as it is."""

    @pytest.fixture
    def installed(self, monkeypatch) -> set[str]:
        names = {"tensorflow", "jax", "torch"}
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: object() if name in names else None
        )
        monkeypatch.setattr(keras.backend, "backend", lambda: os.environ["KERAS_BACKEND"])
        return names

    def test_the_option_goes_first(self, installed, monkeypatch) -> None:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        choose_backend("jax")
        assert os.environ["KERAS_BACKEND"] == "jax"

    def test_then_the_environment(self, installed, monkeypatch) -> None:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        choose_backend(None)
        assert os.environ["KERAS_BACKEND"] == "torch"

    def test_then_the_first_installed(self, installed, monkeypatch) -> None:
        monkeypatch.delenv("KERAS_BACKEND")
        installed.remove("tensorflow")
        choose_backend(None)
        assert os.environ["KERAS_BACKEND"] == "jax"

    def test_a_recipe_that_imported_keras_is_refused(self, installed, monkeypatch) -> None:
        monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
        result = run(lgms_train, "isic", "--backend", "jax")
        assert_one_sentence(result, "on torch before", "must not import Keras", "jax")

    def test_absent_backend(self, installed) -> None:
        installed.remove("jax")
        assert_one_sentence(
            run(lgms_train, "isic", "--backend", "jax"),
            "pip install 'keras-lgmsnet[jax]'",
            "Asked for: jax; installed: tensorflow, torch.",
        )

    def test_unknown_backend_in_the_environment(self, installed, monkeypatch) -> None:
        monkeypatch.setenv("KERAS_BACKEND", "numpy")
        assert_one_sentence(run(lgms_train, "isic"), "Asked for: numpy")

    def test_no_backend(self, installed, monkeypatch) -> None:
        monkeypatch.delenv("KERAS_BACKEND")
        installed.clear()
        assert_one_sentence(run(lgms_train, "isic"), "keras-lgmsnet[tensorflow]", "installed: none")


@pytest.mark.no_backend
def test_cli_imports_no_keras() -> None:
    commands = ("train", "evaluate", "predict", "export", "figures", "networks", "benchmark")
    names = ", ".join(f"keras_lgmsnet.cli.{command}" for command in commands)
    code = f"import sys, {names}; keras_lgmsnet.cli.networks.networks([], standalone_mode=False)"
    code += "; sys.exit('keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("| name ")


@pytest.mark.no_backend
def test_missing_click_is_one_sentence() -> None:
    code = "import sys; sys.modules['click'] = None; import keras_lgmsnet.cli"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == (
        "The lgms-* commands need packages that are not installed: "
        "pip install 'keras-lgmsnet[train]', or [predict] to predict only.\n"
    )

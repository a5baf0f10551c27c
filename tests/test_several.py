"""Training of several runs: splits, and studies that parts share."""

import dataclasses
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_lgmsnet import study_directory
from keras_lgmsnet.files.parts import Part
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.recipe.schema import Model, Recipe
from keras_lgmsnet.run_directory import read_json, read_recipe
from keras_lgmsnet.study_directory import study_runs
from keras_lgmsnet.training import images as image_task, several
from keras_lgmsnet.training.several import train_splits, train_study
from tests.helpers.runs import assert_same_run, leave_figures_empty, stop
from tests.test_training import RECIPE, changed, interrupt, use_small_network


@pytest.fixture(autouse=True)
def _small_network(monkeypatch) -> None:
    use_small_network(monkeypatch)
    leave_figures_empty(monkeypatch)


# === Splits ===


def test_splits_are_trained_one_by_one_and_summarised(tmp_path: Path, monkeypatch) -> None:
    recipe = changed("training", epochs=1)
    directory = tmp_path / "runs"
    with monkeypatch.context() as context:
        interrupt(context, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            train_splits(recipe, directory, (41, 64))
    with pytest.raises(FileExistsError, match=r"is in use"):
        train_splits(recipe, directory, (41, 64))
    train_splits(recipe, directory, (41, 64), resume=True)
    summary = read_json(directory, "summary.json")
    ious = []
    for seed in (41, 64):
        assert read_recipe(directory / f"split-{seed}").data.split_seed == seed
        ious.append(read_json(directory / f"split-{seed}", "metrics.json")["means"]["iou"])
    assert (summary["seeds"], summary["subset"]) == ([41, 64], "validation")
    assert "same images" in summary["caution"]
    assert summary["runs"]["iou"] == ious
    assert summary["mean"]["iou"] == pytest.approx(sum(ious) / 2)
    assert summary["standard_deviation"]["iou"] == pytest.approx(abs(ious[0] - ious[1]) / 2**0.5)


def test_a_seed_out_of_range_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.split_seed must be from 0"):
        train_splits(RECIPE, tmp_path / "runs", (41, 2**32))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", [(), (41,), (41, 64, 41)])
def test_seeds_that_give_no_deviation_are_refused(seeds, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two seeds or more, each once"):
        train_splits(RECIPE, tmp_path / "runs", seeds)


def test_splits_that_leave_nothing_to_chance_are_refused(tmp_path: Path) -> None:
    recipe = changed("data", validation_ids=["0"])
    with pytest.raises(ValueError, match=r"ids to choose from.*data.validation_ids=\('0',\)"):
        train_splits(recipe, tmp_path / "runs", (41, 64))


def test_splits_with_test_images_are_summarised_by_those(tmp_path: Path, monkeypatch) -> None:
    def finish(recipe: Recipe, run: Path, **options) -> None:
        run.mkdir(parents=True)
        means = {"iou": recipe.data.split_seed / 100}
        metrics = {"subset": "test", "means": means, "validation_means": {"iou": 1.0}}
        write_json(run / "metrics.json", {**metrics, "caution": None})

    monkeypatch.setattr(several, "train", finish)
    directory = train_splits(RECIPE, tmp_path / "runs", (41, 64))
    summary = read_json(directory, "summary.json")
    assert (summary["subset"], summary["caution"]) == ("test", None)
    assert summary["runs"] == {"iou": [0.41, 0.64]}


# === Studies ===

SHORT = changed("training", epochs=1)
OTHER = dataclasses.replace(SHORT, model=Model(network="unet", filters=(4, 4)))
STUDY = {"LGMSNet": SHORT, "U-Net, narrow": OTHER}


def finish(recipe: Recipe, run: Path, **options) -> None:
    """Stand for a training, of which the scores alone matter."""
    run.mkdir(parents=True)
    means = {"iou": recipe.data.split_seed / 100 + len(recipe.model.arguments)}
    write_json(run / "recipe.json", {"recipe": recipe.to_dict()})
    write_json(run / "metrics.json", {"subset": "validation", "means": means, "caution": None})


@pytest.fixture
def finished(monkeypatch) -> None:
    monkeypatch.setattr(several, "train", finish)


def test_a_study_trains_every_recipe_on_every_split(finished, tmp_path: Path) -> None:
    runs = train_study(STUDY, tmp_path / "study", (41, 64))
    assert [run.directory.relative_to(tmp_path).as_posix() for run in runs] == [
        "study/lgmsnet/split-41",
        "study/u-net-narrow/split-41",
        "study/lgmsnet/split-64",
        "study/u-net-narrow/split-64",
    ]
    assert all(run.is_finished for run in runs)
    assert not list(tmp_path.rglob("*.claim"))
    for run in runs:
        recipe = read_recipe(run.directory)
        assert recipe.data.split_seed == run.seed
        assert recipe.model == STUDY[run.label].model
    summary = read_json(tmp_path / "study" / "lgmsnet", "summary.json")
    assert summary["runs"] == {"iou": [0.41, 0.64]}
    assert study_runs(tmp_path / "study") == runs


def test_one_split_is_the_recipes_own(finished, tmp_path: Path) -> None:
    runs = train_study(STUDY, tmp_path / "study")
    assert [run.seed for run in runs] == [41, 41]
    assert not (tmp_path / "study" / "lgmsnet" / "summary.json").exists()
    other = dataclasses.replace(OTHER, data=dataclasses.replace(OTHER.data, split_seed=7))
    with pytest.raises(ValueError, match=r"one data.split_seed.*Received: \(41, 7\)"):
        train_study({"a": SHORT, "b": other}, tmp_path / "other")


def test_parts_train_each_run_once_and_go_on_where_they_were_killed(tmp_path, monkeypatch) -> None:
    directory = tmp_path / "study"
    with monkeypatch.context() as context:
        interrupt(context, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            train_study(STUDY, directory, (41, 64), part=Part(1, 2))
    claim = directory / "lgmsnet" / "split-41.claim"
    assert claim.read_text() == "1/2"
    runs = train_study(STUDY, directory, (41, 64), part=Part(2, 2))
    assert [run.is_finished for run in runs] == [False, True, False, True]
    train_study(STUDY, directory, (41, 64), part=Part(1, 2))
    assert all(run.is_finished for run in runs)
    assert not claim.exists()
    for folder in ("lgmsnet", "u-net-narrow"):
        assert read_json(directory / folder, "summary.json")["seeds"] == [41, 64]
    # As if it had been trained alone, whatever was trained before it.
    alone = several.train(read_recipe(runs[3].directory), tmp_path / "alone")
    assert_same_run(runs[3].directory, alone)


def test_a_run_that_another_part_claimed_is_left_to_it(finished, tmp_path: Path, capsys) -> None:
    directory = tmp_path / "study"
    claim = directory / "lgmsnet" / "split-41.claim"
    train_study(STUDY, directory, part=Part(2, 2))
    claim.parent.mkdir()
    claim.write_text("1/3")
    runs = train_study(STUDY, directory, part=Part(1, 2))
    assert [run.is_finished for run in runs] == [False, True]
    assert "is left to part 1/3, which claimed it: start that part again where it ended, or " in (
        told := capsys.readouterr().err
    )
    assert f"delete {claim}." in told


def test_finished_runs_are_not_trained_again(finished, tmp_path: Path, monkeypatch) -> None:
    directory = tmp_path / "study"
    runs = train_study(STUDY, directory, (41, 64))
    with pytest.raises(FileExistsError, match=r"continue the study in it with --resume"):
        train_study(STUDY, directory, (41, 64))
    shutil.rmtree(runs[1].directory)
    trained = []
    monkeypatch.setattr(
        several, "train", lambda recipe, run, **options: (trained.append(run), finish(recipe, run))
    )
    train_study(STUDY, directory, (41, 64), resume=True)
    assert trained == [runs[1].directory]


def test_another_study_is_not_mixed_with_this_one(finished, tmp_path: Path) -> None:
    directory = tmp_path / "study"
    train_study(STUDY, directory, (41, 64))
    for study, seeds in (({"U-Net": OTHER}, (41, 64)), (STUDY, (41, 65))):
        with pytest.raises(ValueError, match=r"has a study of LGMSNet, U-Net, narrow on the spl"):
            train_study(study, directory, seeds, resume=True)
    changed_study = STUDY | {"LGMSNet": changed("training", epochs=3)}
    with pytest.raises(ValueError, match=r"began with; in .*, that of LGMSNet was another"):
        train_study(changed_study, directory, (41, 64), resume=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(FileExistsError, match=r"photos is in use"):
        train_study(STUDY, tmp_path / "photos", (41, 64), part=Part(1, 2))


def test_of_two_studies_that_begin_at_once_one_does(tmp_path: Path, monkeypatch) -> None:
    directory, unused = tmp_path / "study", study_directory.require_unused

    def let_another_begin(*args, **kwargs) -> None:
        unused(*args, **kwargs)
        monkeypatch.setattr(study_directory, "require_unused", unused)
        study_directory.begin_study(directory, {"Other": OTHER}, (41,))

    monkeypatch.setattr(study_directory, "require_unused", let_another_begin)
    with pytest.raises(ValueError, match=r"has a study of Other on the splits of \[41\]"):
        train_study(STUDY, directory)
    assert [run.label for run in study_runs(directory)] == ["Other"]


def test_many_parts_begin_and_summarise_at_once(finished, tmp_path: Path) -> None:
    runs = train_study(STUDY, tmp_path / "study", (41, 64))
    for number in range(10):
        start = threading.Barrier(8)

        def begin(number: int = number, start: threading.Barrier = start) -> None:
            start.wait()
            study_directory.begin_study(tmp_path / str(number), STUDY, (41, 64))
            several._summarise(runs[0].directory.parent, (41, 64))

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(begin) for _ in range(8)]:
                done.result()
    assert not list(tmp_path.rglob(".unfinished-*"))


def test_a_claim_ends_with_the_run_though_its_process_was_killed(finished, tmp_path: Path) -> None:
    (run, _) = train_study(STUDY, tmp_path / "study")
    run.claim.write_text("1/1")
    train_study(STUDY, tmp_path / "study", resume=True)
    assert not run.claim.exists()


def test_a_run_is_finished_once_its_report_is_there(tmp_path: Path, monkeypatch) -> None:
    study = {"LGMSNet": SHORT}
    with monkeypatch.context() as context:
        context.setattr(image_task, "render_image_report", stop)
        with pytest.raises(KeyboardInterrupt):
            train_study(study, tmp_path)
    (run,) = study_runs(tmp_path)
    assert not run.is_finished
    train_study(study, tmp_path, resume=True)
    assert run.is_finished
    assert (run.directory / "report.html").is_file()


def test_a_damaged_study_is_told(finished, tmp_path: Path) -> None:
    directory = tmp_path / "study"
    train_study(STUDY, directory)
    path = directory / "study.json"
    values = json.loads(path.read_text())
    for damaged, sentence in (
        (values | {"seeds": ["../../a"]}, "its seeds are no integers"),
        (values | {"seeds": 41}, "its seeds are no integers"),
        (values | {"recipes": ["LGMSNet"]}, "its recipes have no labels"),
        ({"seeds": [1]}, "it has no recipes"),
    ):
        path.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=sentence):
            study_runs(directory)
        with pytest.raises(ValueError, match=sentence):
            train_study(STUDY, directory, resume=True)


def test_seeds_and_splits_of_a_study(finished, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"each seed of a split once. Received: \(41, 41\)"):
        train_study(STUDY, tmp_path / "study", (41, 41))
    with pytest.raises(ValueError, match=r"data.split_seed must be from 0"):
        train_study(STUDY, tmp_path / "study", (41, 2**32))
    fixed = changed("data", validation_ids=["0"])
    with pytest.raises(ValueError, match=r"ids to choose from"):
        train_study({"a": fixed}, tmp_path / "study", (41, 64))
    assert not (tmp_path / "study").exists()

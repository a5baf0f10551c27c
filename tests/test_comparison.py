"""Comparison of runs: what is read, what is refused, and what the tables say, by hand."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from keras_lgmsnet.comparison import compare_runs, sizes as comparison_sizes
from keras_lgmsnet.comparison.changes import Change
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.models.complexity import Complexity
from keras_lgmsnet.scoring.significance import mean_interval
from tests.helpers.scored_runs import (
    IMAGES,
    changed,
    f1,
    with_model,
    write_image_run,
    write_study,
    write_volume_run,
)

pytestmark = pytest.mark.no_backend

OTHER = with_model(IMAGES, network="unet", filters=(8, 8))


def rows_of(comparison: Comparison, number: int = 0) -> list[list[str]]:
    """Return the cells of a table's rows as Markdown has them."""
    text = comparison.text().split("\n\n")[3 * number + 1]
    lines = [line.strip("|").split(" | ") for line in text.splitlines()]
    return [[cell.strip() for cell in line] for line in lines[:1] + lines[2:]]


def notes_of(comparison: Comparison, number: int = 0) -> str:
    return comparison.text().split("\n\n")[3 * number + 2]


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """Networks are not built; the list has the shape of each that would be."""
    built: list[str] = []

    def create(name, *, input_shape, num_classes, dtype, **arguments) -> object:
        built.append((name, input_shape, num_classes, arguments))
        return object()

    monkeypatch.setattr(comparison_sizes.registry, "create", create)
    monkeypatch.setattr(comparison_sizes, "count", lambda model: Complexity(2_321_393, 4892515328))
    return built


# === Scores ===


def test_a_mean_is_of_splits_and_not_of_pooled_images(counted, tmp_path: Path) -> None:
    for seed, ious in ((41, {"a": 0.2, "b": 0.4, "c": 0.6, "d": 0.8}), (64, {"e": 0.9})):
        write_image_run(tmp_path / "a" / f"split-{seed}", ious, seed=seed)
    comparison = compare_runs([tmp_path / "a"])
    header, row = rows_of(comparison)
    assert header == ["", "parameters", "multiply-adds", "IoU %", "F1 %"]
    # The mean of 0.5 and 0.9 is 0.7, that of all five images 0.58; the deviation 0.4 / √2.
    assert row[:4] == ["a", "2.32 M", "4.89 G", "**70.00 ± 28.28**"]
    notes = notes_of(comparison)
    assert "the mean is of splits, not of images pooled from all of them" in notes
    assert "1 to 4 validation images of busi after training on one split, averaged over 2" in notes
    assert "Of busi, networks saw images of 32 × 32." in notes
    assert notes.count("Beware.") == 1


def test_ranks_are_shared_by_what_prints_alike(counted, tmp_path: Path) -> None:
    for name, iou in (("a", 0.5), ("b", 0.700001), ("c", 0.7), ("d", 0.6)):
        write_image_run(tmp_path / name, {"x": iou})
    comparison = compare_runs([tmp_path / name for name in "abcd"])
    assert [row[3] for row in rows_of(comparison)[1:]] == [
        "50.00",
        "**70.00**",
        "**70.00**",
        "<u>60.00</u>",
    ]
    assert "of one split" not in rows_of(comparison)[1]
    assert "which tells nothing of how scores vary" in notes_of(comparison)
    latex = comparison.text("latex")
    assert r"d & 2.32 M & 4.89 G & \underline{60.00} & \underline{75.00} \\" in latex
    assert latex.count(r"\textbf{70.00}") == 2
    with pytest.raises(ValueError, match=r"Styles are markdown, latex. Received: style='html'"):
        comparison.text("html")


def test_scores_of_some_splits_only_have_no_rank(counted, tmp_path: Path) -> None:
    """Also where each label has as many, but others."""
    write_image_run(tmp_path / "a" / "split-41", {"x": 0.5})
    write_image_run(tmp_path / "b" / "split-64", {"y": 0.6}, seed=64)
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"], reference="a")
    assert [row[3] for row in rows_of(comparison)[1:]] == ["50.00 (1 of 2)", "60.00 (1 of 2)"]
    assert "its number" not in notes_of(comparison)
    assert "Where a score is of some of the splits only" in notes_of(comparison)
    assert "b and a have no split of busi in common, so they are not compared." in notes_of(
        comparison
    )
    assert len(list(comparison.tables())) == 1


def test_a_study_has_its_labels_and_tells_what_is_missing(counted, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {"U-Net": IMAGES, "U-Net | *wide*": OTHER}, (41, 64))
    for seed in (41, 64):
        write_image_run(study / "u-net" / f"split-{seed}", {f"{seed}": 0.5}, seed=seed)
    wide = study / "u-net-wide" / "split-41"
    write_image_run(wide, {"41": 0.6}, OTHER)
    comparison = compare_runs([study])
    assert [each.label for each in comparison.contestants] == ["U-Net", "U-Net | *wide*"]
    assert comparison.notes == ["Left out, since not begun: U-Net | *wide* (split-64)."]
    assert r"| U-Net \| \*wide\* |" in comparison.text()
    (wide / "metrics.json").unlink()
    (study / "u-net" / "split-64" / "metrics.json").unlink()
    comparison = compare_runs([study])
    assert [each.label for each in comparison.contestants] == ["U-Net"]
    assert comparison.notes[1] == (
        "Left out, since not finished: U-Net | *wide* (split-41), U-Net (split-64)."
    )
    (study / "u-net" / "split-41" / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"none is finished.* Received: .*study"):
        compare_runs([study])


def test_studies_on_several_datasets_have_columns_of_their_own(counted, tmp_path: Path) -> None:
    recipes = {"a": IMAGES, "b": OTHER}
    for dataset in ("busi", "isic"):
        study = write_study(tmp_path / dataset, recipes, (41,))
        for label, recipe in recipes.items():
            if (dataset, label) != ("isic", "b"):
                run = study / label / "split-41"
                write_image_run(run, {"x": 0.5}, recipe, dataset=f"{dataset}/1.0.0")
    comparison = compare_runs([tmp_path / "busi", tmp_path / "isic"], reference="b")
    header, *rows = rows_of(comparison)
    assert header[3:] == ["busi, IoU %", "busi, F1 %", "isic, IoU %", "isic, F1 %"]
    assert rows[1][3:] == ["**50.00**", "**66.67**", "–", "–"]
    assert {found["dataset"] for found in comparison.differences} == {"busi/1.0.0"}
    assert "a and b have no split of isic in common" in notes_of(comparison)


def test_networks_that_saw_other_sides_are_told(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    write_image_run(tmp_path / "b", {"x": 0.5})
    write_image_run(tmp_path / "c", {"x": 0.5}, changed(IMAGES, "data", image_size=(64, 32)))
    comparison = compare_runs([tmp_path / name for name in "abc"])
    assert "Of busi, networks saw images of 32 × 32, c 64 × 32." in notes_of(comparison)


def test_folders_of_one_name_are_told_apart(counted, tmp_path: Path) -> None:
    paths = [tmp_path / part for part in ("1/a/run", "2/a/run", "2/b/run", "other")]
    for path in paths:
        write_image_run(path, {"x": 0.5})
    labels = [each.label for each in compare_runs(paths).contestants]
    assert labels == ["1/a/run", "2/a/run", "b/run", "other"]
    with pytest.raises(ValueError, match=r"Name each folder once. Received: .*other twice"):
        compare_runs([*paths, tmp_path / "2" / ".." / "other"])


def test_every_score_of_every_run_is_in_the_csv(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a" / "split-41", {"x": 0.5, "y": 0.7})
    write_image_run(tmp_path / "a" / "split-64", {"x": 0.5}, seed=64)
    rows = list(csv.DictReader(io.StringIO(compare_runs([tmp_path / "a"]).csv())))
    assert [(row["split_seed"], row["score"], row["value"], row["cases"]) for row in rows] == [
        ("41", "IoU", "0.6", "2"),
        ("41", "F1", str((f1(0.5) + f1(0.7)) / 2), "2"),
        ("64", "IoU", "0.5", "1"),
        ("64", "F1", str(f1(0.5)), "1"),
    ]
    assert rows[0]["run"] == str(tmp_path / "a" / "split-41")
    assert (rows[0]["network"], rows[0]["fold"], rows[0]["images_per_second"]) == ("a", "", "")


# === Volumes ===

LIVER_AND_TUMOUR = {
    "one": {"liver": 0.9, "tumour": None, "none": None},
    "two": {"liver": 0.8, "tumour": 0.4, "none": None},
    "three": {"liver": 0.7, "tumour": 0.6, "none": None},
}


def test_volumes_have_a_column_for_each_region(counted, tmp_path: Path) -> None:
    """A region that no volume has has no score, and a false alarm costs the one that gave it."""
    write_volume_run(tmp_path / "a", LIVER_AND_TUMOUR)
    alarmed = {**LIVER_AND_TUMOUR, "one": {"liver": 0.9, "tumour": 0.0, "none": None}}
    write_volume_run(tmp_path / "b", alarmed)
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"], reference="a")
    header, row, other = rows_of(comparison)
    assert header[3:] == ["liver %", "tumour %", "none %", "mean Dice %"]
    assert row[3:] == ["**80.00**", "**50.00**", "–", "**65.00**"]
    assert other[3:] == ["**80.00**", "<u>33.33</u>", "–", "<u>56.67</u>"]
    assert counted == [("unet", (32, 32, 32, 1), 4, {"filters": (4, 4)})]
    found = {each["score"]: each for each in comparison.differences}
    assert list(found) == ["liver", "tumour", "mean Dice"]
    assert found["tumour"]["cases"] == 3
    assert found["tumour"]["difference"] == pytest.approx(-1 / 3)
    # By volume: one is 0.45 instead of 0.9, the others are alike.
    assert found["mean Dice"]["difference"] == pytest.approx(-0.45 / 3)
    assert "counts as a Dice of 1 for the other" in notes_of(comparison, 1)
    assert "Of btcv, networks saw patches of volumes of 32 × 32 × 32." in notes_of(comparison)


def test_other_regions_are_refused(counted, tmp_path: Path) -> None:
    write_volume_run(tmp_path / "a", {"one": {"liver": 0.9}})
    write_volume_run(tmp_path / "b", {"one": {"spleen": 0.9}})
    with pytest.raises(ValueError, match=r"compared on the same regions. Received: .*a and .*b"):
        compare_runs([tmp_path / "a", tmp_path / "b"])


# === Differences ===


def scores(seed: int, ids: str) -> dict[str, float]:
    drawn = np.random.default_rng(seed).random(len(ids)).round(3)
    return dict(zip(ids, drawn.tolist(), strict=True))


def test_differences_are_those_of_scipy(counted, tmp_path: Path) -> None:
    ours, theirs = scores(0, "abcdefghijkl"), scores(1, "abcdefghijkl")
    groups = dict(zip(ours, "112233445566", strict=True))
    write_image_run(tmp_path / "ours", ours, groups=groups)
    write_image_run(tmp_path / "theirs", theirs, groups=groups)
    comparison = compare_runs([tmp_path / "ours", tmp_path / "theirs"], reference="ours")
    found = comparison.differences[0]
    x, y = np.array(list(theirs.values())), np.array(list(ours.values()))
    assert (found["network"], found["score"], found["cases"]) == ("theirs", "IoU", 12)
    assert found["mean"] == pytest.approx(x.mean())
    assert found["reference"] == pytest.approx(y.mean())
    assert found["difference"] == pytest.approx((x - y).mean())
    assert found["relative"] == pytest.approx(x.mean() / y.mean() - 1)
    assert found["wilcoxon_p"] == stats.wilcoxon(x - y).pvalue
    assert found["interval"] == mean_interval(x - y, list(groups.values()))
    assert found["groups"] == 6
    assert "cases are drawn with all their images" in notes_of(comparison, 1)


def test_a_case_is_its_mean_over_the_splits_that_both_were_scored_on(
    counted, tmp_path: Path
) -> None:
    ours = {41: {"a": 0.2, "b": 0.4}, 64: {"b": 0.8, "c": 0.5}, 7: {"a": 1.0}}
    theirs = {41: {"a": 0.3, "b": 0.6}, 64: {"b": 0.8, "c": 0.9}, 8: {"c": 0.0}}
    for name, of_split in (("ours", ours), ("theirs", theirs)):
        for seed, ious in of_split.items():
            write_image_run(tmp_path / name / f"split-{seed}", ious, seed=seed)
    comparison = compare_runs([tmp_path / "ours", tmp_path / "theirs"], reference="ours")
    found = comparison.differences[0]
    assert found["cases"] == 3
    assert found["mean"] == pytest.approx(np.mean([0.3, 0.7, 0.9]))
    assert found["reference"] == pytest.approx(np.mean([0.2, 0.6, 0.5]))
    assert "its mean over the splits that both networks were trained on" in notes_of(comparison, 1)


def test_equal_runs_and_two_images(counted, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image_run(tmp_path / name, {"x": 0.5, "y": 0.0})
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"], reference="a")
    (_, iou, _) = rows_of(comparison, 1)
    assert iou == [
        *("b", "busi", "IoU", "2", "25.00", "25.00", "+0.00 [0.00, 0.00]", "+0.00 %"),
        *("1.000", "1.000"),
    ]
    write_image_run(tmp_path / "zero", {"x": 0.0, "y": 0.0})
    comparison = compare_runs([tmp_path / "a", tmp_path / "zero"], reference="zero")
    assert rows_of(comparison, 1)[1][7] == "–"  # no share of nothing


def test_stars_are_not_corrected_but_a_column_is(counted, tmp_path: Path) -> None:
    ids = "abcdefghijklmnop"
    base = dict.fromkeys(ids, 0.5)
    write_image_run(tmp_path / "base", base)
    write_image_run(tmp_path / "same", base)
    better = {id_: 0.5 + (index - 2) / 100 for index, id_ in enumerate(ids)}
    write_image_run(tmp_path / "better", better)
    comparison = compare_runs([tmp_path / n for n in ("base", "same", "better")], reference="base")
    p = stats.wilcoxon(np.array([better[id_] - 0.5 for id_ in ids])).pvalue
    found = {(each["network"], each["score"]): each for each in comparison.differences}
    assert found["better", "IoU"]["wilcoxon_p"] == pytest.approx(p)
    assert p < 0.01
    # The smallest of four, or as small as another.
    assert 3 * p <= found["better", "IoU"]["holm_p"] <= 4.001 * p
    assert rows_of(comparison)[3][3] == "**55.50** **"
    assert r"\textbf{55.50}$^{**}$" in comparison.text("latex")
    assert rows_of(comparison, 1)[3][6].endswith("] **")
    assert "the stars are not corrected for the number of tests" in notes_of(comparison, 1)


def test_an_unknown_reference_is_refused(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    with pytest.raises(ValueError, match=r"The reference is one of a. Received: reference='b'"):
        compare_runs([tmp_path / "a"], reference="b")


# === Changes ===


def test_networks_that_differ_in_one_argument(counted, tmp_path: Path) -> None:
    recipes = {
        "plain": with_model(IMAGES, network="unet", filters=(4, 4)),
        "gms": with_model(IMAGES, network="unet", filters=(4, 4), block="gms"),
        "wide gms": with_model(IMAGES, network="unet", filters=(8, 8), block="gms"),
        "lms": with_model(IMAGES, network="unet", filters=(4, 4), block="lms"),
        "cmunext": with_model(IMAGES, network="cmunext"),
        "shorter": changed(
            with_model(IMAGES, network="unet", filters=(4, 2)), "training", epochs=2
        ),
    }
    study = write_study(tmp_path / "study", recipes, (41, 64))
    for number, (label, recipe) in enumerate(recipes.items()):
        for seed in (41, 64)[: 2 if label != "gms" else 1]:
            run = study / label.replace(" ", "-") / f"split-{seed}"
            write_image_run(run, {f"{seed}": (4 + number + seed % 2) / 10}, recipe, seed=seed)
    comparison = compare_runs([study])
    assert comparison.changes == [
        Change("gms", "plain", "block", "gms", None),
        Change("wide gms", "gms", "filters", (8, 8), (4, 4)),
        Change("lms", "plain", "block", "lms", None),
    ]
    _, *rows = rows_of(comparison, 1)
    assert [row[:6] for row in rows] == [
        ["plain", "unet", "block", "none", "45.00 ± 7.07", ""],
        ["gms", "unet", "block", "gms", "60.00", "+10.00"],  # of the split that both have
        ["lms", "unet", "block", "lms", "75.00 ± 7.07", "+30.00"],
        ["gms", "unet", "filters", "4, 4", "60.00", ""],
        ["wide gms", "unet", "filters", "8, 8", "65.00 ± 7.07", "+10.00"],
    ]
    assert [row[6] for row in rows] == ["", "+20.00 %", "+66.67 %", "", "+16.67 %"]


def test_an_argument_that_is_the_default_is_no_change(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    same = with_model(IMAGES, network="unet", filters=(4, 4), block=None)
    write_image_run(tmp_path / "b", {"x": 0.5}, same)
    assert compare_runs([tmp_path / "a", tmp_path / "b"]).changes == []


# === Sizes and speeds ===


def test_networks_are_counted_once_each_at_their_sides(tmp_path: Path, monkeypatch) -> None:
    built = []
    create = comparison_sizes.registry.create
    monkeypatch.setattr(
        comparison_sizes.registry,
        "create",
        lambda name, **options: (built.append(options["input_shape"]), create(name, **options))[1],
    )
    for name in "abc":
        write_image_run(tmp_path / name, {"x": 0.5})
    larger = changed(IMAGES, "data", image_size=(64, 32))
    write_image_run(tmp_path / "larger", {"x": 0.5}, larger)
    sizes = compare_runs([tmp_path / name for name in ("a", "b", "c", "larger")]).sizes
    assert built == [(32, 32, 3), (64, 32, 3)]
    assert sizes["a"] == sizes["b"] == sizes["c"]
    assert sizes["larger"] == (sizes["a"][0], 2 * sizes["a"][1])
    # Two levels of two convolutions each and an upsampling between; by another count than ours.
    assert sizes["a"][0] > 0


def test_a_file_of_weights_to_start_with_need_not_be_there(counted, tmp_path: Path) -> None:
    recipe = with_model(IMAGES, network="unet_plus_plus", encoder_weights="gone.pth")
    write_image_run(tmp_path / "a", {"x": 0.5}, recipe)
    compare_runs([tmp_path / "a"])
    assert counted == [("unet_plus_plus", (32, 32, 3), 1, {})]


HEADER = "network,backend,device,input_shape,parameters,forward_images_per_second\n"


def test_speeds_are_those_of_the_same_network_and_parameters(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    write_image_run(tmp_path / "b", {"x": 0.5}, with_model(IMAGES, network="cmunext"))
    path = tmp_path / "networks.csv"
    path.write_text(
        f"{HEADER}unet,torch,CPU,256 256 3,2321393,12.345\nunet,torch,CPU,256 256 3,1,99\n"
        "cmunext,torch,CPU,256 256 3,3,7\nunext,torch,,256 256 3,,\n"
    )
    comparison = compare_runs([tmp_path / "a", tmp_path / "b"], speeds=path)
    assert comparison.speeds == {"a": 12.345}
    header, row, other = rows_of(comparison)
    assert (header[3], row[3], other[3]) == ("images a second", "12.3", "–")
    notes = notes_of(comparison)
    assert "forward passes of one image of 256 × 256 × 3 with torch on CPU." in notes
    assert "networks.csv has no network of the same name and parameters as that of b." in notes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", r"what `lgms-benchmark --networks NAMES -o FILE.csv` writes; line 2 has no"),
        (f"{HEADER}unet,jax,CPU,32 32 3,many,1\n", r"line 2: a number is none"),
        (
            f"{HEADER}unet,jax,CPU,32 32 3,5,1\nunet,torch,CPU,32 32 3,5,1\n",
            r"unet with 5 parameters more than once: .* Received: jax and torch",
        ),
    ],
)
def test_other_files_of_speeds_are_refused(text, sentence, counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    path = tmp_path / "networks.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        compare_runs([tmp_path / "a"], speeds=path)


# === What cannot be compared ===


def test_what_cannot_be_compared_is_named(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    write_volume_run(tmp_path / "volumes", LIVER_AND_TUMOUR)
    write_image_run(tmp_path / "copy", {"x": 0.5}, dataset="busi/lesions/2.0.0")
    write_image_run(tmp_path / "test", {"x": 0.5}, subset="test")
    write_image_run(tmp_path / "images", {"y": 0.5})
    for name, sentence in (
        ("volumes", "images or on volumes, not on both"),
        ("copy", "the same copy of a dataset"),
        ("test", "the same part of a dataset"),
        ("images", "the same images of a split"),
    ):
        with pytest.raises(ValueError, match=rf"{sentence}. Received: .*a and .*{name}"):
            compare_runs([tmp_path / "a", tmp_path / name])
    study = write_study(tmp_path / "study", {"U": IMAGES}, (41,))
    write_image_run(study / "u" / "split-41", {"x": 0.5})
    shutil.copytree(study, tmp_path / "twin")
    with pytest.raises(ValueError, match=r"U has two runs on the same split of busi: name one"):
        compare_runs([study, tmp_path / "twin"])
    write_image_run(tmp_path / "splits" / "split-41", {"x": 0.5})
    write_image_run(tmp_path / "splits" / "split-64", {"x": 0.5}, OTHER, seed=64)
    with pytest.raises(ValueError, match=r"called splits must be of one network and its arguments"):
        compare_runs([tmp_path / "splits"])


def test_foreign_and_damaged_folders_are_told_in_a_sentence(counted, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photos", "nowhere"):
        with pytest.raises(FileNotFoundError, match=rf"{name} holds no run: neither recipe.json"):
            compare_runs([tmp_path / name])
    run, other = (write_image_run(tmp_path / name, {"x": 0.5}) for name in "ab")
    whole = {path.name: path.read_text() for path in run.iterdir()}
    means = json.loads(whole["metrics.json"])
    for name, text, sentence in (
        ("recipe.json", "{", "recipe.json is damaged"),
        ("metrics.json", json.dumps({**means, "means": {"iou": 1}}), "of its scores 'f1' is miss"),
        (
            "metrics.json",
            json.dumps({**means, "means": {"iou": None, "f1": 1}}),
            "its IoU is no number. Received: None",
        ),
        ("splits.json", "{}", "splits.json is damaged: it has no validation"),
        ("per_image.csv", "id,iou,f1\ny,1,1\n", "must have the 1 images that .*a was scored on"),
        ("per_image.csv", "id,iou\nx,1\n", "it has no column f1"),
        ("per_image.csv", "id,iou,f1\nx,1,high\n", "a score is not a number"),
    ):
        (run / name).write_text(text)
        with pytest.raises(ValueError, match=sentence):
            compare_runs([run, other], reference="b")
        (run / name).write_text(whole[name])
    (run / "per_image.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"per_image.csv"):
        compare_runs([run, other], reference="b")
    with pytest.raises(ValueError, match=r"another dataset, --dataset .*manual_dir"):
        compare_runs([run], manual_dir=tmp_path)
    with pytest.raises(ValueError, match=r"Pictures are drawn into a folder: name it by -o"):
        compare_runs([run], images=["x"])


def test_what_is_written_and_where(counted, tmp_path: Path) -> None:
    run = write_image_run(tmp_path / "a", {"x": 0.5})
    output = tmp_path / "deep" / "out"
    comparison = compare_runs([run], output)
    chart = "score_by_parameters"
    assert {path.name for path in output.iterdir()} == {
        *(f"comparison.{suffix}" for suffix in ("html", "md", "tex", "csv")),
        *(f"{chart}.{suffix}" for suffix in ("png", "pdf", "csv")),
    }
    for suffix, text in (
        ("md", comparison.text() + "\n"),
        ("tex", comparison.text("latex") + "\n"),
        ("csv", comparison.csv().replace("\r\n", "\n")),
    ):
        assert (output / f"comparison.{suffix}").read_text() == text
    page = (output / "comparison.html").read_text()
    assert "1 networks on busi" not in page
    assert "Not a medical device" in page
    with pytest.raises(FileExistsError, match=r"out is in use"):
        compare_runs([run], output)
    with pytest.raises(ValueError, match=r"The reference is one of a"):
        compare_runs([run], tmp_path / "none", reference="b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "deep"]


def test_a_hundred_runs_are_built_once(counted, tmp_path: Path) -> None:
    ious = scores(2, "abcdefghij")
    first = write_image_run(tmp_path / "0", ious)
    for number in range(1, 100):
        shutil.copytree(first, tmp_path / str(number))
    comparison = compare_runs([tmp_path / str(number) for number in range(100)], reference="0")
    assert len(counted) == 1
    assert len(comparison.differences) == 198


# === A dataset that none was trained on ===


def test_an_unseen_dataset_takes_the_place_of_what_was_held_out(
    counted, tmp_path: Path, monkeypatch
) -> None:
    from keras_lgmsnet.data import sources
    from tests import test_evaluation

    examples = test_evaluation.make_examples(
        (test_evaluation.filled(8), test_evaluation.filled(8)),
        (test_evaluation.filled(8), test_evaluation.filled(4)),
        (test_evaluation.filled(0), test_evaluation.filled(2, 2)),
    )
    monkeypatch.setattr(sources, "load_examples", lambda *arguments, **options: examples)
    means = {"subset": "validation", "means": {"iou": 0.5, "f1": 0.5}}
    for name, brightest in (("dark", 10.0), ("right", 0.0)):
        recipe = changed(test_evaluation.RECIPE, "data", split_seed=41)
        run = test_evaluation.write_run(tmp_path / name, recipe, brightest)
        (run / "metrics.json").write_text(json.dumps(means))
    paths = [tmp_path / "dark", tmp_path / "right"]
    comparison = compare_runs(paths, reference="right", dataset="unseen")
    assert comparison.unseen == "unseen"
    assert comparison.text().startswith(
        "Scores of networks on unseen, which none of them was trained on.\n"
    )
    # Right in all pixels that are bright: 1, ½ and a false alarm; nothing found: 0, 0 and 1.
    assert [row[3] for row in rows_of(comparison)[1:]] == ["<u>33.33</u>", "**50.00**"]
    assert "Scores are means over the 3 images of unseen, after" in notes_of(comparison)
    assert comparison.differences[0]["cases"] == 3
    kept = tmp_path / "dark" / "evaluation-unseen" / "evaluation.json"
    assert json.loads(kept.read_text())["subset"] == "all"

    from keras_lgmsnet.evaluation.images import ImageScoring

    scored = []
    score = ImageScoring.score
    monkeypatch.setattr(
        ImageScoring,
        "score",
        lambda self, run, *others: (scored.append(run.directory), score(self, run, *others))[1],
    )
    again = compare_runs(paths, reference="right", dataset="unseen")
    assert (scored, again.csv()) == ([], comparison.csv())
    shutil.copy(tmp_path / "right" / "model.keras", tmp_path / "dark" / "model.keras")
    again = compare_runs(paths, dataset="unseen")  # which is another network now
    assert scored == [tmp_path / "dark"]
    assert [row[3] for row in rows_of(again)[1:]] == ["**50.00**", "**50.00**"]


def test_runs_on_several_datasets_are_not_scored_on_another(counted, tmp_path: Path) -> None:
    write_image_run(tmp_path / "a", {"x": 0.5})
    write_image_run(tmp_path / "b", {"x": 0.5}, dataset="isic/1.0.0")
    with pytest.raises(ValueError, match=r"on bus must have been trained on one dataset. .*, isic"):
        compare_runs([tmp_path / "a", tmp_path / "b"], dataset="bus")

"""Pictures of comparisons: the right cases of the right split, by every network."""

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_lgmsnet.comparison import pictures
from keras_lgmsnet.comparison.contestants import Contestant, ScoredRun
from keras_lgmsnet.comparison.pictures import draw_pictures
from keras_lgmsnet.comparison.slices import slices_figure
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.data import synthetic
from keras_lgmsnet.data.volumes import VolumeExample
from keras_lgmsnet.evaluation.volumes import VolumeScoring
from keras_lgmsnet.files.writing import write_csv, write_json
from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, Training
from keras_lgmsnet.run import VolumeRun
from tests.helpers.comparisons import VOLUME_RECIPE, comparison, scored_run

pytestmark = [pytest.mark.untraced, pytest.mark.no_backend]

IDS = synthetic.generate(6, (32, 32)).ids


def write_run(directory: Path, size: tuple[int, int], ious: dict[str, float]) -> ScoredRun:
    """A run of a narrow U-Net that was never trained."""
    directory.mkdir(parents=True)
    recipe = Recipe(
        data=Data(source="synthetic", num_images=6, image_size=size),
        model=Model(network="unet", num_classes=1, filters=(4, 6)),
        training=Training(batch_size=2),
    )
    keras.utils.set_random_seed(0)
    registry.create("unet", input_shape=(*size, 3), num_classes=1, filters=(4, 6)).save(
        directory / "model.keras"
    )
    begun = {"dataset": "synthetic/0", "backend": "any", "versions": {}}
    write_json(directory / "recipe.json", {"recipe": recipe.to_dict(), **begun})
    train = [id_ for id_ in IDS if id_ not in ious]
    write_json(directory / "splits.json", {"train": train, "validation": list(ious)})
    rows = [{"id": id_, "iou": iou, "f1": iou} for id_, iou in ious.items()]
    write_csv(directory / "per_image.csv", rows)
    run = scored_run(0.5, recipe=recipe, dataset="synthetic/0", ids=list(ious))
    return dataclasses.replace(run, directory=directory, table=directory / "per_image.csv")


def compare(**runs: ScoredRun) -> Comparison:
    found = comparison({label: [0.5] for label in runs})
    contestants = [Contestant(label, (run,)) for label, run in runs.items()]
    return dataclasses.replace(found, contestants=contestants)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Comparison:
    """Two networks that see images of different sizes."""
    folder = tmp_path_factory.mktemp("runs")
    return compare(
        coarse=write_run(folder / "coarse", (32, 32), {IDS[1]: 0.9, IDS[3]: 0.2, IDS[4]: 0.5}),
        fine=write_run(folder / "fine", (64, 64), {IDS[1]: 0.1, IDS[3]: 0.4, IDS[4]: 0.7}),
    )


def test_pictures_of_networks_that_see_other_sizes(found: Comparison) -> None:
    drawn = draw_pictures(found)
    assert list(drawn) == ["panels", "redundancy", "spectra"]
    _, caption, rows = drawn["panels"]
    # By the mean of both: 0.6, 0.5 and 0.3.
    assert [(row["id"], row["rule"]) for row in rows] == [
        (IDS[4], "best"),
        (IDS[1], "median"),
        (IDS[3], "worst"),
    ]
    assert set(rows[0]) == {"id", "rule", "iou coarse", "iou fine"}
    assert "are by the IoU, averaged over all networks shown" in caption
    assert "coarse: 32 × 32 pixels, fine: 64 × 64 pixels" in caption
    assert caption.endswith("Networks of one split, seed 41.")
    panels = [axes for axes in drawn["panels"].figure.axes if axes.get_images()]
    assert len(panels) == 3 * 4
    # All pictures are of the finer images.
    assert {axes.get_images()[0].get_array().shape for axes in panels} == {(512, 512, 3)}
    assert {row["run"] for row in drawn["redundancy"].rows} == {"coarse", "fine"}
    assert "3 of the 3 validation images" in drawn["spectra"].caption


def test_images_that_are_asked_for(found: Comparison) -> None:
    drawn = draw_pictures(found, images=[IDS[3]])
    assert [(row["id"], row["rule"]) for row in drawn["panels"].rows] == [(IDS[3], "")]
    assert "Best, median" not in drawn["panels"].caption
    with pytest.raises(ValueError, match=r"3 that were held out .* Received: 'synthetic_00000'"):
        draw_pictures(found, images=[IDS[3], IDS[0]])


def test_the_split_shown_is_the_first_that_most_have() -> None:
    runs = {
        "one": [scored_run(0.5, seed) for seed in (1, 2, 3)],
        "two": [scored_run(0.5, seed) for seed in (2, 3)],
    }
    found = comparison({"one": [0.5], "two": [0.5]})
    contestants = [Contestant(label, tuple(each)) for label, each in runs.items()]
    found = dataclasses.replace(found, contestants=contestants)
    chosen = pictures._choose_split(found, "busi/1.0.0")
    assert [run.split[0] for run in chosen.values()] == [2, 2]
    assert pictures._tell_split(found, "busi/1.0.0", chosen).endswith("seed 2.")
    del chosen["two"]
    assert "not trained on it: two." in pictures._tell_split(found, "busi/1.0.0", chosen)


class Volumes:
    """Two volumes with a liver in other slices."""

    def __init__(self) -> None:
        self.labels = {0: "background", 1: "$liver$"}

    def read(self, id_: str) -> VolumeExample:
        image = np.random.default_rng(0).normal(size=(16, 12, 8, 1)).astype("float32")
        mask = np.zeros((16, 12, 8), "uint8")
        place = 2 if id_ == "a" else 5
        mask[4:12, 4:8, place] = 1
        mask[4:6, 4:8, place + 1] = 1
        return VolumeExample(id_, image, mask, Grid(mask.shape, np.eye(4)))


def test_slices_are_where_the_truth_is_largest() -> None:
    volumes = Volumes()
    empty = np.zeros((16, 12, 8), "uint8")
    right = {id_: volumes.read(id_).segmentation_mask for id_ in ("a", "b")}
    figure, caption, rows = slices_figure(
        volumes,
        None,
        {"a": "best", "b": ""},
        {"right": right, "none": {"a": empty, "b": empty}},
        {"right": {"a": 1.0, "b": 1.0}, "none": {"a": 0.0}},
        "btcv. Chosen so.",
    )
    assert [row["slice"] for row in rows] == [3, 6]
    assert rows[1] == {"id": "b", "rule": "", "slice": 6, "dice right": 1.0, "dice none": None}
    assert caption.endswith("Volumes of btcv. Chosen so.")
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_images()]
    bare, truth, outlined, missed = (axes.get_images()[0].get_array() for axes in panels[:4])
    assert not np.array_equal(bare, truth)
    assert not np.array_equal(truth, outlined)
    np.testing.assert_array_equal(truth, missed)
    assert [axes.get_xlabel() for axes in panels[2:4]] == ["Dice 1.000", "Dice 0.000"]
    assert panels[7].get_xlabel() == "no Dice"
    assert panels[0].get_ylabel() == "best\na"


def test_volumes_are_segmented_by_every_network(tmp_path: Path, monkeypatch) -> None:
    dice = {"right": {"a": 1.0, "b": 1.0}, "none": {"a": 0.1, "b": 0.0}}
    runs = {}
    for label, scores in dice.items():
        table = tmp_path / f"{label}.csv"
        write_csv(table, [{"id": i, "region": "liver", "dice": x} for i, x in scores.items()])
        run = scored_run(0.5, recipe=VOLUME_RECIPE, dataset="btcv/1.0.0", ids=["a", "b"])
        runs[label] = dataclasses.replace(run, directory=Path(label), table=table)

    @contextlib.contextmanager
    def load(scored: ScoredRun):
        run = VolumeRun(scored.directory, scored.recipe, "", [], "validation", ["a", "b"], None)
        run.__dict__["fingerprint"] = SimpleNamespace(intensity_windows=((-1, 1),))
        yield run

    def segment(run: VolumeRun, example: VolumeExample) -> np.ndarray:
        mask = example.segmentation_mask
        return mask if run.directory == Path("right") else np.zeros_like(mask)

    monkeypatch.setattr(pictures, "_loaded", load)
    monkeypatch.setattr(pictures, "_segment", segment)
    monkeypatch.setattr(VolumeScoring, "read", lambda *_: (Volumes(), ["a", "b"]))
    drawn = draw_pictures(compare(**runs))
    assert list(drawn) == ["slices"]
    _, caption, rows = drawn["slices"]
    assert [(row["id"], row["rule"]) for row in rows] == [("a", "best, median"), ("b", "worst")]
    assert rows[0]["dice right"] == 1
    assert rows[0]["dice none"] == 0.1
    assert "are by the mean Dice, averaged over all networks shown" in caption
    assert "seed 41" in caption

"""The paper's figures: the numbers behind, the pictures, and the command's folder."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import keras
import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.figure import Figure

from keras_lgmsnet.data import sources, synthetic
from keras_lgmsnet.data.images import Examples, preprocess
from keras_lgmsnet.drawing.outlines import PREDICTION_COLOR, TRUTH_COLOR
from keras_lgmsnet.figures import captioned
from keras_lgmsnet.figures.features import choose_stages, merge_stages, stage_features
from keras_lgmsnet.figures.foreground import (
    draw_foreground_ratios,
    foreground_density,
    foreground_ratios,
)
from keras_lgmsnet.figures.panels import draw_panels
from keras_lgmsnet.figures.paper import choose_extremes, draw_figures, evenly_spread
from keras_lgmsnet.figures.redundancy import channel_redundancy
from keras_lgmsnet.figures.spectra import draw_redundancy, draw_spectra
from keras_lgmsnet.figures.stage_maps import activation_map, draw_stage_maps
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, Training
from keras_lgmsnet.run import Run
from keras_lgmsnet.run_directory import read_json

# It is about what is drawn of networks; that they are the same when traced, `test_networks` tries.
pytestmark = pytest.mark.untraced

SIZE = (32, 32)
IDS = synthetic.generate(6, SIZE).ids
HELD_OUT = [IDS[4], IDS[1], IDS[3]]
STAGES = ("encoder1", "encoder5", "decoder2")
NAMES = ["foreground_ratio", "redundancy", "spectra", "stages", "panels"]
TABLES = ["foreground_ratio", "panels", "redundancy", "spectra"]


def write_run(run: Path, seed: int = 0, model: Model | None = None, **arguments) -> Path:
    """A run of a network, by default a narrow LGMSNet, that was never trained."""
    run.mkdir(parents=True)
    if model is None:
        # JAX compiles the transformer for half a minute.
        narrow = {"dims": (4,) * 5, "kernel_sizes": (3, 5), "transformer_ratio": 0}
        model = Model(arguments=narrow | arguments)
    recipe = Recipe(
        data=Data(source="synthetic", num_images=6, image_size=SIZE),
        model=model,
        training=Training(batch_size=2),
    )
    keras.utils.set_random_seed(seed)
    network = registry.create(
        model.network, input_shape=(*SIZE, 3), num_classes=1, **model.arguments
    )
    network.save(run / "model.keras")
    begun = {"dataset": "synthetic/0", "backend": "any", "versions": {}}
    write_json(run / "recipe.json", {"recipe": recipe.to_dict(), **begun})
    train_ids = [id_ for id_ in IDS if id_ not in HELD_OUT]
    write_json(run / "splits.json", {"train": train_ids, "validation": HELD_OUT})
    write_json(run / "metrics.json", {})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels_of(figure: Figure, dpi: int = 100) -> np.ndarray:
    """The figure as RGB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    encoded = np.frombuffer(buffer.getvalue(), "uint8")
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    written = figure.findobj(matplotlib.text.Text)
    return [text.get_text() for text in written if text.get_text() and text.get_visible()]


def count_near(pixels: np.ndarray, color: str) -> int:
    distance = np.abs(pixels.astype(int) - list(bytes.fromhex(color[1:]))).max(axis=-1)
    return int((distance < 40).sum())


# Foreground ratio


@pytest.mark.no_backend
def test_foreground_ratios_by_hand() -> None:
    masks = np.zeros((4, 4, 8, 2), "uint8")
    masks[1, :2, :, 0] = 1  # half
    masks[2, 0, 0] = 1  # both classes in one pixel: 1 of 32
    masks[3, 0, :, 0] = 1
    masks[3, 3, :, 1] = 1  # each class a quarter
    np.testing.assert_array_equal(foreground_ratios(masks), [0, 0.5, 1 / 32, 0.5])


@pytest.mark.no_backend
@settings(deadline=None)
@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=30))
def test_density_has_area_one_whatever_the_ratios(values) -> None:
    grid = np.exp(np.linspace(-30, 0, 3001))
    density = foreground_density(np.array(values), grid)
    assert np.isfinite(density).all()
    assert (density >= 0).all()
    assert np.trapezoid(density * grid, np.log(grid)) == pytest.approx(1, abs=0.01)


@pytest.mark.no_backend
def test_density_lies_where_the_ratios_are() -> None:
    grid = np.linspace(0, 1, 1001)[1:]
    # One alone: a Gaussian of the least width, 0.1 on the logarithm.
    alone = foreground_density(np.array([0.5]), grid)
    assert alone[499] == pytest.approx(1 / (0.1 * 0.5 * np.sqrt(2 * np.pi)))
    assert alone[499] > 100 * alone[299]
    # What would lie above 1 is reflected.
    assert foreground_density(np.array([1.0]), grid)[-1] == pytest.approx(alone[499])
    # Of lesions of 1 to 20 %, next to nothing is drawn at 0.1 %.
    density = foreground_density(np.linspace(0.01, 0.2, 100), grid)
    assert density[0] < 0.05 * density.max()


@pytest.mark.no_backend
def test_foreground_figure_tells_number_and_median() -> None:
    ratios = {
        "a$1$": np.array([0.1, 0.2, 0.6]),
        "b": np.array([0.5, 0.0, 0.0]),
        "c": np.zeros(4),
    }
    figure = draw_foreground_ratios(ratios)
    labels = [r"a\$1\$: 3 images, median 20.0 %", "b: 1 images, median 50.0 %; 2 without lesion"]
    assert {*labels, "c: 0 images; 4 without lesion"} <= set(texts(figure))
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 100)
    first, second, third = (line for line in axes.get_lines() if len(line.get_xdata()) > 1)
    assert len({line.get_color() for line in (first, second, third)}) == 3
    assert first.get_linestyle() != second.get_linestyle()


# Redundancy


@pytest.mark.no_backend
def test_redundancy_figures_tell_the_numbers() -> None:
    hadamard = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    many = channel_redundancy([{"a": hadamard, "b": hadamard[:, :2]}])
    few = channel_redundancy([{"a": hadamard[:, :1] * np.ones(3), "b": np.ones((4, 2))}])
    runs = {"lms": many, "single": few}
    figure = draw_redundancy(runs)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [100, 100, 100 / 3, 0])
    assert {"lms", "single", "a\n3", "b\n2", "3", "2", "1", "0"} <= set(texts(figure))
    spectra = draw_spectra(runs)
    values = spectra.axes[0].get_lines()[0].get_ydata()
    np.testing.assert_allclose(values, [1, 1, 1])
    assert {"lms", "single", "a, 3 channels", "b, 2 channels"} <= set(texts(spectra))
    assert len(spectra.axes[1].get_lines()) == 2  # the constant one has none


@pytest.mark.no_backend
def test_redundancy_figures_of_networks_with_other_stages() -> None:
    hadamard = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    runs = {
        "lms": channel_redundancy([{"a": hadamard, "c": hadamard}]),
        "guest": channel_redundancy([{"a": hadamard[:, :2], "b": hadamard}]),
    }
    figure = draw_redundancy(runs)
    middles = [bar.get_x() + bar.get_width() / 2 for bar in figure.axes[0].patches]
    np.testing.assert_allclose(middles, [-0.2, 2, 0.2, 1])  # a and c, then a and b
    assert {"a\n3 / 2", "b\n3", "c\n3"} <= set(texts(figure))
    spectra = draw_spectra(runs)
    assert {"a, 3 / 2 channels", "b, 3 channels", "c, 3 channels"} <= set(texts(spectra))
    assert [len(axes.get_lines()) for axes in spectra.axes[:3]] == [4, 2, 2]  # line and dot
    colors = [axes.get_lines()[0].get_color() for axes in spectra.axes[:3]]
    assert colors[0] == colors[2] != colors[1]


# Activation maps


@pytest.mark.no_backend
def test_activation_map_by_hand() -> None:
    features = np.array([[[1.0, -1.0], [0.0, 4.0]], [[-3.0, 3.0], [0.0, 2.0]]])
    # Means of absolute values: 1, 2, 3, 1.
    np.testing.assert_allclose(activation_map(features), [[0, 0.5], [1, 0]])
    np.testing.assert_allclose(activation_map(7 * features), activation_map(features))


@pytest.mark.no_backend
def test_activation_map_that_is_the_same_everywhere_is_nought() -> None:
    np.testing.assert_array_equal(activation_map(np.full((2, 3, 4), -5.0)), np.zeros((2, 3)))


def test_stage_features_are_the_networks(run: Path) -> None:
    loaded = Run.read(run)
    images = synthetic.generate(2, SIZE).images
    first, second = stage_features(loaded, images, ("encoder1", "encoder5", "logits"))
    assert first["encoder1"].shape == (32, 32, 4)
    assert first["encoder5"].shape == (2, 2, 4)
    logits = loaded.network.predict_on_batch(preprocess(images))
    for index, features in enumerate((first, second)):
        np.testing.assert_allclose(features["logits"], logits[index], atol=1e-5)


def test_unknown_stages_are_named(run: Path) -> None:
    loaded = Run.read(run)
    with pytest.raises(ValueError, match=r"encoder1, .*Received: encoder6"):
        next(stage_features(loaded, np.zeros((1, *SIZE, 3)), ("encoder1", "encoder6")))


@pytest.mark.no_backend
def test_stages_of_different_networks_keep_their_order() -> None:
    three = ["encoder1", "encoder2", "decoder2"]
    four = ["stem", "encoder1", "encoder2", "encoder3", "decoder3", "decoder2"]
    assert merge_stages([three, four]) == four
    assert merge_stages([four, three]) == four
    assert merge_stages([three, ["a", "b"]]) == [*three, "a", "b"]


@pytest.fixture(scope="module")
def guest(tmp_path_factory) -> Path:
    """A U-Net of two levels, which lacks some of the stages that the registry lists."""
    model = Model(network="unet", filters=(4, 6))
    return write_run(tmp_path_factory.mktemp("runs") / "guest", model=model)


def test_each_network_is_looked_into_at_the_stages_it_has(run: Path, guest: Path) -> None:
    runs = [Run.read(run), Run.read(guest)]
    narrow = ["encoder1", "encoder2", "decoder2"]
    assert choose_stages(runs) == [list(registry.find("lgmsnet", rank=2).stages), narrow]
    features = next(stage_features(runs[1], np.zeros((1, *SIZE, 3), "uint8")))
    assert [values.shape[-1] for values in features.values()] == [4, 6, 4]
    stages = ("encoder2_first", "stem", "encoder2")
    assert choose_stages(runs, stages) == [["stem", "encoder2"], ["encoder2_first", "encoder2"]]
    with pytest.raises(ValueError, match=r"run or .*guest: .*stem, .*Received: encoder9$"):
        choose_stages(runs, ("encoder1", "encoder9"))
    with pytest.raises(ValueError, match=r"in .*guest: [^/]*Received: stem$"):
        choose_stages(runs, ("stem",))


# Pictures


def make_cases(*original_sizes: tuple[int, int]) -> Examples:
    """Grey images with a lesion in the middle."""
    count = len(original_sizes)
    masks = np.zeros((count, *SIZE, 1), "uint8")
    masks[:, 8:24, 8:24] = 1
    images = np.full((count, *SIZE, 3), 100, "uint8")
    ids = [f"case {index}" for index in range(count)]
    return Examples(ids, images, masks, original_sizes=np.array(original_sizes))


def sides_of(figure: Figure) -> np.ndarray:
    """Height by width of each panel with a picture, as printed."""
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_images()]
    boxes = [axes.get_window_extent() for axes in panels]
    return np.array([box.height / box.width for box in boxes])


@pytest.mark.no_backend
def test_panels_keep_the_proportions_and_show_the_outlines() -> None:
    cases = make_cases((300, 400), (400, 300), (128, 128))
    nothing = np.zeros_like(cases.segmentation_masks)
    shifted = np.roll(cases.segmentation_masks, 6, axis=1)
    figure = draw_panels(
        cases,
        ["best\ncase 0", "case 1", "worst\n$3"],
        {"first": shifted, "second": nothing},
        {"first": np.array([0.25, 0.5, 0.75]), "second": np.zeros(3)},
    )
    sides = sides_of(figure)
    np.testing.assert_allclose(sides, np.repeat([0.75, 4 / 3, 1], 4), rtol=0.02)
    assert {"image", "truth", "first", "second", "IoU 0.250", "IoU 0.750"} <= set(texts(figure))
    assert {"best\ncase 0", "worst\n\\$3", "prediction"} <= set(texts(figure))
    image, truth, first, second = (axes.get_images()[0].get_array() for axes in figure.axes[:4])
    counts = [
        (count_near(picture, TRUTH_COLOR) > 100, count_near(picture, PREDICTION_COLOR) > 100)
        for picture in (image, truth, first, second)
    ]
    assert counts == [(False, False), (True, False), (True, True), (True, False)]
    pixels = pixels_of(figure)
    assert pixels.shape[1] == 720
    assert pixels.std() > 20


@pytest.mark.no_backend
def test_a_truth_without_lesion_says_so() -> None:
    cases = make_cases((64, 64))
    empty = Examples(cases.ids, cases.images, np.zeros_like(cases.segmentation_masks))
    figure = draw_panels(empty, ["x"], {"run": cases.segmentation_masks}, {"run": np.array([0.0])})
    assert "no lesion" in texts(figure)


@pytest.mark.no_backend
@pytest.mark.parametrize(("stages", "panels"), [(1, 2), (4, 5), (9, 10), (11, 15)])
def test_stage_maps_are_hot_where_the_map_is(stages: int, panels: int) -> None:
    cases = make_cases((300, 400), (300, 400))
    map_ = np.zeros((4, 4))
    map_[0, 0] = 1
    maps = [{f"stage {number}": map_ for number in range(stages)}] * 2
    figure = draw_stage_maps(cases, ["first", "second"], maps)
    pictures = [axes for axes in figure.axes if axes.get_images()]
    assert len(pictures) == 2 * (1 + stages)
    titles = [axes.get_title() for axes in pictures[: 1 + stages]]
    assert titles == ["image and truth", *maps[0]]
    hot = pictures[1].get_images()[0].get_array().astype(int)
    height, width = hot.shape[:2]
    assert hot[10, 10].sum() > hot[height - 10, width - 10].sum() + 150
    np.testing.assert_allclose(sides_of(figure), 0.75, rtol=0.02)
    assert len([axes for axes in figure.axes if not axes.get_visible()]) == 2 * (
        panels - 1 - stages
    )
    assert {"least", "greatest", "first", "second"} <= set(texts(figure))


@pytest.mark.no_backend
def test_cases_are_best_median_and_worst() -> None:
    ious = np.array([0.5, 1.0, 0.1, 0.9, 0.3])
    everything = np.ones(5, bool)
    assert choose_extremes(ious, everything) == {1: "best", 0: "median", 2: "worst"}
    shown = np.array([True, False, True, True, False])
    assert choose_extremes(ious, shown) == {3: "best", 0: "median", 2: "worst"}
    assert choose_extremes(ious[:1], everything[:1]) == {0: "best, median, worst"}
    assert choose_extremes(ious[:2], everything[:2]) == {1: "best, median", 0: "worst"}
    assert choose_extremes(np.ones(2), np.zeros(2, bool)) == {
        0: "best, median",
        1: "worst",
    }


@pytest.mark.no_backend
def test_images_for_redundancy_are_spread_over_the_ids() -> None:
    ids = [f"{number:03}" for number in range(100)]
    assert evenly_spread(ids[::-1], 4) == ["000", "033", "066", "099"]
    assert evenly_spread(["b", "a"], 4) == ["a", "b"]


# A run from end to end


def image_of(path: Path) -> np.ndarray:
    return cv2.imread(str(path))


@pytest.fixture(scope="module")
def drawn(run: Path, tmp_path_factory) -> tuple[dict, Path]:
    """The figures of a run at some stages: what is said of them, and where they lie."""
    output = tmp_path_factory.mktemp("figures") / "below" / "figures"
    return draw_figures(str(run), output, stages=STAGES), output


@pytest.fixture
def unrendered(monkeypatch) -> None:
    """Write empty files for pictures, which take most of the time, for tests of the numbers."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: path.touch())


@pytest.mark.no_backend
def test_figures_of_a_run(drawn) -> None:
    drawn, output = drawn
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [
            "figures.json",
            *(f"{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf")),
            *(f"{name}.csv" for name in TABLES),
        ]
    )
    assert [path.name for path in output.parent.iterdir()] == ["figures"]  # nothing unfinished
    for name in NAMES:
        pixels = image_of(output / f"{name}.png")
        assert pixels.shape[1] >= 1000, name  # 200 dots an inch
        assert pixels.shape[0] >= 400, name
        assert pixels.std() > 5, name
        assert (output / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert read_json(output, "figures.json") == json.loads(json.dumps(drawn))
    assert list(drawn["captions"]) == NAMES
    assert drawn["caution"].startswith("Optimistic")
    assert "Best, median and worst are by the IoU of run among 3" in drawn["captions"]["panels"]


def test_numbers_of_a_run(run: Path, tmp_path: Path, unrendered) -> None:
    output = tmp_path / "figures"
    draw_figures(run, output, stages=STAGES)
    ratios = read_rows(output / "foreground_ratio.csv")
    masks = synthetic.generate(6, SIZE).segmentation_masks
    assert [row["id"] for row in ratios] == IDS  # all images, not only those held out
    np.testing.assert_allclose(
        [float(row["foreground_ratio"]) for row in ratios], foreground_ratios(masks)
    )
    redundancy = read_rows(output / "redundancy.csv")
    assert [row["stage"] for row in redundancy] == list(STAGES)
    for row in redundancy:
        assert row["run"] == "run"
        assert row["network"] == (
            "LGMSNet with dims=(4, 4, 4, 4, 4), kernel_sizes=(3, 5), transformer_ratio=0"
        )
        assert (row["channels"], row["images"]) == ("4", "3")
        needed, rank = int(row["components_needed"]), float(row["effective_rank"])
        assert 1 <= needed <= 4
        assert 1 <= rank <= 4
        assert float(row["share_needed"]) == needed / 4
    spectra = read_rows(output / "spectra.csv")
    assert len(spectra) == 3 * 4
    assert sum(float(row["energy_share"]) for row in spectra[:4]) == pytest.approx(1)
    panels = read_rows(output / "panels.csv")
    assert [row["rule"] for row in panels] == ["best", "median", "worst"]
    assert sorted(row["id"] for row in panels) == sorted(HELD_OUT)
    ious = [float(row["iou run"]) for row in panels]
    assert ious == sorted(ious, reverse=True)


@pytest.mark.no_backend
def test_two_runs_and_chosen_images(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "run", seed=1, kernel_sizes=(3, 3))  # of the same name
    (other / "metrics.json").unlink()
    output = tmp_path / "figures"
    output.mkdir()  # empty is as good as absent
    chosen = HELD_OUT[2]
    drawn = draw_figures(run, output, against=other, images=[chosen, chosen], stages=["encoder1"])
    assert list(drawn["captions"]) == [*NAMES[:4], "stages_against", "panels"]
    rows = read_rows(output / "redundancy.csv")
    assert [row["run"] for row in rows] == [str(run), str(other)]
    for row, kernel_sizes in zip(rows, ("(3, 5)", "(3, 3)"), strict=True):
        assert f", kernel_sizes={kernel_sizes}, " in row["network"]
    assert rows[0]["effective_rank"] != rows[1]["effective_rank"]
    (panel,) = read_rows(output / "panels.csv")
    assert (panel["id"], panel["rule"]) == (chosen, "")
    assert {f"iou {run}", f"iou {other}"} < set(panel)
    assert (output / "stages.png").read_bytes() != (output / "stages_against.png").read_bytes()
    assert f"{other} is not finished" in drawn["caution"]
    captions = drawn["captions"]
    for figure in ("redundancy", "spectra"):
        assert f"{other}: {rows[1]['network']}." in captions[figure]
    assert captions["stages"].startswith(f"{run}: mean of the absolute")
    assert captions["stages_against"].startswith(f"{other}: mean of the absolute")
    assert "Best, median and worst" not in captions["panels"]


@pytest.mark.no_backend
def test_two_networks_beside_each_other(run: Path, guest: Path, tmp_path: Path, unrendered) -> None:
    """Each at its own stages, with its own channels."""
    drawn = draw_figures(run, tmp_path / "out", against=guest)
    rows = read_rows(tmp_path / "out" / "redundancy.csv")
    assert [row["stage"] for row in rows if row["run"] == "run"] == list(
        registry.find("lgmsnet", rank=2).stages
    )
    guests = [row for row in rows if row["run"] == "guest"]
    assert [(row["stage"], row["channels"]) for row in guests] == [
        ("encoder1", "4"),
        ("encoder2", "6"),
        ("decoder2", "4"),
    ]
    assert {row["network"] for row in guests} == {"U-Net with filters=(4, 6)"}
    assert "; guest: U-Net with filters=(4, 6)." in drawn["captions"]["spectra"]


@pytest.mark.no_backend
def test_the_same_figures_twice_are_the_same(run: Path, drawn, tmp_path: Path) -> None:
    draw_figures(run, tmp_path / "again", stages=STAGES)
    for path in drawn[1].iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.fixture
def unseen(monkeypatch) -> Mapping[str, Examples]:
    """Datasets that no run has seen."""
    cases = make_cases((64, 48), (64, 48))
    datasets = {"unseen": cases, "more": make_cases((64, 64))}

    def load(builder, image_size, manual_dir, data_dir, **options) -> Examples:
        return datasets[builder]

    monkeypatch.setattr(sources, "load_examples", load)
    return datasets


def test_an_unseen_dataset_and_more_foregrounds(
    run: Path, tmp_path: Path, unseen, unrendered
) -> None:
    drawn = draw_figures(
        run, tmp_path / "out", dataset="unseen", foreground_of=["more"], stages=["encoder1"]
    )
    assert (drawn["dataset"], drawn["caution"]) == ("unseen", None)
    rows = read_rows(tmp_path / "out" / "foreground_ratio.csv")
    assert [row["dataset"] for row in rows] == ["unseen", "unseen", "more"]
    assert {row["foreground_ratio"] for row in rows} == {"0.25"}
    assert {row["id"] for row in read_rows(tmp_path / "out" / "panels.csv")} == {
        "case 0",
        "case 1",
    }


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": ["encoder6"]}, r"layers of the network in .*encoder1.*Received: encoder6"),
        ({"images": ["none"]}, r"among the 3 of synthetic that can be scored.*Received: 'none'"),
        ({"images": [IDS[0]]}, r"among the 3 of synthetic"),  # trained on
        ({"dataset": "synthetic"}, r"was trained on 3 of the 6 images"),
        ({"dataset": "ph3"}, r"must be one of .*ph2.*'ph3'"),
        ({"foreground_of": ["ph3"]}, r"must be one of .*ph2.*'ph3'"),
    ],
)
def test_mistakes_leave_nothing_behind(options, message, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        draw_figures(run, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.no_backend
def test_a_run_that_held_out_no_image_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_json(run / "splits.json", {"train": IDS, "validation": []})
    with pytest.raises(ValueError, match=r"no image of synthetic"):
        draw_figures(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.no_backend
def test_a_folder_in_use_is_not_written_to(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"is in use"):
        draw_figures(run, run)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written to"):
        draw_figures(run, tmp_path / "file" / "below")


@pytest.mark.no_backend
def test_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch) -> None:
    def failing(path: Path, rows) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(captioned, "write_csv", failing)
    with pytest.raises(OSError, match=r"No space left"):
        draw_figures(run, tmp_path / "out", stages=["encoder5"])
    assert not list(tmp_path.iterdir())

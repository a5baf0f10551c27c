"""The report on a GPU: a dry run on a bare machine, its conclusions, and what follows a failure."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from keras_lgmsnet.benchmark import forms, gpu
from keras_lgmsnet.benchmark.gpu import PARTS, gpu_report
from keras_lgmsnet.benchmark.gpu_conclusions import conclude
from keras_lgmsnet.benchmark.workers import LEFT_OUT, try_each
from keras_lgmsnet.cli.benchmark import benchmark
from tests.helpers.in_process import try_each_here

CHECKOUT = Path(__file__).parents[1]

pytestmark = pytest.mark.no_backend

# What a bare machine has not: all that this package's extras install but a backend and what is told
# in `docs/how-to/gpu.md`.
MISSING = (
    *("tensorflow", "tensorflow_datasets", "cv2", "PIL", "nibabel", "tifffile", "imagecodecs"),
    *("sklearn", "matplotlib", "pandas", "tensorboardX", "jinja2", "pydicom"),
    *("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert", "flatbuffers", "keras_cv", "tests"),
)
DRY_RUN = f"""
import sys
sys.modules.update(dict.fromkeys({MISSING}))
sys.path.insert(0, {str(CHECKOUT)!r})
import dataclasses
from keras_lgmsnet.benchmark import forms, gpu
from keras_lgmsnet.benchmark.cases import Case
from keras_lgmsnet.benchmark.workers import attempt
from keras_lgmsnet.cli.benchmark import benchmark

def try_each(function, cases, backend, seconds, *, gpu=True):
    return (attempt(function, case) for case in cases)

forms.try_each = gpu.try_each = try_each  # to start processes would take longer than all the rest
# Nor has LGMSNet to be among the networks, which takes a minute: `networks.py` runs that.
unet = {{"training": True, "network": "unet", "arguments": {{"filters": (4, 4)}}}}
gpu.QUICK = dataclasses.replace(
    gpu.QUICK,
    images=Case((8, 8, 3), 2, **unet),
    volumes=Case((4, 4, 4, 1), num_classes=2, **unet),
)
forms.QUICK_NETWORKS = (gpu.QUICK.images,)
benchmark(["--gpu-report", "--quick", "-o", "report.json", "--minutes", "60", "--backend", "torch"])
"""


def test_a_dry_run_on_a_bare_machine(tmp_path: Path) -> None:
    environment = os.environ | {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", DRY_RUN],
        env={key: value for key, value in environment.items() if key != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    failed = [row for row in report["rows"] + report["forms"] if row["failure"]]
    # Only what makes images needs a package of that kind, and says so.
    assert {row["part"] for row in failed} == {PARTS[-1].title}
    assert all("cv2" in row["failure"] for row in failed)
    assert {row["part"] for row in report["rows"]} == {part.title for part in PARTS}
    trained = [row for row in report["rows"] if "falls" in row]
    # Not of plain PyTorch: oneDNN's gradient of so flat volumes in bfloat16 is NaN now and then.
    assert all(row["finite"] for row in trained if row["network"].startswith("ours"))
    assert all(row["falls"] for row in trained if len(row["input_shape"]) == 3)
    scaled = [row for row in trained if "loss_scale" in row]
    assert [row["loss_scale_works"] for row in scaled] == [True]
    assert {row["network"] for row in trained} == {"ours", "plain PyTorch"}
    (exact,) = (row for row in report["rows"] if row.get("largest_difference") == 0)
    assert exact["precision"] == "float32"  # the CPU beside itself
    assert result.stdout.startswith("# Report on a GPU\n")
    assert f"- {PARTS[-1].title}, torch: " in result.stdout


def compute(case: int) -> dict[str, Any]:
    """Stand in for a measurement that may fail, end its process, or never end."""
    if case == 1:
        raise ValueError("no\nnumber")
    if case == 2:
        os._exit(3)
    if case == 3:
        time.sleep(600)
    return {"device": "CPU", "process": os.getpid()}


def test_what_fails_is_told_and_the_rest_goes_on() -> None:
    outcomes = list(try_each(compute, [0, 1, 4], None, 300))
    assert [outcome.failure for outcome in outcomes] == [None, "ValueError: no number", None]
    assert "Traceback" in outcomes[1].details
    assert outcomes[0].value == outcomes[2].value  # in one process


def test_what_ends_its_process_costs_only_itself() -> None:
    first, second = try_each(compute, [2, 0], None, 300)
    assert first.failure == "Its process ended, with exit code 3."
    assert second.value


def test_what_never_ends_is_ended() -> None:
    first, second = try_each(compute, [3, 0], None, 1)
    assert first.failure == "Stopped after 1 s, when the time of its part was up."
    assert not first.left_out
    assert second.failure == f"{LEFT_OUT}: no time was left."
    assert second.left_out


@pytest.fixture
def made_parts(monkeypatch) -> None:
    """Two parts of the report, which measure nothing."""
    parts = tuple(
        dataclasses.replace(
            part, function=compute, cases=lambda report, backend, cases=cases: list(cases)
        )
        for part, cases in ((PARTS[0], (0,)), (PARTS[-1], (1, 0)))
    )
    monkeypatch.setattr(gpu, "CARD", parts[0])
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "try_each", try_each_here)
    monkeypatch.setattr(forms, "time_forms", lambda *arguments, **options: iter([]))


def test_a_part_that_fails_is_told_and_the_report_goes_on(made_parts, tmp_path: Path) -> None:
    lines: list[str] = []
    found = gpu_report(["torch"], tmp_path / "report.json", tell=lines.append)
    assert json.loads((tmp_path / "report.json").read_text()) == found
    _, failed, done = found["rows"]
    assert (failed["failure"], done["failure"]) == ("ValueError: no number", None)
    assert 'raise ValueError("no' in failed["details"]
    assert f"{PARTS[-1].title}, torch: ValueError: no number" in found["conclusions"]
    assert "| torch | – | – | – | – | ValueError: no number | – | – |" in lines


def test_what_was_measured_outlives_a_report_that_is_ended(made_parts, tmp_path: Path) -> None:
    def tell(line: str) -> None:
        if "no number" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu_report(["torch"], tmp_path / "report.json", tell=tell)
    (row,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["device"] == "CPU"


def test_a_backend_without_the_gpu_is_left_out_beside_one_that_has_it(
    made_parts, monkeypatch, tmp_path: Path
) -> None:
    devices = iter(["CPU", "GPU"])
    card = dataclasses.replace(gpu.PARTS[0], function=lambda case: {"device": next(devices)})
    monkeypatch.setattr(gpu, "CARD", card)
    monkeypatch.setattr(gpu, "PARTS", (card, gpu.PARTS[1]))
    lines: list[str] = []
    found = gpu_report(["jax", "torch"], tmp_path / "report.json", tell=lines.append)
    assert [row["backend"] for row in found["rows"]] == ["jax", "torch", "torch", "torch"]
    assert "\njax is left out from here on: it computes on no GPU." in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu-report"], "Name the JSON file to write: -o report.json"),
        (["--forms", "--gpu-report", "-o", "report.json"], "stand alone"),
        (["--forms", "--batch-size", "2", "-o", "report.json"], "stand alone"),
        (["--quick"], "belong to --forms and --gpu-report"),
        (["--forms", "--minutes", "0", "-o", "forms.json"], "Received: minutes=0.0"),
        (["--gpu-report", "-o", "nowhere/report.json"], "No such file or directory"),
    ],
)
def test_mistakes_at_the_command_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(benchmark, arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert message in result.output


def trained(backend: str, network: str, precision: str, speed: float, **others: Any) -> dict:
    return {
        "part": "Training on images",
        "backend": backend,
        "network": network,
        "input_shape": [256, 256, 3],
        "pass": "training",
        "batch_size": 16,
        "precision": precision,
        "failure": None,
        "first_loss": 1.2,
        "falls": True,
        "finite": True,
        "images_per_second": speed,
        "multiply_adds": 10**9,
        "device_bytes": 10**6,
        **others,
    }


def test_conclusions() -> None:
    card = {"part": "card", "backend": "jax", "failure": None}
    rows = [
        card | {"bytes_per_second": 2e9, "mixed_float16_flops": 1e13},
        trained("jax", "ours", "float32", 400),
        trained("jax", "ours", "mixed_float16", 1000),
        trained("torch", "ours", "mixed_float16", 450),
        trained("torch", "plain PyTorch", "mixed_float16", 500),
        trained("torch", "plain PyTorch", "float32", 9999),
        {**card, "augmentation": "kvasir", "images_per_second": 1500.0},
        {"part": "Volumes", "backend": "jax", "failure": "MemoryError: 9 GB"},
    ]
    speed = "jax trains on 1000 images/s (jax, ours, training, mixed_float16, batch of 16), 2.00"
    sentences = conclude(rows)
    assert sentences[0] == "The losses of all 5 trainings are numbers, and fall on images."
    assert sentences[1].startswith(speed)
    assert sentences[2].startswith("torch trains on 450 images/s")
    assert " 0.90 times as many as plain PyTorch in mixed precision." in sentences[2]
    assert "jax reaches 20.0% of the card's rate of multiplying, and 50.0%" in sentences[3]
    assert "(kvasir) makes 1.5 times the images" in sentences[4]
    assert sentences[5:] == ["Volumes, jax: MemoryError: 9 GB"]


@pytest.mark.parametrize(
    "wrong", [{"finite": False}, {"falls": False}, {"loss_scale_works": False}]
)
def test_wrong_losses_are_the_first_conclusion(wrong: dict[str, bool]) -> None:
    rows = [
        trained("jax", "ours", "float32", 1),
        trained("jax", "ours", "mixed_float16", 1, **wrong),
    ]
    first, *_ = conclude(rows)
    assert first == (
        "LOSSES ARE WRONG in 1 trainings: jax, ours, training, mixed_float16, batch of 16."
    )

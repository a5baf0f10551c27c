"""What networks cost: the table, in each style, and a network measured in this process."""

import csv
import io
import os
from dataclasses import replace

import keras
import pytest
from click.testing import CliRunner

from keras_lgmsnet.benchmark import costs
from keras_lgmsnet.benchmark.cases import Case
from keras_lgmsnet.benchmark.costs import CostRow, Measurement, benchmark_costs, format_costs
from keras_lgmsnet.benchmark.workers import Outcome, try_each
from keras_lgmsnet.cli.benchmark import benchmark
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.complexity import count
from tests.helpers.in_process import try_each_here

TINY = Case((16, 16, 3), network="unet", arguments={"filters": (4, 4)})
FOUND = Measurement("CPU", 34_527_041, 65_522_368_512, images_per_second=0.5, memory=2 * 10**9)
UNET = Case((256, 256, 3), network="unet")
ROWS = (
    CostRow(UNET, "jax", dict.fromkeys(costs.PASSES, Outcome(FOUND))),
    CostRow(
        UNET,
        "torch",
        {
            "forward": Outcome(FOUND),
            "training": Outcome(failure="Its process ended, with exit code -9."),
        },
    ),
    CostRow(
        Case((256, 256, 3)),
        "jax",
        dict.fromkeys(costs.PASSES, Outcome(failure="MemoryError: 16 GB are not there")),
    ),
)

once = pytest.mark.no_backend


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_is_measured(training: bool) -> None:
    case = Case((16, 16, 3), 2, training, network="unet", arguments={"filters": (4, 4)})
    found = costs.measure((case, 1))
    assert (found.parameters, found.multiply_adds) == count(case.create_network())
    assert found.device in ("CPU", "GPU")
    assert found.images_per_second > 0
    assert found.memory is None or found.memory >= 0


@once
def test_the_table_in_each_style() -> None:
    markdown = format_costs(ROWS, "A machine")
    head, _, *lines = (line for line in markdown.splitlines() if line.startswith("|"))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *lines)]
    assert cells[0] == list(costs.HEADER)
    counted = ["CPU", "34,527,041", "65.52 G", "34.52 M, 65.52 G (LGMSNet's Table 1)"]
    assert cells[1] == ["U-Net", "jax", *counted, "0.5", "2,000", "0.5", "2,000"]
    assert cells[2] == ["U-Net", "torch", *counted, "0.5", "2,000", "–", "–"]
    assert cells[3] == ["LGMSNet", "jax", *"–––", "2.32 M, 4.89 G (Table 1)", *"––––"]
    assert "U-Net on torch, training. Its process ended, with exit code -9. So the sys" in markdown
    assert markdown.count("LGMSNet on jax, ") == markdown.count("MemoryError") == 2

    latex = format_costs(ROWS, "A machine", "latex")
    assert r"U-Net & torch & CPU & 34,527,041 & 65.52 G & 34.52 M" in latex
    assert r"\caption{A machine." in latex
    assert "exit code $-$9" in latex

    first, second, third = csv.DictReader(io.StringIO(format_costs(ROWS, "A machine", "csv")))
    assert first["multiply_adds"] == "65522368512"
    assert first["input_shape"] == "256 256 3"
    assert (first["training_memory"], first["training_failure"]) == ("2000000000", "")
    assert second["training_images_per_second"] == second["training_memory"] == ""
    assert third["parameters"] == ""
    assert third["forward_failure"].startswith("MemoryError")


@once
def test_networks_are_taken_as_they_were_published() -> None:
    assert costs._case("unet", None, quick=False) == Case((256, 256, 3), network="unet")
    assert costs._case("unet", None, quick=True) == Case((16, 16, 3), network="unet")
    asked = costs._expand(["unet", "all"], None)
    assert asked == list(dict.fromkeys(["unet", *registry.names(rank=2)]))


@once
def test_an_input_shape_is_of_images_or_of_volumes() -> None:
    shape = (64, 32, 32, 1)
    assert costs._expand(["all"], shape) == list(registry.names(rank=3))
    volumes = Case(shape, num_classes=14, network="unet")
    assert costs._case("unet", shape, quick=False) == volumes
    smallest = replace(volumes, input_shape=(8, 8, 8, 1))
    assert costs._case("unet", shape, quick=True) == smallest
    with pytest.raises(ValueError, match=r"nnunet.*takes images \(rank 2\) only.*rank 3"):
        costs._case("nnunet", shape, quick=False)
    with pytest.raises(ValueError, match="divisible by 8"):
        costs._case("unet", (64, 32, 30, 1), quick=False)


@pytest.fixture
def here(monkeypatch) -> None:
    """Measure tiny networks, in this process."""
    monkeypatch.setattr(costs, "try_each", try_each_here)
    monkeypatch.setattr(costs, "_case", lambda *_: TINY)


@once
def test_the_command_writes_the_tables(here, tmp_path) -> None:
    backend = keras.backend.backend()

    def run(*options: str) -> str:
        arguments = ["--networks", "unet", "--backend", backend, "--repeats", "1", *options]
        result = CliRunner().invoke(benchmark, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    printed = run("-o", str(tmp_path / "tables"))
    (line,) = (line for line in printed.splitlines() if line.startswith("| U-Net | "))
    files = {path.name: path.read_text() for path in (tmp_path / "tables").iterdir()}
    assert files.keys() == {"networks.md", "networks.tex", "networks.csv"}
    for cell in line.strip("| ").split(" | "):
        assert cell in files["networks.md"]
    run("-o", str(tmp_path / "one.csv"))
    assert (tmp_path / "one.csv").read_text().startswith("network,backend,")
    assert {path.name for path in tmp_path.iterdir()} == {"tables", "one.csv"}


@once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--networks", "unett"], "did you mean unet"),
        (
            ["--networks", "unet", "--case", "forward-2d"],
            "beside it, only --backend, --input-shape",
        ),
        (["--networks", "unet", "--repeats", "0"], "Received: repeats=0"),
        (["--networks", "unet", "-o", "nowhere/costs.csv"], "nowhere"),
    ],
)
def test_mistakes_are_told_in_one_sentence(options, message) -> None:
    result = CliRunner().invoke(benchmark, options)
    assert result.exit_code != 0
    assert message in result.output


@once
def test_there_is_a_backend() -> None:
    with pytest.raises(ValueError, match=r"one installed backend. Received: \(\)"):
        benchmark_costs(["unet"], [])


def _killed(task: object) -> None:
    os.kill(os.getpid(), 9)


@once
def test_a_process_that_is_killed_is_told_apart() -> None:
    (outcome,) = try_each(_killed, [None], None, 60, threads=1)
    assert costs.KILLED in (outcome.failure or "")

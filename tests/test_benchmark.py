"""The benchmark's table, its errors, and a small run with processes."""

import dataclasses
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest
from tqdm import tqdm

from keras_lgmsnet.benchmark import networks, peers
from keras_lgmsnet.benchmark.cases import CASES, Case, network_cases
from keras_lgmsnet.benchmark.machine import describe_machine
from keras_lgmsnet.benchmark.networks import PEER, Row, benchmark, format_table
from keras_lgmsnet.benchmark.pipeline import PipelineRow, benchmark_pipeline, format_pipeline_table
from keras_lgmsnet.models import registry

SMALL = {"dims": (4, 4, 4, 8, 8)}
ROW = Row(
    case="forward-2d",
    backend="jax",
    device="CPU",
    parameters=2_321_393,
    multiply_adds=4_892_515_328,
    batch_size=8,
    seconds=0.5,
    memory=1_500_000_000,
    reference="LGMSNet in PyTorch",
    reference_seconds=0.02,
    reference_memory=2_000_000_000,
)


def test_row_compares_with_its_reference():
    assert ROW.ratio == 25
    assert ROW.images_per_second == 16
    assert ROW.memory_ratio == 0.75
    assert dataclasses.replace(ROW, memory=None).memory_ratio is None


def test_table():
    assert format_table([ROW]).splitlines() == [
        "| case       | backend | device | parameters | multiply-adds | ms  | images/s | MB    "
        "| reference          | its ms | its MB | time ratio | memory ratio |",
        "| ---------- | ------- | ------ | ---------- | ------------- | --- | -------- | ----- "
        "| ------------------ | ------ | ------ | ---------- | ------------ |",
        "| forward-2d | jax     | CPU    | 2,321,393  | 4.89 G        | 500 | 16       | 1,500 "
        "| LGMSNet in PyTorch | 20.0   | 2,000  | 25         | 0.75         |",
    ]


def test_unknown_memory_leaves_the_table_a_dash():
    row = dataclasses.replace(ROW, memory=None, reference_memory=None)
    cells = format_table([row]).splitlines()[-1].split("|")
    assert [cells[column].strip() for column in (8, 11, 13)] == ["–", "–", "–"]


def test_cases_of_a_network_are_as_published():
    assert network_cases("unet") == {
        "forward-2d": Case((256, 256, 3), network="unet"),
        "training-2d": Case((256, 256, 3), 8, training=True, network="unet"),
        "forward-3d": Case((96, 96, 96, 1), num_classes=14, network="unet"),
        "training-3d": Case((96, 96, 96, 1), training=True, num_classes=14, network="unet"),
    }
    assert CASES.keys() == {"depthwise-3d", *network_cases()}


def test_cases_of_a_network_as_asked_for():
    arguments = {"filters": (8, 16), "block": "lms"}
    forward, training = network_cases(
        "unet", arguments, input_shape=(2, 6, 4), num_classes=3, batch_size=5
    ).values()
    asked = Case((2, 6, 4), 5, num_classes=3, network="unet", arguments=arguments)
    assert (forward, training) == (asked, dataclasses.replace(asked, training=True))
    assert hash(forward) == hash(asked)
    assert forward != dataclasses.replace(asked, arguments={"filters": (8, 16)})


def test_cases_of_what_was_never_published(monkeypatch):
    new = dataclasses.replace(registry.find("unet", 2), name="new", published=())
    monkeypatch.setattr(registry, "NETWORKS", (*registry.NETWORKS, new))
    with pytest.raises(ValueError, match=r"U-Net: give an input shape, such as 256,256,3\."):
        network_cases("new")
    cases = network_cases("new", input_shape=(32, 32, 3))
    assert cases["forward-2d"] == Case((32, 32, 3), network="new")
    assert cases.keys() == {"forward-2d", "training-2d"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "lgmsnett"}, "did you mean lgmsnet?"),
        ({"input_shape": (40, 64, 3)}, r"(32, 64), the nearest. Received: (40, 64)"),
        ({"input_shape": (40, 64, 3), "network": "unet"}, "divisible by 16"),
        ({"input_shape": (40, 3)}, "Received: rank 1"),
        ({"batch_size": 0}, "batch_size must be positive. Received: 0"),
    ],
)
def test_bad_cases(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Case(**({"input_shape": (64, 64, 3)} | arguments))
    Case((40, 64, 3), network="unet", arguments={"filters": (8, 16, 32)})


def test_pipeline_table():
    row = PipelineRow("training-2d", "kvasir", 2, images_per_second=1000, trained_per_second=40)
    assert row.ratio == 25
    assert format_pipeline_table([row]).splitlines() == [
        "| case        | augmentation | pipeline images/s | training images/s | ratio "
        "| images/s a core | cores for 16 images in 30 ms |",
        "| ----------- | ------------ | ----------------- | ----------------- | ----- "
        "| --------------- | ---------------------------- |",
        "| training-2d | kvasir       | 1,000             | 40                | 25.0  "
        "| 500             | 1.1                          |",
    ]


@pytest.mark.no_backend
def test_the_pipeline_is_timed_for_what_trains_on_rgb_images():
    backend = keras.backend.backend()
    names = ("forward", "depthwise", "volumes", "unlisted")
    cases = {
        "forward": Case((32, 32, 3)),
        "depthwise": Case((32, 32, 32, 3), training=True, depthwise=3),
        "volumes": Case((32, 32, 32, 1), training=True),
        "not timed": Case((32, 32, 3), training=True),
        "fed": Case((32, 32, 3), batch_size=2, training=True),
    }
    rows = [dataclasses.replace(ROW, case=name, backend=backend) for name in (*names, "fed")]
    rows.append(dataclasses.replace(ROW, case="fed", backend=backend, seconds=0.25))
    timed = benchmark_pipeline(rows, cases, repeats=1)
    assert [(row.case, row.augmentation) for row in timed] == [
        ("fed", "rotate_flip"),
        ("fed", "kvasir"),
    ]
    for row in timed:
        assert row.trained_per_second == 32  # the faster one's
        assert row.images_per_second > 0
        assert row.cores == os.cpu_count()


def test_machine_names_the_cores_and_the_versions():
    machine = describe_machine(threads=1)
    assert f"1 of {os.cpu_count()} cores" in machine
    assert f"keras {keras.__version__}" in machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backends": ["theano"]}, "Received: backend='theano'"),
        ({"backends": []}, "Received: backends=()"),
        ({"repeats": 0}, "Received: repeats=0"),
        ({"threads": -1}, "Received: threads=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        benchmark(**arguments)


def test_missing_backend_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'keras-lgmsnet\[jax\]'"):
        benchmark(backends=["jax"])


def test_missing_pytorch_matters_where_there_is_a_peer(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else find(name)
    )
    case = Case((32, 32, 3))
    networks._require_installed(["jax"], [CASES["depthwise-3d"]])
    with pytest.raises(ValueError, match=r"pip install 'keras-lgmsnet\[torch\]'"):
        networks._require_installed(["jax"], [CASES["depthwise-3d"], case])
    monkeypatch.setattr(peers, "has", lambda network: False)
    networks._require_installed(["jax"], [case])


def test_an_unknown_argument_is_told_before_anything_is_timed(monkeypatch):
    timed = []
    monkeypatch.setattr(networks, "_time_case", lambda *arguments: timed.append(arguments))
    monkeypatch.setattr(networks, "start_worker", lambda *arguments: ThreadPoolExecutor(1))
    cases = network_cases("unet", {"block": "lms"})
    with pytest.raises(ValueError, match=r"Case forward-3d .* volumes has no argument 'block'"):
        benchmark([keras.backend.backend()], cases)
    assert not timed
    benchmark([keras.backend.backend()], {"2d": cases["forward-2d"]})
    assert timed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": (4, 4)}, "Case narrow cannot be built. .* five .* Received"),
        ({"normalization": "instance"}, "Case narrow .* peer of 'lgmsnet' .* normalization"),
    ],
)
def test_a_network_that_cannot_be_built_names_its_case(arguments, message):
    backend, case = keras.backend.backend(), Case((32, 32, 3), arguments=SMALL | arguments)
    with ThreadPoolExecutor(1) as worker, pytest.raises(ValueError, match=message):
        networks._time_case("narrow", case, backend, worker, worker, 1, tqdm(disable=True))


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "case",
    [
        Case((32, 32, 3), arguments=SMALL),
        Case((32, 32, 3), batch_size=2, training=True, arguments=SMALL),
        Case((32, 32, 32, 1), training=True, num_classes=3, arguments=SMALL),
        Case((4, 4, 4, 1), training=True, network="unet", arguments={"filters": (4, 4)}),
        Case((4, 4, 3), num_classes=2, network="unet", arguments={"filters": (4, 4)}),
    ],
)
def test_peer_step(case):
    networks._warm_up(case, PEER)
    assert networks._time_step(case, PEER) > 0


TIMED = {
    "network": Case((32, 32, 3), arguments=SMALL),
    "layer": Case((4, 4, 4, 2), training=True, depthwise=3),
}


def assert_timed(network: Row, layer: Row) -> None:
    assert (network.case, network.reference) == ("network", "LGMSNet in PyTorch")
    assert (layer.case, layer.reference) == ("layer", "Conv3D(groups=2)")
    assert layer.parameters == 2 * 27 + 2
    assert layer.multiply_adds == 64 * 2 * 27
    for row in (network, layer):
        assert row.seconds > 0
        assert row.reference_seconds > 0


def test_cases_are_timed_on_every_backend():
    backend = keras.backend.backend()
    with ThreadPoolExecutor(1) as worker, tqdm(disable=True) as progress:
        rows = [
            networks._time_case(name, case, backend, worker, worker, 1, progress)
            for name, case in TIMED.items()
        ]
    assert_timed(*rows)
    assert {row.backend for row in rows} == {backend}


@pytest.mark.parametrize("rank", [2, 3])
def test_any_network_is_timed(rank):
    """A training step; where there are masks and no labels, too, for volumes."""
    case = Case((4,) * rank + (2,), 2, True, network="unet", arguments={"filters": (4, 8)})
    backend = keras.backend.backend()
    with ThreadPoolExecutor(1) as worker, tqdm(disable=True) as progress:
        row = networks._time_case("tiny", case, backend, worker, worker, 1, progress)
    assert row.reference == "U-Net in PyTorch"
    assert row.parameters == sum(weight.numel() for weight in case.create_peer().parameters())
    assert row.ratio == row.seconds / row.reference_seconds


def test_a_network_without_a_peer_is_timed_alone(monkeypatch):
    monkeypatch.setattr(peers, "has", lambda network: False)
    backend, case = keras.backend.backend(), TIMED["network"]
    with ThreadPoolExecutor(1) as worker, tqdm(disable=True) as progress:
        row = networks._time_case("lonely", case, backend, worker, None, 1, progress)
    assert row.seconds > 0
    assert row.reference is row.reference_seconds is row.reference_memory is None
    assert row.ratio is row.memory_ratio is None
    cells = [cell.strip() for cell in format_table([row]).splitlines()[-1].split("|")]
    assert cells[9:14] == ["–"] * 5


@pytest.mark.no_backend
def test_run_in_processes():
    """On other backends than this process's, so whoever computes was told."""
    (network,) = benchmark(["torch"], {"network": TIMED["network"]}, repeats=1)
    (layer,) = benchmark(["jax"], {"layer": TIMED["layer"]}, repeats=1)
    assert_timed(network, layer)
    assert (network.backend, layer.backend) == ("torch", "jax")
    for row in (network, layer):
        assert 0 < row.memory < 4e9
        assert 0 < row.reference_memory < 4e9


def imported_with(*modules: str) -> set[str]:
    """Return all that a fresh process has imported with these modules."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(child.stdout.decode().split())


HEAVY = {"keras", "tensorflow", "jax", "torch", "onnxruntime", "openvino", "ai_edge_litert"}


@pytest.mark.no_backend
def test_the_calling_process_imports_no_keras():
    names = ("cases", "exports", "machine", "networks", "peers", "pipeline", "runtimes", "workers")
    assert not HEAVY & imported_with(*(f"keras_lgmsnet.benchmark.{name}" for name in names))
    counted = networks._complexity(TIMED["layer"])
    assert type(counted) is tuple  # what it receives is pickled by name, class and all


@pytest.mark.no_backend
def test_the_peers_import_nothing_but_torch():
    modules = [f"{peers.__name__}.{found.name}" for found in pkgutil.iter_modules(peers.__path__)]
    imported = imported_with(*modules)
    assert HEAVY & imported == {"torch"}
    ours = {name for name in imported if name.startswith("keras_lgmsnet.")}
    assert ours - set(modules) == {
        "keras_lgmsnet.benchmark",
        "keras_lgmsnet.benchmark.peers",
        # What `import keras_lgmsnet` itself imports.
        "keras_lgmsnet.kinds",
        "keras_lgmsnet.models",
        "keras_lgmsnet.models.attention_networks",
        "keras_lgmsnet.models.image_networks",
        "keras_lgmsnet.models.network",
        "keras_lgmsnet.models.registry",
        "keras_lgmsnet.models.volume_networks",
        "keras_lgmsnet.serialization",
    }

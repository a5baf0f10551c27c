"""The benchmark's table, its errors, and a small run with processes."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest
from tqdm import tqdm

from keras_lgmsnet.benchmark import networks
from keras_lgmsnet.benchmark.machine import describe_machine
from keras_lgmsnet.benchmark.networks import PEER, Case, Row, benchmark, format_table
from keras_lgmsnet.benchmark.pipeline import PipelineRow, benchmark_pipeline, format_pipeline_table

SMALL = (4, 4, 4, 8, 8)
ROW = Row(
    case="forward-2d",
    backend="jax",
    device="CPU",
    parameters=2_321_393,
    multiply_adds=4_892_515_328,
    batch_size=8,
    seconds=0.5,
    memory=1_500_000_000,
    reference="PyTorch peer",
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
        "| reference    | its ms | its MB | time ratio | memory ratio |",
        "| ---------- | ------- | ------ | ---------- | ------------- | --- | -------- | ----- "
        "| ------------ | ------ | ------ | ---------- | ------------ |",
        "| forward-2d | jax     | CPU    | 2,321,393  | 4.89 G        | 500 | 16       | 1,500 "
        "| PyTorch peer | 20.0   | 2,000  | 25         | 0.75         |",
    ]


def test_unknown_memory_leaves_the_table_a_dash():
    row = dataclasses.replace(ROW, memory=None, reference_memory=None)
    cells = format_table([row]).splitlines()[-1].split("|")
    assert [cells[column].strip() for column in (8, 11, 13)] == ["–", "–", "–"]


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
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        benchmark(**arguments)


def test_missing_backend_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'keras-lgmsnet\[jax\]'"):
        benchmark(backends=["jax"])


def test_a_network_that_cannot_be_built_names_its_case():
    backend = keras.backend.backend()
    with ThreadPoolExecutor(1) as worker, pytest.raises(ValueError, match=r"odd sides.*30, 30, 3"):
        networks._time_case("odd sides", Case((30, 30, 3)), backend, worker, worker, 1, None)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "case",
    [
        Case((32, 32, 3), dims=SMALL),
        Case((32, 32, 3), batch_size=2, training=True, dims=SMALL),
        Case((32, 32, 32, 1), training=True, num_classes=3, dims=SMALL),
    ],
)
def test_peer_step(case):
    networks._warm_up(case, PEER)
    assert networks._time_step(case, PEER) > 0


CASES = {
    "network": Case((32, 32, 3), dims=SMALL),
    "layer": Case((4, 4, 4, 2), training=True, depthwise=3),
}


def assert_timed(network: Row, layer: Row) -> None:
    assert (network.case, network.reference) == ("network", "PyTorch peer")
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
            for name, case in CASES.items()
        ]
    assert_timed(*rows)
    assert {row.backend for row in rows} == {backend}


@pytest.mark.no_backend
def test_run_in_processes():
    """On other backends than this process's, so whoever computes was told."""
    (network,) = benchmark(["torch"], {"network": CASES["network"]}, repeats=1)
    (layer,) = benchmark(["jax"], {"layer": CASES["layer"]}, repeats=1)
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
    names = ("exports", "machine", "networks", "pipeline", "runtimes", "workers")
    assert not HEAVY & imported_with(*(f"keras_lgmsnet.benchmark.{name}" for name in names))
    counted = networks._complexity(CASES["layer"])
    assert type(counted) is tuple  # what it receives is pickled by name, class and all


@pytest.mark.no_backend
def test_the_peer_imports_nothing_but_torch():
    imported = imported_with("keras_lgmsnet.benchmark.peers.lgmsnet")
    assert HEAVY & imported == {"torch"}
    assert {name for name in imported if name.startswith("keras_lgmsnet.")} == {
        "keras_lgmsnet.benchmark",
        "keras_lgmsnet.benchmark.peers",
        "keras_lgmsnet.benchmark.peers.lgmsnet",
    }

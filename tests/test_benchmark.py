"""The benchmark's table, its errors, and a small run with processes."""

import dataclasses
import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest
from tqdm import tqdm

from keras_lgmsnet.benchmark import networks as benchmark
from keras_lgmsnet.benchmark.networks import PEER, Case, Row
from keras_lgmsnet.benchmark.pipeline import PipelineRow

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
    assert benchmark.format_table([ROW]).splitlines() == [
        "| case       | backend | device | parameters | multiply-adds | ms  | images/s | MB    "
        "| reference    | its ms | its MB | time ratio | memory ratio |",
        "| ---------- | ------- | ------ | ---------- | ------------- | --- | -------- | ----- "
        "| ------------ | ------ | ------ | ---------- | ------------ |",
        "| forward-2d | jax     | CPU    | 2,321,393  | 4.89 G        | 500 | 16       | 1,500 "
        "| PyTorch peer | 20.0   | 2,000  | 25         | 0.75         |",
    ]


def test_unknown_memory_leaves_the_table_a_dash():
    row = dataclasses.replace(ROW, memory=None, reference_memory=None)
    cells = benchmark.format_table([row]).splitlines()[-1].split("|")
    assert [cells[column].strip() for column in (8, 11, 13)] == ["–", "–", "–"]


def test_pipeline_table():
    row = PipelineRow("training-2d", "kvasir", 2, images_per_second=1000, trained_per_second=40)
    assert row.ratio == 25
    assert benchmark.format_pipeline_table([row]).splitlines() == [
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
    timed = benchmark.benchmark_pipeline(rows, cases, repeats=1)
    assert [(row.case, row.augmentation) for row in timed] == [
        ("fed", "rotate_flip"),
        ("fed", "kvasir"),
    ]
    for row in timed:
        assert row.trained_per_second == 32  # the faster one's
        assert row.images_per_second > 0
        assert row.cores == os.cpu_count()


def test_machine_names_the_cores_and_the_versions():
    machine = benchmark.describe_machine(threads=1)
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
        benchmark.benchmark(**arguments)


def test_missing_backend_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'keras-lgmsnet\[jax\]'"):
        benchmark.benchmark(backends=["jax"])


def test_a_network_that_cannot_be_built_names_its_case():
    backend = keras.backend.backend()
    with ThreadPoolExecutor(1) as worker, pytest.raises(ValueError, match=r"odd sides.*30, 30, 3"):
        benchmark._time_case("odd sides", Case((30, 30, 3)), backend, worker, worker, 1, None)


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
    benchmark._warm_up(case, PEER)
    assert benchmark._time_step(case, PEER) > 0


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


def test_cases_are_timed_on_every_backend(monkeypatch):
    # Contestants share what is kept for one in a process of its own.
    for name in ("_step", "_keras_model"):
        monkeypatch.setattr(benchmark, name, functools.cache(getattr(benchmark, name).__wrapped__))
    backend = keras.backend.backend()
    with ThreadPoolExecutor(1) as worker, tqdm(disable=True) as progress:
        rows = [
            benchmark._time_case(name, case, backend, worker, worker, 1, progress)
            for name, case in CASES.items()
        ]
    assert_timed(*rows)
    assert {row.backend for row in rows} == {backend}


@pytest.mark.no_backend
def test_run_in_processes():
    """On other backends than this process's, so whoever computes was told."""
    (network,) = benchmark.benchmark(["torch"], {"network": CASES["network"]}, repeats=1)
    (layer,) = benchmark.benchmark(["jax"], {"layer": CASES["layer"]}, repeats=1)
    assert_timed(network, layer)
    assert (network.backend, layer.backend) == ("torch", "jax")
    for row in (network, layer):
        assert 0 < row.memory < 4e9
        assert 0 < row.reference_memory < 4e9


@pytest.mark.no_backend
def test_the_calling_process_imports_no_keras():
    program = "import sys, keras_lgmsnet.benchmark; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

"""The exports' benchmark: its table, what is left out, and that all time the same network."""

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from keras_lgmsnet.benchmark import exports, peers
from keras_lgmsnet.benchmark.exports import (
    CONTESTANTS,
    REFERENCE,
    ExportRow,
    benchmark_exports,
    format_export_table,
    left_out,
)

pytestmark = pytest.mark.no_backend
SHAPE = (32, 32, 3)
ROW = ExportRow(
    contestant="LiteRT, int8",
    threads=2,
    file_bytes=2_600_000,
    delegated_share=0.985,
    load_seconds=0.2,
    memory=35_000_000,
    median_seconds=0.06,
    p95_seconds=0.0725,
    reference_seconds=0.24,
)


def test_table():
    assert format_export_table([ROW]).splitlines() == [
        "| network in its runtime | threads | file MB | on XNNPACK | first ms | RAM MB | median ms "
        "| 95 % ms | ratio |",
        "| ---------------------- | ------- | ------- | ---------- | -------- | ------ | --------- "
        "| ------- | ----- |",
        "| LiteRT, int8           | 2       | 2.60    | 98.5 %     | 200      | 35     | 60.0      "
        "| 72.5    | 0.25  |",
    ]


def test_what_is_not_installed_is_left_out(monkeypatch):
    absent = {"jax", "openvino", "onnxscript"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in absent else name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert left_out(input_shape=SHAPE) == {
        "Keras on JAX": "jax",
        "PyTorch peer, torch.compile": "a C++ compiler",
        "PyTorch peer, ONNX Runtime": "onnxscript",
        "PyTorch peer, OpenVINO": "openvino and onnxscript",
    }
    assert left_out(contestants=["Keras on PyTorch"]) == {}
    plain = [name for name in CONTESTANTS if "plain" in name]
    assert left_out(input_shape=(32, 32, 32, 1), contestants=plain).keys() == set(plain)
    assert not left_out("unet", contestants=[REFERENCE])
    monkeypatch.setattr(peers, "has", lambda network: network == "lgmsnet")
    assert left_out("unet", contestants=[REFERENCE]) == {REFERENCE: "U-Net in plain PyTorch"}


def test_a_missing_peer_is_named(monkeypatch):
    monkeypatch.setattr(exports, "require_installed", lambda: None)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else find(name)
    )
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras-lgmsnet\[torch\]'"):
        benchmark_exports()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contestants": ["LiteRT"]}, r"LiteRT, int8; .*Received: LiteRT$"),
        ({"repeats": 0}, "Received: repeats=0"),
        ({"threads": (1, 0)}, "Received: threads=0"),
        ({"network": "unett"}, "did you mean unet"),
        ({"input_shape": (30, 32, 3)}, r"\(32, 32\), the nearest\. Received: \(30, 32\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        benchmark_exports(**arguments)


def start_thread(backend, threads, gpu) -> ThreadPoolExecutor:
    """Stand in for a process, which would spend its time on imports."""
    return ThreadPoolExecutor(1)


@pytest.mark.tensorflow
def test_a_network_that_cannot_be_built_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setattr(exports, "start_worker", start_thread)
    with pytest.raises(ValueError, match=r"cannot be written\. .* no argument 'dim'; .* dims\?"):
        benchmark_exports(arguments={"dim": 4}, contestants=[], threads=[1])


@pytest.fixture
def outputs(monkeypatch) -> dict[tuple[str, str], np.ndarray]:
    """Return what will hold the logits by runtime and file; time in threads, and briefly."""
    outputs = {}
    call, threads = exports._call, torch.get_num_threads()

    def recorded(runtime, path, input_shape, threads):
        predict = call(runtime, path, input_shape, threads)
        outputs[runtime, os.path.basename(path)] = predict()
        return predict

    monkeypatch.setattr(exports, "start_worker", start_thread)
    monkeypatch.setattr(exports, "_call", recorded)
    monkeypatch.setattr(exports, "CALLS", 2)
    yield outputs
    torch.set_num_threads(threads)


# PyTorch's exporter uses what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("lgmsnet", {"dims": (4, 4, 4, 4, 4), "kernel_sizes": (3, 5)}),
        ("unet", {"filters": (4, 8, 8), "block": "gms"}),
    ],
)
def test_contestants_are_one_network(outputs, network, arguments):
    of_peer = ["PyTorch peer, ONNX Runtime", "PyTorch peer, OpenVINO"]
    names = ["LiteRT, float32", "ONNX Runtime", "Keras on TensorFlow", *of_peer]
    rows = benchmark_exports(
        network, arguments, input_shape=SHAPE, contestants=names, repeats=2, threads=[1]
    )

    timed = {*names, REFERENCE} - left_out(network).keys()
    assert {row.contestant for row in rows} == timed
    expected = np.moveaxis(outputs.pop(("torch", "peer.pt")), 1, -1)
    assert expected.std() > 1e-4
    for (_, file), logits in outputs.items():
        logits = np.moveaxis(logits, 1, -1) if file == "peer.onnx" else logits
        np.testing.assert_allclose(logits, expected, atol=0.01 * expected.std(), err_msg=file)
    for row in rows:
        assert 0 < row.median_seconds <= row.p95_seconds
        assert row.file_bytes > 10_000
        assert row.ratio == row.median_seconds / row.reference_seconds
    shares = {row.contestant: row.delegated_share for row in rows}
    assert shares["LiteRT, float32"] == 1
    assert shares["ONNX Runtime"] is None


@pytest.mark.tensorflow
def test_a_network_without_a_peer_is_timed_alone(outputs, monkeypatch):
    monkeypatch.setattr(peers, "has", lambda network: False)
    (row,) = benchmark_exports(
        arguments={"dims": (4, 4, 4, 4, 4)},
        input_shape=SHAPE,
        contestants=["LiteRT, float32", REFERENCE],
        repeats=1,
        threads=[1],
    )
    assert outputs.keys() == {("litert", "model_float32.tflite")}
    assert row.reference_seconds is row.ratio is None
    assert format_export_table([row]).splitlines()[-1].rstrip("| ").endswith("–")

"""The runtimes that are timed: what each needs, and how each opens a file of the network.

Importing this module imports none of them: a worker has its own alone.
"""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lgmsnet.benchmark.cases import Case

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """What computes the logits of an image from a file.

    Args:
        open: From a file's path and a number of threads to what predicts.
        needs: Packages that must be installed.
        imports: What is imported before the file is loaded.
        compiles: Whether it needs a C++ compiler.
    """

    open: Callable[[str, int], Predict]
    needs: tuple[str, ...]
    imports: tuple[str, ...]
    compiles: bool = False

    def missing(self) -> list[str]:
        """Return what it needs and has not."""
        missing = not_installed(self.needs)
        if self.compiles and not shutil.which(os.environ.get("CXX", "g++")):
            missing.append("a C++ compiler")
        return missing


def not_installed(packages: Iterable[str]) -> list[str]:
    """Return those packages that are not installed, without importing any."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def _open_litert(path: str, threads: int) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path, num_threads=threads).get_signature_runner()
    return lambda image: run(image=image)["logits"]


def _open_onnxruntime(path: str, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["logits"], {"image": image})[0]


def _open_saved_model(path: str, threads: int) -> Predict:
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    return lambda image: serve(image=tf.constant(image))["logits"].numpy()


def _open_keras(path: str, threads: int) -> Predict:
    import keras

    return keras.saving.load_model(path).predict_on_batch


def _open_torch(path: str, threads: int, compiled: bool = False) -> Predict:
    import torch

    torch.set_num_threads(threads)
    saved = torch.load(path)
    network = Case(**saved["case"]).create_peer().eval()
    network.load_state_dict(saved["weights"])
    if compiled:
        # Otherwise what an earlier process compiled is taken from a folder that all share.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{Path(path).parent}/compiled_{threads}"
    compute = torch.compile(network) if compiled else network

    @torch.inference_mode()
    def predict(image: np.ndarray) -> np.ndarray:
        return compute(torch.from_numpy(image)).numpy()

    return predict


def _open_openvino(path: str, threads: int) -> Predict:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # it may be bfloat16 otherwise
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = openvino.Core().compile_model(path, "CPU", options)
    return lambda image: network(image)[0]


RUNTIMES = {
    "litert": Runtime(_open_litert, ("ai_edge_litert",), ("ai_edge_litert.interpreter",)),
    "onnxruntime": Runtime(_open_onnxruntime, ("onnxruntime",), ("onnxruntime",)),
    "tensorflow": Runtime(_open_saved_model, ("tensorflow",), ("tensorflow",)),
    "keras": Runtime(_open_keras, (), ("keras",)),
    "torch": Runtime(_open_torch, ("torch",), ("torch",)),
    "torch.compile": Runtime(
        functools.partial(_open_torch, compiled=True),
        ("torch",),
        ("torch", "torch._inductor.compile_fx"),
        compiles=True,
    ),
    "openvino": Runtime(_open_openvino, ("openvino",), ("openvino",)),
}

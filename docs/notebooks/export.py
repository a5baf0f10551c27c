# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Export a network and use it
#
# From a run to files that need neither Keras nor this package: a TFLite model in LiteRT, as a phone
# runs it, and an ONNX model in ONNX Runtime, as a server does. One minute on two cores.
#
# It needs `pip install 'keras-lgmsnet[torch,export]'`. For research use only. Not a medical device.

# %%
import os

# Keras reads it when it is imported. PyTorch compiles nothing, so short runs are quickest on it;
# "jax" and "tensorflow" take its place for long ones, where they are installed.
os.environ["KERAS_BACKEND"] = "torch"

# %%
import csv
import json
import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

import keras_lgmsnet as kl
from keras_lgmsnet.data.synthetic import generate

folder = Path(tempfile.mkdtemp(prefix="lgmsnet-"))
print(f"All that follows is written to {folder}")

# %% [markdown]
# ## A run
#
# The bundled `quickstart` on generated images, made very short. Take any run of yours instead.

# %%
recipe = kl.recipe.override(
    kl.recipe.load_recipe("quickstart"),
    [
        "model.dims=8,16,16,16,16",
        "data.image_size=64,64",
        "training.batch_size=8",
        "training.learning_rate=0.1",
        "data.num_images=32",
        "training.epochs=3",
    ],
)
run = kl.training.train(recipe, folder / "run")

# %% [markdown]
# ## Export
#
# Each file is opened in the runtime that its users have and run beside the Keras network on the
# run's held-out images. One that agrees less than is promised fails the export, and nothing is
# written.

# %%
exported = kl.export.export(run, folder / "exported", ["tflite", "onnx"])
sorted(path.name for path in (folder / "exported").iterdir())

# %% [markdown]
# How well they agree, over all images and image by image:

# %%
for name, file in exported["files"].items():
    agreement = file["agreement"]
    print(
        f"{name}: {file['bytes'] / 1e6:.2f} MB, probabilities off by at most "
        f"{agreement['max_probability_difference']:.1e}, "
        f"{agreement['changed_pixels']:.2%} of the pixels changed"
    )

with open(folder / "exported/agreement.csv", newline="") as file:
    for row in list(csv.DictReader(file))[:3]:
        print(row["file"], row["id"], row["max_probability_difference"])

# %% [markdown]
# ## How to feed it
#
# Every file says so itself. `model_card.md` has it for people, `export.json` for programs.

# %%
description = json.loads((folder / "exported/export.json").read_text())
print(description["input"]["resize"]["rule"])
print(description["output"]["rule"])
description["input"], description["output"]

# %% [markdown]
# ## A picture, as any program has it
#
# 8-bit RGB of any size, resized whole to the size that the network takes. Nothing else: the
# normalisation is inside the file.

# %%
picture = generate(1, image_size=(160, 192), seed=1).images[0]
_, height, width, _ = description["input"]["shape"]
image = cv2.resize(picture, (width, height))[None]
image.shape, image.dtype

# %% [markdown]
# ## LiteRT, as on a phone

# %%
network = Interpreter(str(folder / "exported/model_float32.tflite")).get_signature_runner()
by_litert = network(image=image)["logits"]
by_litert.shape, by_litert.dtype

# %% [markdown]
# ## ONNX Runtime, as on a server

# %%
session = onnxruntime.InferenceSession(
    folder / "exported/model_float32.onnx", providers=["CPUExecutionProvider"]
)
(by_onnx,) = session.run(["logits"], {"image": image})

print(f"Logits of the two differ by at most {np.abs(by_litert - by_onnx).max():.1e}")
assert np.allclose(by_litert, by_onnx, atol=1e-3)

# %% [markdown]
# ## Back to the picture's size
#
# Logits become probabilities; these are resized, not the mask, and compared with 0.5 then.

# %%
probability = 1 / (1 + np.exp(-by_litert[0, ..., 0]))
probability = cv2.resize(probability, picture.shape[1::-1])

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
shown = {"picture": picture, "probability": probability, "mask": probability > 0.5}
for ax, (title, pixels) in zip(axes, shown.items(), strict=True):
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=None if title == "picture" else 1)
    ax.set_title(title)
    ax.axis("off")

# %% [markdown]
# Four epochs find little; the steps are those of any run. For an app, see the page on phones.

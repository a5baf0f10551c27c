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
# # Quickstart on a CPU
#
# Train a small LGMSNet on generated ultrasound-like images, look at its curves, segment a picture
# that it never saw, and score it: one minute on two cores, no GPU, no download.
#
# It needs `pip install 'keras-lgmsnet[torch,train]'`. For research use only. Not a medical device.

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

import keras_lgmsnet as kl
from keras_lgmsnet.data.synthetic import generate

folder = Path(tempfile.mkdtemp(prefix="lgmsnet-"))
print(f"All that follows is written to {folder}")

# %% [markdown]
# ## The images
#
# Dark lesions in layers of tissue, drawn from a seed. Image and mask lie side by side; your own
# would be files in two folders, `images/` and `masks/`, and the recipe `image_folder`.

# %%
examples = generate(4, image_size=(64, 64), seed=0)
figure, axes = plt.subplots(2, 4, figsize=(8, 4))
for column, (image, mask) in enumerate(
    zip(examples.images, examples.segmentation_masks, strict=True)
):
    axes[0, column].imshow(image)
    axes[1, column].imshow(mask[..., 0], cmap="gray", vmin=0, vmax=1)
for ax in axes.flat:
    ax.axis("off")

# %% [markdown]
# ## The recipe
#
# A recipe is everything that decides a run. This one is the bundled `quickstart`, made shorter: a
# narrower network, smaller images, fewer epochs. `override` takes what `--set` takes on the command
# line.

# %%
recipe = kl.recipe.override(
    kl.recipe.load_recipe("quickstart"),
    [
        "model.dims=8,16,16,16,16",
        "data.image_size=64,64",
        "training.batch_size=8",
        "training.learning_rate=0.1",
        "data.num_images=60",
        "training.epochs=8",
    ],
)
recipe

# %% [markdown]
# ## Train
#
# `lgms-train` does the same. The run directory holds all that the other verbs need.

# %%
run = kl.training.train(recipe, folder / "run")
sorted(path.name for path in run.iterdir())

# %% [markdown]
# ## Curves
#
# The network of the best epoch, by its IoU on the validation images, is the one that is kept.

# %%
with open(run / "history.csv", newline="") as file:
    history = list(csv.DictReader(file))
metrics = json.loads((run / "metrics.json").read_text())

figure, axes = plt.subplots(1, 2, figsize=(8, 3))
epochs = range(1, len(history) + 1)
for ax, name in zip(axes, ("loss", "iou"), strict=True):
    for part in (name, f"val_{name}"):
        ax.plot(epochs, [float(epoch[part]) for epoch in history], label=part)
    ax.axvline(metrics["best_epoch"], color="gray", linestyle=":", label="kept")
    ax.set_xlabel("epoch")
    ax.legend()

# %% [markdown]
# ## Segment a picture
#
# Any picture of any size will do; this one is generated, too, from another seed, and larger than
# those trained on. The mask comes back at the picture's own size.

# %%
picture = generate(1, image_size=(160, 192), seed=1)
cv2.imwrite(str(folder / "picture.png"), picture.images[0][..., ::-1])  # OpenCV writes BGR

(row,) = kl.inference.predict_images(run, folder / "picture.png", folder / "predicted")
print(row.found)
print(row.flags)  # in what the picture is unlike those trained on

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
shown = {
    "truth": picture.segmentation_masks[0, ..., 0],
    "mask": plt.imread(folder / "predicted/masks/picture.png"),
    "overlay": plt.imread(folder / "predicted/overlays/picture.png"),
}
for ax, (title, pixels) in zip(axes, shown.items(), strict=True):
    ax.imshow(pixels, cmap="gray")
    ax.set_title(title)
    ax.axis("off")

# %% [markdown]
# ## Score the run
#
# Image by image, on what the run held out: the mean of each score with the interval that holds it
# with 95 % confidence. The best epoch was picked by the same images, which flatters it; the caution
# says so.

# %%
evaluation = kl.evaluation.evaluate(run)
print(kl.evaluation.format_table(evaluation))

# %% [markdown]
# An IoU of this run means little: it is of a tenth of the training that the network needs. The
# command in the README trains the whole quickstart, in minutes.

"""Breast lesions in ultrasound (BUSI), as `busi.py` but augmented by keras-cv's layers.

    pip install 'keras-lgmsnet[keras-cv]'
    lgms-train recipes/busi_keras_cv.py --manual-dir FOLDER_OF_BUSI

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 500 epochs of 452 images at 256 × 256.
Expected: not measured; the paper's 73.40 ± 2.0 % IoU, 81.82 ± 1.9 % F1 are of `busi.py`.

Instead of quarter turns: flips, rotations by up to 18°, zooms by up to 15 % and changes of
brightness and contrast by up to 20 % (ultrasound has no colour), drawn anew for every image of
every epoch from `training.seed`. A run is as reproducible as with the built-in augmentations, on
every backend; keras-cv's layers need TensorFlow beside any other. Layers and arguments are
keras-cv's own:
`--set "data.augmentation={'RandomFlip': {}, 'RandomZoom': {'height_factor': 0.2}}"`.
"""

from keras_lgmsnet.recipe import Data, Recipe

recipe = Recipe(
    data=Data(
        source="busi",
        augmentation={
            "RandomFlip": {"mode": "horizontal_and_vertical"},
            "RandomRotation": {"factor": 0.05, "fill_mode": "constant"},
            "RandomZoom": {"height_factor": 0.15, "fill_mode": "constant"},
            "RandomBrightness": {"factor": 0.2},
            "RandomContrast": {"factor": 0.2},
        },
    )
)

"""Breast lesions in ultrasound (BUSI), as `busi.py` but augmented by keras-cv's layers.

    pip install 'keras-lgmsnet[keras-cv]'
    lgms-train recipes/busi_keras_cv.py --manual-dir FOLDER_OF_Dataset_BUSI_with_GT

Hardware: one CUDA GPU.
Time: not measured here; 500 epochs of 452 images at 256 × 256.
Expected: not measured; the paper's 73.40 ± 2.0 % IoU, 81.82 ± 1.9 % F1 are of `busi.py`.

Instead of quarter turns: flips, rotations by up to 18°, zooms by up to 15 % and changes of
brightness, contrast, saturation and hue, drawn anew for every image of every epoch from
`training.seed`. A run is as reproducible as with the built-in augmentations, on every backend;
keras-cv's layers need TensorFlow beside any other. Layers and arguments are keras-cv's own:
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
            "RandomColorJitter": {
                "brightness_factor": 0.2,
                "contrast_factor": 0.2,
                "saturation_factor": (0.45, 0.55),  # 0.5 is no change
                "hue_factor": 0.02,
            },
        },
    )
)

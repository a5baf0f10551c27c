"""Polyps in colonoscopy (Kvasir-SEG), with the published settings.

    lgms-train recipes/kvasir.py --manual-dir FOLDER_OF_Kvasir-SEG

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 300 epochs of 800 images at 256 × 256.
Expected: test IoU 88.14 ± 0.3 %, F1 93.04 ± 0.3 % (the paper's mean over three runs; the best epoch
    is picked on the 100 validation images, the score is that of the 100 test images).
"""

from keras_lgmsnet.recipe import Data, Recipe, Training

recipe = Recipe(
    data=Data(
        source="kvasir_seg",
        interpolation="lanczos",
        test_fraction=0.1,
        validation_fraction=0.111,  # of the rest: 100 of 900 images
        split_seed=58800,
        augmentation="kvasir",
    ),
    training=Training(epochs=300, batch_size=8, learning_rate=0.01),
)

"""Breast lesions in ultrasound (BUSI), with the published settings but for the normalisation.

    lgms-train recipes/busi.py --manual-dir FOLDER_OF_BUSI

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 500 epochs of 452 images at 256 × 256.
Expected: validation IoU 73.40 ± 2.0 %, F1 81.82 ± 1.9 % (the paper's three splits; each repeat
    picked its best epoch on the images it reports, which flatters).

Images are normalised once; the paper's scores come from its program's literal arithmetic, which
`--set data.preprocessing=published` repeats. The paper's splits 1, 2 and 3 are
`--set data.split_seed=41`, `64` and `1337`. Normal cases, without a lesion, are left out.
"""

from keras_lgmsnet.recipe import Data, Recipe

recipe = Recipe(data=Data(source="busi"))

"""LGMSNet's blocks in other networks (the paper's Table 6), on BUSI, as `busi.py` trains.

    lgms-train recipes/study_blocks.py --manual-dir FOLDER_OF_BUSI --split-seeds 41,64,1337

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured; each run is 500 epochs of 452 images at 256 × 256.
Expected: not measured. The paper prints, of the mean validation IoU over its splits, 66.21 % for
    TinyU-Net, 68.95 % with LMS and 69.98 % with GMS blocks; 68.61 %, 71.95 % and 72.48 % for U-Net.

How the blocks are wired is not published: see `lgms-networks tinyunet` and `lgms-networks unet`.
"""

import dataclasses

from keras_lgmsnet.recipe import Model, load_recipe

_BUSI = load_recipe("busi")

study = {
    f"{title}{suffix}": dataclasses.replace(_BUSI, model=Model(network=network, block=block))
    for title, network in (("TinyU-Net", "tinyunet"), ("U-Net", "unet"))
    for suffix, block in (("", None), (" + LMS", "lms"), (" + GMS", "gms"))
}

"""The networks of the paper's Table 3 on 13 organs in abdominal CT (BTCV), as `btcv.py` trains.

    lgms-train recipes/study_btcv.py --manual-dir FOLDER_OF_RawData

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured; each run is 5000 epochs of 24 volumes, each with 4 patches of 96 × 96 × 96
    voxels.
Expected: not measured. The paper prints, of the mean Dice over the organs, LGMSNet 84.10 %,
    SegMamba 83.19 %, MedNeXt 82.71 %, Swin UNETR 82.57 %, 3D UX-Net 82.56 % and UNETR 79.03 %.

All are validated on the same six volumes, so there is one split. The LGMSNet here is that of the
published program, which has fewer parameters than the paper's.
"""

from keras_lgmsnet.recipe import load_recipe, study_of_networks

study = study_of_networks(
    load_recipe("btcv"),
    ["segmamba", "mednext", "swin_unetr", "unetr", "ux_net", "lgmsnet"],
)

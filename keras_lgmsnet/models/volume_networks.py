"""The networks for volumes: `keras_lgmsnet.models.registry` finds them by name."""

from keras_lgmsnet.models.network import U_STAGES, Network, Published, fixed, halved

NETWORKS = (
    Network(
        name="lgmsnet",
        rank=3,
        title="LGMSNet",
        module="keras_lgmsnet.models.lgmsnet",
        class_name="LGMSNet3D",
        stages=U_STAGES,
        sides=fixed(divisor=32),  # four poolings, and 2-wide patches in the deepest block
        paper="Thinning a medical image segmentation model via dual-level multiscale fusion, 2025",
        program="https://github.com/cq-dong/LGMSNet",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=6_193_742,
                parameters_in_program=6_193_742,
                parameters_counted=6_193_614,
                multiply_adds=67_779_707_904,
                printed="9.86 M (Table 3)",
                remark="Another configuration than the published program's, whose count this is.",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=3,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet3D",
        stages=("encoder1", "encoder2", "encoder3", "encoder4", "decoder4", "decoder3", "decoder2"),
        sides=halved("filters", 4),
        paper="Çiçek et al., 3D U-Net, MICCAI 2016",
        program=None,
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=19_073_614,
                parameters_in_program=None,
                parameters_counted=19_068_942,
                multiply_adds=826_016_071_680,
                printed="19,069,955 with three channels and three classes (its paper)",
                remark="Its paper does not count the batch norms, and pads nothing.",
            ),
        ),
    ),
    Network(
        name="swin_unetr",
        rank=3,
        title="Swin UNETR",
        module="keras_lgmsnet.models.swin_unetr",
        class_name="SwinUNETR3D",
        stages=(
            *("transformer1", "transformer2", "transformer3", "transformer4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder10"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        # Patches of 2 voxels, merged four times, in windows.
        sides=fixed(divisor=32, may_be_unknown=False),
        paper="Hatamizadeh et al., Swin UNETR, MICCAI BrainLes 2021",
        program="https://github.com/Project-MONAI/MONAI (version 0.9.0)",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=62_187_296,
                parameters_in_program=62_187_296,
                parameters_counted=61_989_566,
                multiply_adds=308_896_874_520,
                printed="61.98 M (LGMSNet's Table 3)",
                remark="The printed count does not have the tables of positions (197,730), and is "
                "cut off after two decimals. The tool that it is by finds 329.84 G: it multiplies "
                "the kernels of transposed convolutions by their outputs (20.96 G more), and knows "
                "no norms without parameters (0.01 G less).",
            ),
        ),
    ),
)

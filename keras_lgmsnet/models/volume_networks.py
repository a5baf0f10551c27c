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
        name="mednext",
        rank=3,
        title="MedNeXt",
        module="keras_lgmsnet.models.mednext",
        class_name="MedNeXt3D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"),
            *("decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16),
        paper="Roy et al., MedNeXt, MICCAI 2023",
        program="https://github.com/MIC-DKFZ/MedNeXt",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=10_526_702,
                parameters_in_program=10_526_703,
                parameters_counted=10_517_934,
                multiply_adds=71_051_663_616,
                printed="10.51 M (LGMSNet's Table 3)",
                remark="The printed count is thop's (10,517,934), cut after two decimals, which "
                "leaves out the 8,768 scales and offsets of the norms. The program has one idle "
                "parameter. thop itself finds 74.59 G: it counts transposed convolutions by their "
                "outputs (5.52 G for 1.07), and no norms (0.91 G).",
            ),
        ),
    ),
)

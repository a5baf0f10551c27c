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
        name="segmamba",
        rank=3,
        title="SegMamba",
        module="keras_lgmsnet.models.segmamba",
        class_name="SegMamba3D",
        stages=(
            *("scan1", "scan2", "scan3", "scan4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16, may_be_unknown=False),
        paper="Xing et al., SegMamba, MICCAI 2024",
        program="https://github.com/ge-xing/SegMamba",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=67_363_262,
                parameters_in_program=67_363_262,
                parameters_counted=65_183_102,
                multiply_adds=616_046_819_328,
                printed="65.18 M (LGMSNet's Table 3)",
                remark="The printed count is that of Mambas of one order, of which the tool sees "
                "two dense layers and the convolution; no program with such is published. Of the "
                "multiply-adds, 4.06 G are the scans', three a state and token.",
            ),
        ),
    ),
)

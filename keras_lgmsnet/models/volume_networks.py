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
        name="unetr",
        rank=3,
        title="UNETR",
        module="keras_lgmsnet.models.unetr",
        class_name="UNETR3D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "transformer"),
            *("decoder5", "decoder4", "decoder3", "decoder2"),
        ),
        sides=fixed(divisor=16, may_be_unknown=False),  # a patch's, with a position each
        paper="Hatamizadeh et al., UNETR, WACV 2022",
        program="https://github.com/Project-MONAI/research-contributions",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=92_784_046,
                parameters_in_program=92_784_046,
                parameters_counted=92_618_158,
                multiply_adds=72_618_242_688,
                printed="92.61 M (LGMSNet's Table 3), 92.58 M (its paper)",
                remark="The printed count does not have the table of positions (165,888).",
            ),
        ),
    ),
    Network(
        name="ux_net",
        rank=3,
        title="3D UX-Net",
        module="keras_lgmsnet.models.ux_net",
        class_name="UXNet3D",
        stages=(
            *("stage1", "stage2", "stage3", "stage4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16),
        paper="Lee et al., 3D UX-Net, ICLR 2023",
        program="https://github.com/MASILab/3DUX-Net",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=53_006_510,
                parameters_in_program=53_006_510,
                parameters_counted=52_999_982,
                multiply_adds=578_767_140_864,
                printed="53.01 M (LGMSNet's Table 3)",
                remark="All parameters count in the printed number.",
            ),
        ),
    ),
)

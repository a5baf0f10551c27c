"""The networks for images: `keras_lgmsnet.models.registry` finds them by name."""

from keras_lgmsnet.models.network import U_STAGES, Network, Published, fixed, halved

NETWORKS = (
    Network(
        name="lgmsnet",
        rank=2,
        title="LGMSNet",
        module="keras_lgmsnet.models.lgmsnet",
        class_name="LGMSNet2D",
        stages=U_STAGES,
        sides=fixed(divisor=32),  # four poolings, and 2-wide patches in the deepest block
        paper="Thinning a medical image segmentation model via dual-level multiscale fusion, 2025",
        program="https://github.com/cq-dong/LGMSNet",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=2_321_393,
                parameters_in_program=2_321_393,
                parameters_counted=2_321_265,
                multiply_adds=4_892_515_328,
                printed="2.32 M, 4.89 G (Table 1)",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=2,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet2D",
        stages=U_STAGES,
        sides=halved("filters", 5),
        paper="Ronneberger et al., U-Net, MICCAI 2015, in the form that LGMSNet's paper compares",
        program="https://github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=34_527_041,
                parameters_in_program=34_527_041,
                parameters_counted=34_527_041,
                multiply_adds=65_522_368_512,
                printed="34.52 M, 65.52 G (LGMSNet's Table 1)",
            ),
            Published(
                arguments={"block": "lms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=17_330_081,
                parameters_in_program=None,
                parameters_counted=17_328_161,
                multiply_adds=52_309_524_480,
                printed="17.33 M (LGMSNet's Table 6)",
                remark="The wiring is not published; it follows LGMSNet's own encoder stages.",
            ),
            Published(
                arguments={"block": "gms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=19_182_113,
                parameters_in_program=None,
                parameters_counted=19_180_705,
                multiply_adds=54_211_768_320,
                printed="19.18 M (LGMSNet's Table 6)",
                remark="The wiring is not published, and this one a proposal: others have as many "
                "parameters.",
            ),
        ),
    ),
    Network(
        name="cmunext",
        rank=2,
        title="CMUNeXt",
        module="keras_lgmsnet.models.cmunext",
        class_name="CMUNeXt2D",
        stages=U_STAGES,
        sides=fixed(divisor=16),
        paper="Tang et al., CMUNeXt, ISBI 2024",
        program="https://github.com/FengheTan9/CMUNeXt",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=3_149_185,
                parameters_in_program=3_149_185,
                parameters_counted=3_149_185,
                multiply_adds=7_417_733_120,
                printed="3.14 M, 7.41 G (LGMSNet's Table 1)",
            ),
        ),
    ),
)

"""The plain-PyTorch networks against hand-computed cases and frozen numbers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from keras_lgmsnet.benchmark import peers, torch_losses
from keras_lgmsnet.benchmark.peers import lgmsnet as peer
from keras_lgmsnet.models import registry
from tests.fixtures import generate
from tests.helpers import frozen, reference

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    ("rank", "in_channels", "num_classes", "dims", "count"),
    [
        (2, 3, 1, (16, 32, 64, 128, 128), 2_321_393),
        (3, 1, 14, (16, 32, 64, 128, 128), 6_193_742),
        (3, 1, 14, (32, 64, 128, 128, 160), 9_885_214),
        (3, 1, 14, (32, 64, 128, 160, 256), 14_756_686),
    ],
)
def test_parameter_count(rank, in_channels, num_classes, dims, count):
    model = peer.LGMSNet(rank, in_channels, num_classes, dims)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("rank", [2, 3])
def test_parameters_carry_the_published_names(rank):
    model = peer.LGMSNet(rank, reference.IMAGE_SHAPES[rank][-1], reference.NUM_CLASSES[rank])
    assert generate.shapes(model) == reference.load()[f"{rank}d"]["parameters"]


@pytest.mark.parametrize("rank", [2, 3])
def test_stages_reproduce_the_frozen_numbers(rank):
    frozen = reference.load()[f"{rank}d"]["stages"]
    stages = generate.stages(rank)
    assert stages.keys() == frozen.keys()
    for name, stage in stages.items():
        assert stage["shape"] == frozen[name]["shape"]
        for number in ("mean", "std", "samples"):
            np.testing.assert_allclose(stage[number], frozen[name][number], atol=1e-9, err_msg=name)


def test_training_reproduces_the_frozen_numbers():
    frozen = reference.load()["training_2d"]
    training = generate.training()
    np.testing.assert_allclose(training["losses"], frozen["losses"], rtol=1e-7)
    assert training["gradient_norms"] == pytest.approx(frozen["gradient_norms"], rel=1e-7, abs=1e-9)


def test_bce_dice_loss_of_undecided_logits():
    loss = torch_losses.bce_dice_loss(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 1 - 2 / 3, abs=1e-6)


def test_dice_ce_loss_of_undecided_logits():
    loss = torch_losses.dice_ce_loss(
        torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    )
    dice = (2 * 0.5 / (0.25 + 1), 0)  # of the class that fills the volume and of the absent one
    assert loss.item() == pytest.approx(math.log(2) + 1 - sum(dice) / 2, abs=1e-6)


def test_patches_of_a_4_by_4_image():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    assert peer.unfold_patches(image)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("sides", [(4, 6), (2, 4, 6)])
def test_fold_patches_inverts_unfold_patches(sides):
    x = torch.randn(2, 3, *sides)
    assert torch.equal(peer.fold_patches(peer.unfold_patches(x), sides), x)


def test_attention_equals_scaled_dot_product_attention():
    attention = peer.Attention(channels=5)
    tokens = torch.randn(2, 4, 6, 5)
    query, key, value = attention.to_qkv(attention.norm(tokens)).reshape(2, 4, 6, 3, 4, 8).unbind(3)
    expected = functional.scaled_dot_product_attention(
        query.transpose(2, 3), key.transpose(2, 3), value.transpose(2, 3)
    )
    expected = attention.to_out(expected.transpose(2, 3).reshape(2, 4, 6, 32))
    torch.testing.assert_close(attention(tokens), expected)


@pytest.mark.parametrize(
    ("transformer_ratio", "branches"),
    [(0, {"conv_spilt"}), (0.5, {"conv_spilt", "transformer"}), (1, {"transformer"})],
)
@pytest.mark.parametrize("rank", [2, 3])
def test_gms_block_has_the_branches_its_ratio_asks_for(rank, transformer_ratio, branches):
    block = peer.GMSBlock(rank, in_channels=5, filters=6, transformer_ratio=transformer_ratio)
    assert branches == {"conv_spilt", "transformer"} & {k.split(".")[0] for k in block.state_dict()}
    assert block(torch.randn(2, 5, *[4] * rank)).shape == (2, 6, *[4] * rank)


@pytest.mark.parametrize("rank", [2, 3])
def test_lms_block_with_another_number_of_kernel_sizes(rank):
    block = peer.LMSBlock(rank, channels=6, kernel_sizes=(3, 5, 11), activation="silu")
    kernels = [tuple(block.get_parameter(f"dwc_{i}.weight").shape) for i in range(3)]
    assert kernels == [(2, 1, *[kernel_size] * rank) for kernel_size in (3, 5, 11)]
    assert block(torch.randn(2, 6, *[4] * rank)).shape == (2, 6, *[4] * rank)


def test_peers_are_found_by_name():
    assert peers.has("lgmsnet")
    assert peers.has("unet")
    assert not peers.has("resnet")
    assert isinstance(peers.create("lgmsnet", 2, 3, 1, dims=(4, 4, 4, 4, 4)), peer.LGMSNet)
    with pytest.raises(ModuleNotFoundError, match="resnet"):
        peers.create("resnet", 2, 3, 1)
    with pytest.raises(ValueError, match="peer of 'unet' in PyTorch does not know dims: leave it"):
        peers.create("unet", 2, 3, 1, dims=(4, 4))


@pytest.mark.parametrize(
    "network",
    [network for network in registry.NETWORKS if peers.has(network.name)],
    ids=lambda network: network.class_name,
)
def test_peers_have_the_published_parameters(network):
    for published in network.published:
        with torch.device("meta"):  # shapes only
            module = peers.create(
                network.name,
                network.rank,
                published.input_shape[-1],
                published.num_classes,
                **published.arguments,
            )
        count = sum(parameter.numel() for parameter in module.parameters())
        assert count == published.parameters


@pytest.mark.parametrize("name", ["unet", "unet_lms", "unet_gms", "unet_3d"])
def test_unet_carries_the_published_names(name):
    expected = frozen.load(name)
    shape = expected["cases"][0]["input_shape"]
    num_classes = expected["cases"][0]["stages"]["logits"]["shape"][-1]
    with torch.device("meta"):
        module = peers.create(
            "unet", len(shape) - 2, shape[-1], num_classes, **expected["arguments"]
        )
    assert generate.shapes(module) == expected["parameters"]


def test_unet_reproduces_the_frozen_numbers():
    """With the GMS block: it has all the parts of U-Net for images."""
    expected = frozen.load("unet_gms")
    (case,) = expected["cases"]
    network = peers.create("unet", 2, case["input_shape"][-1], 1, **expected["arguments"])
    weights = frozen.draw_weights(expected["parameters"], case["salt"])
    network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    network.double().eval()
    outputs = {}
    for stage in case["stages"]:
        module = network.get_submodule({"logits": "Conv_1x1"}.get(stage, stage))
        module.register_forward_hook(
            lambda module, inputs, output, stage=stage: outputs.update({stage: output})
        )
    images = frozen.draw_images(case["input_shape"], case["input_seed"])
    with torch.inference_mode():
        network(generate.channels_first(images))
    assert outputs.keys() == case["stages"].keys()
    for name, stage in case["stages"].items():
        output = outputs[name].movedim(1, -1).numpy()
        assert list(output.shape) == stage["shape"]
        samples = output.ravel()[frozen.positions(output.size)]
        np.testing.assert_allclose(samples, stage["samples"], atol=1e-9, err_msg=name)
        np.testing.assert_allclose(output.std(), stage["std"], atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("rank", "filters", "block"),
    [(2, (8, 12), "lms"), (2, (4, 8, 8), "gms"), (2, (4, 8), None), (3, (4, 8, 12), None)],
)
def test_unet_of_other_widths(rank, filters, block):
    """Two levels have no last stage but one below the first: all blocks are LMS blocks."""
    network = peers.create("unet", rank, 2, 3, filters=filters, block=block)
    assert network(torch.randn(2, 2, *[8] * rank)).shape == (2, 3, *[8] * rank)

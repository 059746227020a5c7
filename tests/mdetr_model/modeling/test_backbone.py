"""Image encoders: frozen norms, "same" padding, sizes, and the influence of padding."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertConfig, EfficientNetConfig, PreTrainedConfig, ResNetConfig

from mdetr_model.modeling.backbone import (
    BATCH_NORM_EPSILON,
    FrozenBatchNorm2d,
    SamePadding,
    image_encoder,
)
from mdetr_model.modeling.configuration_mdetr import backbone_config_for
from mdetr_model.modeling.position_encoding import sine_positions
from mdetr_model.training.optimization import EMA
from tests.mdetr_model.operators import count_operators

BASIC = ResNetConfig(
    layer_type="basic", embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 2, 1, 1]
)
BOTTLENECK = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 2, 1, 1])
EFFICIENT = EfficientNetConfig(
    width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320, drop_connect_rate=0.0
)


def _encoder(config: PreTrainedConfig) -> nn.Module:
    """Returns an encoder whose norms shift zeros, as trained ones do."""
    torch.manual_seed(0)
    encoder = image_encoder(config)
    for module in encoder.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.bias.normal_(std=0.3)
            module.running_mean.normal_(std=0.1)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return encoder.eval()


def test_frozen_batch_norm_equals_its_formula() -> None:
    norm = FrozenBatchNorm2d(3)
    for buffer, value in zip(norm.buffers(), torch.rand(4, 3) + 0.5, strict=True):
        buffer.copy_(value)
    x = torch.randn(2, 3, 4, 5)
    shape = (1, 3, 1, 1)
    scale = norm.weight / (norm.running_var + BATCH_NORM_EPSILON).sqrt()
    expected = (x - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)
    assert torch.allclose(norm.train()(x), expected, atol=1e-6)
    assert not list(norm.parameters())
    assert len(norm.state_dict()) == 4


def _random_norm() -> FrozenBatchNorm2d:
    norm = FrozenBatchNorm2d(3)
    for buffer in norm.buffers():
        buffer.copy_(torch.rand(3) + 0.5)
    return norm


def _by_formula(norm: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=BATCH_NORM_EPSILON
    )


def _in_place(norm: FrozenBatchNorm2d) -> None:
    norm.running_var.mul_(2)


def _replaced(norm: FrozenBatchNorm2d) -> None:
    norm.bias = norm.bias + 1


def _loaded(norm: FrozenBatchNorm2d) -> None:
    norm.load_state_dict(_random_norm().state_dict())


def _assigned(norm: FrozenBatchNorm2d) -> None:
    norm.load_state_dict(_random_norm().state_dict(), assign=True)


def _with_ema(norm: FrozenBatchNorm2d) -> None:
    ema = EMA(norm, 0.5)
    for value in ema.values.values():
        value.add_(1)
    with ema.applied():
        x = torch.randn(1, 3, 4, 4)
        torch.testing.assert_close(norm(x), _by_formula(norm, x))


@pytest.mark.parametrize("change", [_in_place, _replaced, _loaded, _assigned, _with_ema])
def test_frozen_batch_norm_follows_changes_of_its_buffers(
    change: Callable[[FrozenBatchNorm2d], None],
) -> None:
    norm, x = _random_norm(), torch.randn(2, 3, 4, 5)
    norm(x)
    change(norm)
    for mode in (True, False):
        torch.testing.assert_close(norm.train(mode)(x), _by_formula(norm, x))
    copied = copy.deepcopy(norm).double()
    torch.testing.assert_close(copied(x.double()), _by_formula(copied, x.double()))


def test_frozen_batch_norm_first_used_in_inference_mode_can_be_trained_through() -> None:
    norm, x = _random_norm(), torch.randn(2, 3, 4, 5)
    with torch.inference_mode():
        expected = norm(x)
    weight = torch.ones(1, requires_grad=True)
    y = norm(x * weight)
    assert torch.equal(y, expected)
    y.sum().backward()
    assert weight.grad is not None and weight.grad.isfinite()
    with torch.inference_mode():
        loaded = _random_norm()
        torch.testing.assert_close(loaded(x), _by_formula(loaded, x))


@pytest.mark.parametrize("config", [BASIC, BOTTLENECK, EFFICIENT])
def test_frozen_batch_norm_is_one_operator(config: PreTrainedConfig) -> None:
    encoder, x = _encoder(config), torch.randn(2, 3, 64, 64)
    norms = sum(isinstance(module, FrozenBatchNorm2d) for module in encoder.modules())
    counts = []
    for _ in range(2):
        with count_operators() as operators:
            encoder(x)
        counts.append(operators)
    assert norms >= 9
    first, second = counts
    # Rsqrt, two products, a sum and a difference, of the channels.
    assert first.total() - second.total() == 5 * norms
    assert second["addcmul"] == second["convolution"] - _convolutions_without_norm(encoder)
    assert second["addcmul"] == norms
    assert not {"rsqrt", "sub"} & second.keys()


def _convolutions_without_norm(encoder: nn.Module) -> int:
    """Of squeeze and excitation."""
    return sum(isinstance(m, nn.Conv2d) and m.bias is not None for m in encoder.modules())


def test_efficientnet_drops_nothing_in_training() -> None:
    """Whatever its configuration says, as that of the weights in the hub."""
    config = EfficientNetConfig(
        width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320, drop_connect_rate=0.2
    )
    encoder, pixels = _encoder(config), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder.train()(pixels), encoder.eval()(pixels))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 5]), st.integers(1, 2))
@settings(deadline=None, max_examples=100)
def test_same_padding_equals_tensorflow(height: int, width: int, kernel: int, stride: int) -> None:
    """Its definition: ceil(size / stride) outputs, each of its axes padded as little as needed."""
    convolution = nn.Conv2d(1, 1, kernel, stride, bias=False)
    x = torch.rand(1, 1, height, width)
    padded = SamePadding(convolution)(x)
    assert convolution(padded).shape[-2:] == (-(-height // stride), -(-width // stride))
    for size, axis in ((height, 2), (width, 3)):
        needed = (-(-size // stride) - 1) * stride + kernel
        total = needed - size
        assert padded.shape[axis] == needed
        before = total // 2
        inner = padded.narrow(axis, before, size)
        assert torch.equal(inner.sum(), x.sum()) or torch.allclose(inner.sum(), x.sum())
        assert padded.narrow(axis, 0, before).abs().sum() == 0


@pytest.mark.parametrize("size, before", [(7, 1), (8, 0)])
def test_same_padding_depends_on_parity(size: int, before: int) -> None:
    padded = SamePadding(nn.Conv2d(1, 1, 3, 2))(torch.ones(1, 1, size, size))
    assert padded[0, 0, -1, -1] == 0
    assert (padded[0, 0, 0] == 0).all() == bool(before)


@pytest.mark.parametrize("config", [BASIC, BOTTLENECK, EFFICIENT])
@pytest.mark.parametrize("height, width", [(64, 96), (33, 65), (1, 31)])
def test_feature_grid_has_stride_32(config: PreTrainedConfig, height: int, width: int) -> None:
    encoder = _encoder(config)
    features = encoder(torch.randn(1, 3, height, width))
    assert features.shape == (1, encoder.channels, -(-height // 32), -(-width // 32))


@pytest.mark.parametrize(
    "config, height, width", [(BASIC, 75, 90), (BOTTLENECK, 75, 90), (EFFICIENT, 96, 64)]
)
def test_masked_padding_does_not_change_features(
    config: PreTrainedConfig, height: int, width: int
) -> None:
    encoder = _encoder(config)
    image = torch.randn(1, 3, height, width)
    batch = F.pad(image, (0, 160 - width, 0, 128 - height), value=7.0)
    mask = F.pad(torch.ones(1, 1, height, width), (0, 160 - width, 0, 128 - height))
    unpadded = encoder(image, torch.ones(1, 1, height, width))
    height, width = unpadded.shape[-2:]
    padded = encoder(batch, mask)[..., :height, :width]
    assert torch.allclose(unpadded, padded, atol=1e-5)
    # Without a mask, padding has an effect; on an image without padding, the mask has none.
    assert not torch.allclose(unpadded, encoder(batch * mask)[..., :height, :width], atol=1e-3)
    assert torch.allclose(unpadded, encoder(image), atol=1e-5)


def test_first_resnet_layers_are_frozen() -> None:
    encoder = _encoder(BASIC)
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen
    assert all("embedder" in name or "stages.0." in name for name in frozen)
    assert all(p.requires_grad for p in _encoder(EFFICIENT).parameters())


@pytest.mark.parametrize(
    "name, channels, blocks",
    [
        ("resnet18", 512, 8),
        ("resnet50", 2048, 16),
        ("resnet101", 2048, 33),
        ("efficientnet-b3", 384, 26),
        ("efficientnet-b5", 512, 39),
    ],
)
def test_backbones_of_the_paper_have_their_channels_and_blocks(
    name: str, channels: int, blocks: int
) -> None:
    with torch.device("meta"):
        encoder = image_encoder(backbone_config_for(name))
    assert encoder.channels == channels
    block_count = sum(
        type(m).__name__.endswith(("BasicLayer", "NeckLayer", "Block")) for m in encoder.modules()
    )
    assert block_count == blocks
    assert not any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())


@pytest.mark.parametrize("config", [BASIC, BOTTLENECK, EFFICIENT])
def test_frozen_norms_folded_into_convolutions_give_same_features_and_gradients(
    config: PreTrainedConfig,
) -> None:
    """Compares with applying convolution and norm separately, forward and backward."""
    encoder = _encoder(config)
    x = torch.randn(2, 3, 64, 64)
    folded = encoder(x)
    folded.square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, FrozenBatchNorm2d):
                setattr(module, name, nn.Sequential(child))  # not detected as frozen
    in_turn = encoder(x)
    assert torch.allclose(folded, in_turn, atol=1e-4, rtol=1e-4)
    in_turn.square().sum().backward()
    assert gradients
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max()
            assert torch.allclose(gradients[name], parameter.grad, atol=float(1e-4 * scale)), name


@pytest.mark.parametrize("config", [BASIC, EFFICIENT])
def test_unfrozen_backbone_trains_all_parameters(config: PreTrainedConfig) -> None:
    encoder = image_encoder(config, freeze_norms=False, freeze_first_layers=False)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    encoder.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_initial_efficientnet_features_differ_between_images() -> None:
    torch.manual_seed(0)
    encoder = image_encoder(backbone_config_for("efficientnet-b3"), freeze_norms=False).train()
    features = encoder(torch.randn(2, 3, 96, 96))
    assert (features[0] - features[1]).abs().mean() > 0.1


@pytest.mark.parametrize("freeze_norms", [True, False])
def test_initial_efficientnet_weights_have_expected_deviation(freeze_norms: bool) -> None:
    torch.manual_seed(0)
    encoder = image_encoder(backbone_config_for("efficientnet-b3"), freeze_norms)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            expected = (2 / module.weight[0].numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_fewer_stages_give_smaller_stride() -> None:
    config = ResNetConfig(
        layer_type="basic", embedding_size=8, hidden_sizes=[8, 8, 8], depths=[1, 1, 1]
    )
    encoder = image_encoder(config)
    assert encoder.stride == 16
    assert encoder(torch.randn(1, 3, 65, 96)).shape == (1, 8, 5, 6)
    assert image_encoder(BASIC).stride == image_encoder(EFFICIENT).stride == 32


def test_unsupported_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="'bert'"):
        image_encoder(BertConfig())
    with pytest.raises(ValueError, match="'vgg'"):
        backbone_config_for("vgg")


def _positions(mask: Tensor) -> Tensor:
    return sine_positions(mask, 16)


def test_positions_are_independent_of_padding() -> None:
    unpadded = _positions(torch.ones(1, 3, 4, dtype=torch.bool)).unflatten(1, (3, 4))
    mask = torch.zeros(1, 5, 7, dtype=torch.bool)
    mask[:, :3, :4] = True
    padded = _positions(mask).unflatten(1, (5, 7))
    assert torch.equal(unpadded, padded[:, :3, :4])


def test_positions_are_sines_of_relative_coordinates() -> None:
    positions = _positions(torch.ones(1, 2, 4, dtype=torch.bool)).unflatten(1, (2, 4))
    way = torch.tensor([0.25, 0.5, 0.75, 1.0]) * 2 * torch.pi
    assert torch.allclose(positions[0, 0, :, 8], way.sin(), atol=1e-5)
    assert torch.allclose(positions[0, 0, :, 9], way.cos(), atol=1e-5)
    # Row 1 of 2 is half of the way; the second period of four is 10000 ** (1 / 4).
    half = torch.tensor(torch.pi)
    assert torch.allclose(positions[0, 0, :, 2], (half / 10).sin().expand(4), atol=1e-5)

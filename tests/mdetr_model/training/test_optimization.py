"""Parameter groups, learning rates, and the EMA of the weights."""

import pytest
import torch
from torch import nn

from mdetr_model.training.config import OptimizerConfig
from mdetr_model.training.optimization import EMA, lr_factor, parameter_groups, set_learning_rates
from tests.mdetr_model.small import tiny_model

PUBLISHED = OptimizerConfig(epochs=40, global_batch_size=64)
STEPS = 100  # of an epoch


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = tiny_model()
    groups = {group["name"]: group for group in parameter_groups(model, PUBLISHED)}
    peaks = {name: group["peak_lr"] for name, group in groups.items()}
    assert peaks == {"rest": 1e-4, "backbone": 1e-5, "text_encoder": 5e-5}
    members = {name: {id(p) for p in group["params"]} for name, group in groups.items()}
    encoders = {"backbone": model.mdetr.image_encoder, "text_encoder": model.mdetr.text_encoder}
    for name, encoder in encoders.items():
        assert members[name] == {id(p) for p in encoder.parameters() if p.requires_grad}
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert members["rest"] == trained - members["backbone"] - members["text_encoder"]
    assert len(trained) < len(list(model.parameters()))  # the stem and first stage are frozen


def test_published_schedule() -> None:
    """The text encoder's rate warms up for 1 % of the steps and decays; the others drop once."""
    text = [lr_factor("text_encoder", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]
    assert text[:3] == pytest.approx([1 / 40, 2 / 40, 3 / 40])
    assert text.index(1.0) == 39
    assert text[2020] == pytest.approx(0.5, abs=0.01)
    assert 0 < text[-1] < 0.001
    rest = [lr_factor("rest", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]
    assert rest == [1.0] * 35 * STEPS + [0.1] * 5 * STEPS
    assert rest == [lr_factor("backbone", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]


def test_cosine_schedule() -> None:
    options = OptimizerConfig(
        epochs=10, global_batch_size=8, schedule="cosine", warmup_fraction=0.1
    )
    for group in ("rest", "backbone", "text_encoder"):
        factors = [lr_factor(group, step, STEPS, options) for step in range(10 * STEPS)]
        assert factors[99] == 1.0
        assert factors[49] == pytest.approx(0.5)
        assert factors[550] == pytest.approx(0.5, abs=0.01)
        assert factors[-1] < 1e-4
        assert factors[100:] == sorted(factors[100:], reverse=True)


def test_learning_rates_are_set_by_group() -> None:
    optimizer = torch.optim.AdamW(parameter_groups(tiny_model(), PUBLISHED))
    set_learning_rates(optimizer, 36 * STEPS, STEPS, PUBLISHED)
    lrs = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert lrs["rest"] == pytest.approx(1e-5)
    assert lrs["backbone"] == pytest.approx(1e-6)
    assert lrs["text_encoder"] < 5e-5 * 0.11


def test_ema_forgets_the_initial_weights_and_follows() -> None:
    """Compares with the explicit sums; buffers are averaged too, integer ones copied."""
    model = nn.BatchNorm1d(1)
    ema = EMA(model, 0.9)
    expected, shown = 1.0, []
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step)
            model.num_batches_tracked.fill_(step)
        ema.update(model)
        decay = min(0.9, step / (step + 10))
        expected = decay * expected + (1 - decay) * step
        shown.append(ema.values["weight"].item())
    assert shown[-1] == pytest.approx(expected, rel=1e-5)
    assert shown[-1] == pytest.approx(199 - 9, abs=0.1)  # converges to a lag of nine steps
    assert ema.values["num_batches_tracked"] == 199


def test_ema_is_applied_and_reverted() -> None:
    model = nn.Linear(1, 1)
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(5.0)
    ema.update(model)
    trained, smoothed = model.weight.item(), ema.values["weight"].item()
    assert trained != smoothed
    with pytest.raises(KeyError), ema.applied_to(model):
        assert model.weight.item() == smoothed
        raise KeyError
    assert model.weight.item() == trained
    assert ema.values["weight"].item() == smoothed


def test_ema_resumes_from_its_state() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    ema, again = EMA(model, 0.9), EMA(other, 0.9)
    ema.update(model)
    again.load_state_dict(ema.state_dict())
    for copy in (ema, again):
        copy.update(other)
    assert torch.equal(ema.values["weight"], again.values["weight"])

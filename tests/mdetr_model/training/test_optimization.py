"""Parameter groups, learning rates, and the EMA of the weights."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mdetr_model.training.config import OptimizerConfig, load_config
from mdetr_model.training.optimization import EMA, lr_factor, parameter_groups, set_learning_rates
from schemas.toml_config import shipped_names
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


def published_rates(config: OptimizerConfig, epoch_steps: int) -> Iterator[list[float]]:
    """Yields the rates that the published training loop takes each step with.

    They are [rest, backbone, text encoder]. The loop updates the weights, and then sets the rates
    for the step just taken: so a step has the rates of the one before, and the first the peaks.
    """
    rates = [config.lr, config.lr_backbone, config.lr_text_encoder]
    total = epoch_steps * config.epochs
    warmup = round(config.warmup_fraction * total)
    for epoch in range(config.epochs):
        for i in range(epoch_steps):
            yield rates
            step = epoch * epoch_steps + i
            drop = 0.1 ** (epoch // config.lr_drop)
            if step < warmup:
                text = step / max(1, warmup)
            else:
                text = max(0.0, (total - step) / max(1, total - warmup))
            rates = [config.lr * drop, config.lr_backbone * drop, config.lr_text_encoder * text]


@pytest.mark.parametrize("name", shipped_names("mdetr_model.configs"))
@pytest.mark.parametrize("epoch_steps", [1, 7, 100])
def test_learning_rates_of_every_step_are_the_published_ones(name: str, epoch_steps: int) -> None:
    config = load_config(name).optimizer
    if config.schedule == "cosine":
        assert name.startswith("demo")
        return
    optimizer = torch.optim.AdamW(parameter_groups(tiny_model(), config))
    for step, expected in enumerate(published_rates(config, epoch_steps)):
        set_learning_rates(optimizer, step, epoch_steps, config)
        lrs = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert [lrs[group] for group in ("rest", "backbone", "text_encoder")] == pytest.approx(
            expected, rel=1e-12, abs=0
        ), step
    assert step == config.epochs * epoch_steps - 1


def test_published_schedule() -> None:
    """The text encoder's rate warms up for 1 % of the steps and decays; the others drop once."""
    text = [lr_factor("text_encoder", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]
    assert text[:3] == pytest.approx([0, 1 / 40, 2 / 40])
    assert text.index(1.0) == 40
    assert text[2020] == pytest.approx(0.5, abs=0.01)
    assert 0 < text[-1] < 0.001
    rest = [lr_factor("rest", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]
    assert rest == [1.0] * 35 * STEPS + [0.1] * 5 * STEPS
    assert rest == [lr_factor("backbone", step, STEPS, PUBLISHED) for step in range(40 * STEPS)]


def test_rates_drop_again_after_as_many_epochs() -> None:
    config = OptimizerConfig(epochs=5, global_batch_size=1, lr_drop=2)
    factors = [lr_factor("rest", step, 1, config) for step in range(5)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


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


def test_published_ema_has_one_decay_from_the_first_step() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema = EMA(model, 0.9998)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(3):
        ema.update()
    assert ema.values["weight"].item() == pytest.approx(1 - 0.9998**3, rel=1e-3)


def test_ema_with_warmup_forgets_the_initial_weights_and_follows() -> None:
    """Compares with the explicit sums; buffers are averaged too, integer ones copied."""
    model = nn.BatchNorm1d(1)
    ema = EMA(model, 0.9, warmup=True)
    expected, shown = 1.0, []
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step)
            model.num_batches_tracked.fill_(step)
        ema.update()
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
    ema.update()
    trained, smoothed = model.weight.item(), ema.values["weight"].item()
    assert trained != smoothed
    with pytest.raises(KeyError), ema.applied():
        assert model.weight.item() == smoothed
        raise KeyError
    assert model.weight.item() == trained
    assert ema.values["weight"].item() == smoothed


def test_ema_resumes_from_its_state() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    ema, again = EMA(model, 0.9), EMA(other, 0.9)
    ema.update()
    again.load_state_dict(ema.state_dict())
    model.load_state_dict(other.state_dict())
    for copy in (ema, again):
        copy.update()
    assert torch.equal(ema.values["weight"], again.values["weight"])

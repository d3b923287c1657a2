"""Acceptance checks of the specification of LLaTA, and each equation as slow loops."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.teachers.backbones import load_backbone  # noqa: E402
from training.teachers.llata_config import LlataConfig  # noqa: E402
from training.teachers.llata_net import (  # noqa: E402
    CrossAttention,
    LlataNet,
    feature_loss,
    llata_losses,
    normalise,
)
from training.teachers.principal_words import principal_words  # noqa: E402

pytestmark = pytest.mark.needs_training

LENGTH, HORIZON = 16, 5


def build(is_causal=True, **settings):
    settings = {"heads": 4, "word_count": 9, "text": "live", "start": "none", **settings}
    config = LlataConfig(**settings)
    backbone = tiny_backbone(is_causal=is_causal)
    words = torch.from_numpy(principal_words(backbone.words.numpy(), config.word_count))
    torch.manual_seed(3)
    return LlataNet(config, backbone, words, LENGTH, HORIZON), config


def windows(batch=3, channels=4, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(2, 3, (batch, LENGTH + HORIZON, channels)).astype(np.float32)
    return torch.from_numpy(values[:, :LENGTH]), torch.from_numpy(values[:, LENGTH:])


def with_gradient(net):
    return {
        name
        for name, value in net.named_parameters()
        if value.grad is not None and value.grad.any()
    }


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("text", ["live", "cached", "off"])
@pytest.mark.parametrize("channels", [1, 7, 321])
def test_forecasts_have_a_value_for_each_lead_and_channel(is_causal, text, channels):
    net, _ = build(is_causal, text=text)
    inputs, _ = windows(2, channels)
    inputs[0, :, 0] = 4.0  # a constant channel has no deviation
    out = net(inputs)
    assert out.time.shape == (2, HORIZON, channels)
    assert torch.isfinite(out.time).all()
    assert [state.shape for state in out.time_states] == [(2, channels, 24)] * 3
    assert (out.text is None) == (text == "off")
    if out.text is not None:
        assert out.text.shape == out.time.shape
        assert torch.isfinite(out.text).all()
        assert [state.shape for state in out.text_states] == [(2, channels, 24)] * 3


def test_normalisation_is_per_window_and_channel_and_can_be_undone():
    inputs, _ = windows()
    inputs[1, :, 2] = -7.0
    normed, mean, deviation = normalise(inputs)
    for window in range(3):
        for channel in range(4):
            values = [float(inputs[window, step, channel]) for step in range(LENGTH)]
            average = sum(values) / LENGTH
            spread = math.sqrt(sum((v - average) ** 2 for v in values) / LENGTH + 1e-5)
            expected = [(value - average) / spread for value in values]
            np.testing.assert_allclose(normed[window, :, channel], expected, atol=1e-5)
    torch.testing.assert_close(normed * deviation + mean, inputs, atol=1e-5, rtol=0)


def test_cross_attention_mixes_words_by_softmax_of_each_head():
    torch.manual_seed(0)
    attention = CrossAttention(6, 2)
    tokens, words = torch.randn(2, 3, 6), torch.randn(5, 6)

    def linear(layer, vector):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return [sum(weight[o, i] * vector[i] for i in range(6)) + bias[o] for o in range(6)]

    expected = np.zeros((2, 3, 6))
    for window in range(2):
        for channel in range(3):
            query = linear(attention.query, tokens[window, channel].tolist())
            mixed = [0.0] * 6
            for head in range(2):
                places = range(3 * head, 3 * head + 3)
                keys = [linear(attention.key, word.tolist()) for word in words]
                values = [linear(attention.value, word.tolist()) for word in words]
                scores = [sum(query[p] * key[p] for p in places) / math.sqrt(3) for key in keys]
                total = sum(math.exp(score) for score in scores)
                for score, value in zip(scores, values, strict=True):
                    for place in places:
                        mixed[place] += math.exp(score) / total * value[place]
            expected[window, channel] = linear(attention.out, mixed)
    found = attention(tokens, words).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def slow_feature_loss(time_states, text_states, decay, is_safe):
    total, last = 0.0, len(time_states) - 1
    for layer, (time, text) in enumerate(zip(time_states, text_states, strict=True)):
        apart, count = 0.0, 0
        for one, other in zip(
            time.reshape(-1, time.shape[-1]), text.reshape(-1, text.shape[-1]), strict=True
        ):
            if is_safe:
                apart += 1 - np.corrcoef(one, other)[0, 1]
                count += 1
            else:
                apart += sum(abs(a - b) for a, b in zip(one, other, strict=True))
                count += len(one)
        total += decay ** (last - layer) * apart / count
    return total


@pytest.mark.parametrize("is_safe", [True, False])
def test_feature_loss_weighs_layers_and_adds_their_distances(is_safe):
    torch.manual_seed(1)
    time = [torch.randn(2, 3, 8) for _ in range(7)]
    text = [torch.randn(2, 3, 8) for _ in range(7)]
    found = feature_loss(time, text, 0.8, "l1", is_safe=is_safe)
    expected = slow_feature_loss([t.numpy() for t in time], [t.numpy() for t in text], 0.8, is_safe)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    # One layer apart at a time: its share is its weight.
    for layer in range(7):
        other = list(time)
        other[layer] = time[layer] + 1 if not is_safe else -time[layer]
        share = float(feature_loss(time, other, 0.8, "l1", is_safe=is_safe))
        assert share == pytest.approx((2 if is_safe else 1) * 0.8 ** (6 - layer), rel=1e-4)


def test_smaller_projections_lower_the_papers_feature_loss_but_not_the_safe_one():
    inputs, targets = windows()
    for alignment, is_lower in (("paper", True), ("safe", False)):
        net, config = build(alignment=alignment, refuse_worse_text=False)
        before = llata_losses(net, net.eval()(inputs), targets, config)["feature"].item()
        with torch.no_grad():
            for name, value in net.named_parameters():
                if "projections" in name:
                    value.mul_(0.1)
        after = llata_losses(net, net(inputs), targets, config)["feature"].item()
        assert (after < 0.5 * before) is is_lower
        assert is_lower or after == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("alignment", ["paper", "safe"])
def test_losses_are_those_of_the_equations(alignment):
    net, config = build(alignment=alignment)
    inputs, targets = windows()
    out = net.eval()(inputs)
    found = {k: v.item() for k, v in llata_losses(net, out, targets, config).items()}
    time, text = out.time.detach().numpy(), out.text.detach().numpy()
    expected = {"task": 0.0, "output": 0.0, "text": 0.0}
    for index in np.ndindex(time.shape):
        target = float(targets[index])
        expected["task"] += abs(time[index] - target) / time.size
        expected["output"] += abs(time[index] - text[index]) / time.size
        expected["text"] += abs(text[index] - target) / time.size
    if alignment == "paper":
        del expected["text"]
    projected = [p(s) for p, s in zip(net.time_projections, out.time_states, strict=True)]
    other = list(out.text_states)
    if alignment == "paper":
        other = [p(s) for p, s in zip(net.text_projections, other, strict=True)]
    expected["feature"] = slow_feature_loss(
        [s.detach().numpy() for s in projected],
        [s.detach().numpy() for s in other],
        0.8,
        alignment == "safe",
    )
    expected["total"] = sum(expected.values()) - 0.99 * expected["feature"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_the_papers_alignment_losses_the_textual_branch_has_no_gradient():
    net, config = build(is_causal=False, alignment="paper", output_weight=0.0, feature_weight=0.0)
    inputs, targets = windows()
    llata_losses(net, net(inputs), targets, config)["total"].backward()
    assert with_gradient(net)
    assert not [name for name in with_gradient(net) if name.startswith(("textual", "match"))]


def test_safe_losses_keep_teacher_and_student_apart():
    inputs, targets = windows()
    net, config = build()
    out = net(inputs)
    losses = llata_losses(net, out, targets, config)
    (losses["output"] + losses["feature"]).backward()
    moved = with_gradient(net)
    assert moved and not [name for name in moved if name.startswith(("match", "text"))]
    net, config = build()
    llata_losses(net, net(inputs), targets, config)["text"].backward()
    assert {name.partition(".")[0] for name in with_gradient(net)} == {"match", "text_head"}


def test_a_refused_textual_branch_has_no_part_in_the_students_loss():
    net, config = build()
    inputs, targets = windows()
    losses = llata_losses(net, net(inputs), targets, config, is_text_refused=True)
    assert set(losses) == {"task", "text", "total"}


@pytest.mark.parametrize("alignment", ["paper", "safe"])
def test_forecast_needs_no_textual_branch(alignment):
    net, _ = build(alignment=alignment)
    inputs, _ = windows()
    before = net.eval()(inputs).time
    net.drop_text()
    assert torch.equal(net(inputs).time, before)
    assert torch.equal(net(inputs, with_text=False).time, before)
    parts = {name.partition(".")[0] for name, _ in net.named_parameters()}
    assert parts == {"embed", "encoder", "temporal", "head"}


def test_states_of_the_cache_give_the_forecast_of_the_live_branch():
    net, _ = build(text="cached")
    inputs, _ = windows()
    net.eval()
    text = net.text_states(inputs)
    assert torch.equal(net(inputs, text).text, net(inputs).text)
    before = net(inputs).text
    with torch.no_grad():
        net.embed.weight.add_(1)  # a fixed query does not depend on what is trained
    assert torch.equal(net(inputs).text, before)


def test_trained_weights_of_the_papers_variant_are_those_of_the_specification():
    backbone = load_backbone("minilm")
    config = LlataConfig(backbone="minilm", text="live", alignment="paper", start="none")
    net = LlataNet(config, backbone, torch.randn(256, 384), 96, 96)
    trained = {name: value for name, value in net.named_parameters() if value.requires_grad}
    assert sum(value.numel() for value in trained.values()) == 5_411_936
    parts = ("embed", "encoder", "match", "head", "time_projections", "text_projections")
    for name in trained:
        in_branch = ("LayerNorm", "position_embeddings", ".up", ".down")
        assert name.startswith(parts) or any(part in name for part in in_branch), name
    inputs = torch.randn(2, 96, 3)
    llata_losses(net, net(inputs), torch.randn(2, 96, 3), config)["total"].backward()
    # `up` starts at zero, so `down` moves from the second step on.
    still = {name for name in trained if not name.endswith(".down")} - with_gradient(net)
    assert not still, still
    assert not any(
        name.startswith("temporal")
        and "LayerNorm" not in name
        and ".up" not in name
        and "position" not in name
        for name in with_gradient(net)
    )


def test_a_net_from_ridge_starts_as_the_linear_map_of_the_window_without_its_mean():
    net, _ = build(start="ridge")
    inputs, _ = windows()
    out = net.eval()(inputs)
    weights = net.ridge.weight.numpy()
    expected = np.zeros((3, HORIZON, 4))
    for window, lead, channel in np.ndindex(expected.shape):
        values = inputs[window, :, channel].numpy()
        apart = sum(weights[lead, step] * (values[step] - values.mean()) for step in range(LENGTH))
        expected[window, lead, channel] = values.mean() + apart
    np.testing.assert_allclose(out.time.detach().numpy(), expected, atol=1e-4)
    assert torch.equal(out.text, out.time)


def test_without_lora_only_norms_are_trained_in_the_temporal_branch():
    net, _ = build(lora=False)
    names = [n for n, v in net.temporal.named_parameters() if v.requires_grad]
    assert names and all("norm" in name for name in names)


def test_the_backbone_itself_is_not_changed():
    backbone = tiny_backbone()
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    config = LlataConfig(heads=4, text="live", word_count=9)
    net = LlataNet(config, backbone, torch.randn(9, 24), LENGTH, HORIZON)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(1)
    after = backbone.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())

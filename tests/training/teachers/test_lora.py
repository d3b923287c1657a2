import numpy as np
import pytest

from training.errors import TeacherError

torch = pytest.importorskip("torch")

from training.teachers.lora import LoraLinear, attach_lora  # noqa: E402

pytestmark = pytest.mark.needs_training


def test_an_untrained_correction_changes_nothing():
    layer = torch.nn.Linear(5, 4)
    inputs = torch.randn(3, 5)
    expected = layer(inputs)
    assert torch.equal(LoraLinear(layer, 2, 8, 0.0)(inputs), expected)


def test_the_output_is_the_sum_of_the_equation():
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 4)
    adapted = LoraLinear(layer, 2, 8, 0.5).eval()
    torch.nn.init.normal_(adapted.up)
    inputs = torch.randn(3, 5)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    down, up = adapted.down.detach().numpy(), adapted.up.detach().numpy()
    expected = np.zeros((3, 4))
    for row in range(3):
        for out in range(4):
            value = bias[out]
            for column in range(5):
                value += weight[out, column] * inputs[row, column].item()
                for rank in range(2):
                    value += 8 / 2 * up[out, rank] * down[rank, column] * inputs[row, column].item()
            expected[row, out] = value
    np.testing.assert_allclose(adapted(inputs).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_only_named_layers_are_adapted_and_only_corrections_are_trained():
    model = torch.nn.ModuleDict({"query": torch.nn.Linear(6, 6), "dense": torch.nn.Linear(6, 6)})
    model.requires_grad_(False)
    assert attach_lora(model, ("query", "key"), rank=2, alpha=8, dropout=0.1) == 1
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"query.down", "query.up"}
    model["query"](torch.randn(2, 6)).sum().backward()
    assert model["query"].frozen.weight.grad is None


def test_names_without_a_layer_are_refused():
    with pytest.raises(TeacherError, match="is named q_proj"):
        attach_lora(torch.nn.Linear(2, 2), ("q_proj",), rank=1, alpha=1, dropout=0)

import textwrap

from training.datasets import series_description
from training.datasets.series_description import read_description


def test_the_example_of_the_module_is_a_valid_description(tmp_path):
    text = series_description.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    path = tmp_path / "pumps.toml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    description = read_description(path)
    assert (description.step_ms, description.period) == (600_000, 144)
    assert description.channels[0].header == "Flow [m3/h]"
    assert description.split.train == 0.7

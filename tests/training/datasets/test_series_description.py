import re
import textwrap
from pathlib import Path

from training.datasets import series_description
from training.datasets.series_description import Description, Split, TimeColumn, read_description


def test_the_example_of_the_module_is_a_valid_description(tmp_path):
    text = series_description.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    path = tmp_path / "pumps.toml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    description = read_description(path)
    assert (description.step_ms, description.period) == (600_000, 144)
    assert description.channels[0].header == "Flow [m3/h]"
    assert description.split.train == 0.7


def test_the_guide_shows_a_valid_description_and_lists_every_field(tmp_path):
    guide = Path(__file__).parents[3] / "docs" / "howto" / "data-set.md"
    text = guide.read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "pumps.toml"
    path.write_text(example, encoding="utf-8")
    assert read_description(path).period == 144
    listed = set(re.findall(r"`([a-z_.]+)`", text.split("| field |")[1].split("\n\n")[0]))
    fields = set(Description.model_fields) - {"split", "time"}
    fields |= {f"split.{name}" for name in Split.model_fields}
    fields |= {f"time.{name}" for name in TimeColumn.model_fields}
    assert fields <= listed

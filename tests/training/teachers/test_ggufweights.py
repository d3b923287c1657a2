import numpy as np
import pytest

from training.errors import TeacherError
from training.teachers.ggufweights import open_gguf

gguf = pytest.importorskip("gguf")

pytestmark = pytest.mark.needs_training


@pytest.fixture
def written(tmp_path):
    """A file of gguf's own writer with one tensor of each packing."""
    rows = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    packed = {
        "plain": (rows, None),
        "bytes": (gguf.quantize(rows, gguf.GGMLQuantizationType.Q8_0), "Q8_0"),
        "halves": (gguf.quantize(rows, gguf.GGMLQuantizationType.Q4_1), "Q4_1"),
    }
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokens", ["load", "\u0120is", "°"])
    writer.add_float32("scale", 0.5)
    for name, (values, packing) in packed.items():
        kind = None if packing is None else gguf.GGMLQuantizationType[packing]
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, {name: values for name, (values, _) in packed.items()}


def test_fields_and_tensors_are_those_of_the_writer(written):
    path, tensors = written
    with open_gguf(path) as file:
        assert file.fields["general.architecture"] == "llama"
        assert file.fields["tokens"] == ["load", "\u0120is", "°"]
        assert file.fields["scale"] == 0.5
        found = file.read(["plain", "nothing"])
    assert list(found) == ["plain"]
    np.testing.assert_array_equal(found["plain"], tensors["plain"])


def test_packed_numbers_are_scale_times_number_plus_minimum(written):
    path, tensors = written
    with open_gguf(path) as file:
        found = file.read(["bytes", "halves"])
    for row in range(3):
        for block in range(2):
            raw = tensors["bytes"][row].view(np.uint8)[34 * block : 34 * block + 34]
            scale = float(raw[:2].view(np.float16)[0])
            for place in range(32):
                expected = scale * int(raw[2:].view(np.int8)[place])
                assert found["bytes"][row, 32 * block + place] == pytest.approx(expected, abs=1e-6)
            raw = tensors["halves"][row].view(np.uint8)[20 * block : 20 * block + 20]
            scale, least = (float(value) for value in raw[:4].view(np.float16))
            for place in range(32):
                number = int(raw[4 + place % 16]) >> 4 * (place // 16) & 15
                expected = scale * number + least
                assert found["halves"][row, 32 * block + place] == pytest.approx(expected, abs=1e-6)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"PK and more than eight bytes")
    with pytest.raises(TeacherError, match="is no GGUF file"), open_gguf(tmp_path / "other"):
        pass

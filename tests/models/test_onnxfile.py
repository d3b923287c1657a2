import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dummy import dummy_draft, dummy_onnx, encode_field
from models.errors import GraphRefused
from models.onnxfile import inspect_onnx

GOOD = dummy_onnx(dummy_draft())


def with_graph(extra: bytes) -> bytes:
    """A model whose only graph holds `extra` fields."""
    opset = encode_field(8, encode_field(1, "") + encode_field(2, 17))
    return encode_field(1, 8) + encode_field(7, extra) + opset


def node(op_type: str, attribute: bytes = b"", domain: str = "") -> bytes:
    content = encode_field(4, op_type) + encode_field(7, domain)
    return encode_field(1, content + (encode_field(5, attribute) if attribute else b""))


def external(location: int = 1) -> bytes:
    return encode_field(8, "w") + encode_field(14, location)


def test_a_good_graph_is_summarised():
    found = inspect_onnx(GOOD)
    assert (found.ir_version, found.opset, found.node_count) == (8, 17, 4)
    assert found.op_types == {"Flatten", "MatMul", "Sigmoid", "Mul"}
    assert [(t.name, t.is_float32, t.dims) for t in found.inputs] == [
        ("windows", True, ("batch", 4, 3))
    ]
    assert [(t.name, t.dims) for t in found.outputs] == [("rul", ("batch",))]


@pytest.mark.parametrize("opset", [0, 12, 22, 2**40])
def test_an_opset_outside_the_range_is_refused(opset):
    with pytest.raises(GraphRefused, match=f"opset {opset} is outside 13..21"):
        inspect_onnx(dummy_onnx(dummy_draft(), opset=opset))


@pytest.mark.parametrize("ir_version", [0, 2, 11])
def test_an_ir_version_outside_the_range_is_refused(ir_version):
    with pytest.raises(GraphRefused, match=f"IR version {ir_version}"):
        inspect_onnx(dummy_onnx(dummy_draft(), ir_version=ir_version))


def test_a_second_opset_or_graph_is_refused():
    with pytest.raises(GraphRefused, match="opset is given twice"):
        inspect_onnx(GOOD + encode_field(8, encode_field(1, "ai.onnx") + encode_field(2, 17)))
    with pytest.raises(GraphRefused, match="2 graphs"):
        inspect_onnx(GOOD + encode_field(7, b""))


@pytest.mark.parametrize(
    "extra",
    [
        encode_field(5, external()),
        encode_field(5, external(2**32 + 1)),  # protobuf cuts it to 1
        encode_field(5, encode_field(13, encode_field(1, "location"))),
        encode_field(15, encode_field(1, external())),
        encode_field(15, encode_field(2, external())),
        node("Constant", encode_field(5, external())),
        node("Constant", encode_field(10, external())),
        node("Constant", encode_field(22, encode_field(1, external()))),
        node("If", encode_field(6, encode_field(5, external()))),
        node("If", encode_field(11, node("If", encode_field(6, encode_field(5, external()))))),
    ],
)
def test_external_data_is_found_wherever_it_hides(extra):
    with pytest.raises(GraphRefused, match="external data"):
        inspect_onnx(with_graph(extra))


@pytest.mark.parametrize("op_type", ["Loop", "Scan", "RandomNormal", "Multinomial"])
def test_loops_and_random_operators_are_refused_at_any_depth(op_type):
    for graph in (node(op_type), node("If", encode_field(6, node(op_type)))):
        with pytest.raises(GraphRefused, match=op_type):
            inspect_onnx(with_graph(graph))


def test_foreign_operators_are_refused():
    with pytest.raises(GraphRefused, match=r"'Gelu' is of domain 'com\.microsoft'"):
        inspect_onnx(with_graph(node("Gelu", domain="com.microsoft")))


@pytest.mark.parametrize(("number", "named"), [(20, "training"), (25, "functions")])
def test_training_graphs_and_local_functions_are_refused(number, named):
    with pytest.raises(GraphRefused, match=named):
        inspect_onnx(GOOD + encode_field(number, b""))


def test_deep_nesting_and_many_nodes_end_early():
    graph = b""
    for _ in range(2000):
        graph = node("If", encode_field(6, graph))
    with pytest.raises(GraphRefused, match="nested deeper"):
        inspect_onnx(with_graph(graph))
    with pytest.raises(GraphRefused, match="more than 5000 nodes"):
        inspect_onnx(with_graph(node("Relu") * 5001))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"PK\x03\x04 not a model",
        b"\x08" + b"\xff" * 11,
        b"\x0b",  # a group, which ONNX never had
        b"\x3a\xff\xff\xff\xff\x0f",
        encode_field(7, 5),
        encode_field(1, b"text"),
        with_graph(encode_field(1, encode_field(4, b"\xff\xfe"))),
    ],
)
def test_a_file_that_is_no_model_is_refused(data):
    with pytest.raises(GraphRefused):
        inspect_onnx(data)


def test_four_megabytes_of_tiny_fields_end_in_time():
    started = time.monotonic()
    inspect_onnx(GOOD + b"\x28\x01" * 500_000)  # model_version, again and again
    assert time.monotonic() - started < 20


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_walked_or_refused_but_never_anything_else(data):
    whole = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        try:
            inspect_onnx(damaged)
        except GraphRefused:
            pass


def test_the_onnx_package_reads_the_same_things():
    onnx = pytest.importorskip("onnx", reason="onnx comes with the [training] extra")
    for task in ("rul", "activity"):
        data = dummy_onnx(dummy_draft(task))
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        found = inspect_onnx(data)
        assert found.op_types == {n.op_type for n in model.graph.node}
        assert [t.name for t in found.outputs] == [o.name for o in model.graph.output]


def test_external_data_written_by_the_onnx_package_is_refused():
    onnx = pytest.importorskip("onnx", reason="onnx comes with the [training] extra")
    model = onnx.load_from_string(GOOD)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="/etc/passwd")
    with pytest.raises(GraphRefused, match="external data"):
        inspect_onnx(model.SerializeToString())

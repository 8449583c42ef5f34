"""Small ONNX files, node by node."""

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")


def model(nodes, weights=None, shape=(3, 8, 8), opset=17, batch: str | int = "N", output="y", ir=8):
    """A model of `nodes` from `x` to `output`, as bytes. A node is `(op, inputs, output or outputs, attributes)`."""
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    made = []
    for op, inputs, out, attributes in nodes:
        outs = [out] if isinstance(out, str) else out
        made.append(helper.make_node(op, list(inputs), outs, name=f"{op}_{outs[0]}", **attributes))
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        made,
        "made",
        [helper.make_tensor_value_info("x", number, [batch, *shape])],
        [helper.make_tensor_value_info(output, number, None)],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir).SerializeToString()


def by_onnxruntime(file, x):
    """What onnxruntime makes of `x`; `file` is a path or bytes."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    given = file if isinstance(file, bytes) else str(file)
    session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])

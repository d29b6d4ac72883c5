"""Networks as graphs of onnxruntime: fused, in 32 bits or quantised to 8."""

import json
import os

import torch

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def session(kind, artifact, folder, threads, network, output):
    """A session of ort-f32 or ort-int8. NETWORK makes the module of ARTIFACT that takes INPUTS and gives
    one tensor, which is called OUTPUT; it is called when FOLDER has no graph of it yet."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = graph(kind, artifact, folder, network, output)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def graph(kind, artifact, folder, network, output):
    """The path of the graph, which is made when it is not there."""
    exported, fused, quantized = (f"{folder}/{name}.onnx" for name in ("plain", "fused", "int8"))
    if not os.path.exists(fused):
        export(exported, network(), output)
        from onnxruntime.transformers import optimizer

        with open(f"{artifact}/config.json") as file:
            config = json.load(file)
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        made = optimizer.optimize_model(
            exported, model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=0
        )
        made.save_model_to_file(fused)
    if kind == "ort-f32":
        return fused
    if not os.path.exists(quantized):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            fused,
            quantized,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Attention"],
            extra_options={"DefaultTensorType": 1},
        )
    return quantized


def export(path, network, output):
    ones = (torch.ones(2, 16, dtype=torch.int64),) * 3
    torch.onnx.export(
        network,
        ones,
        path,
        input_names=INPUTS,
        output_names=[output],
        dynamic_axes={name: {0: "texts", 1: "length"} for name in [*INPUTS, output]},
        opset_version=17,
        dynamo=False,
    )

"""How long Python takes from files to first answers: safetensors, tokenizers, sentence-transformers.

    python load.py MODEL... : one line of JSON. Models load one after the other in one process, as
    they do in a server that is written in the usual way. Nothing is verified, warmed up or checked.
"""

import json
import resource
import sys
import time

begun = time.perf_counter()
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

imported = time.perf_counter()
times = {"weights": 0.0, "tokenizer": 0.0, "model": 0.0, "first": 0.0}
models = []
for folder in sys.argv[1:]:
    at = time.perf_counter()
    weights = load_file(f"{folder}/model.safetensors")
    # Tensors are mapped: touching them is what reads them.
    sum(float(tensor.float().sum()) for tensor in weights.values())
    times["weights"] += time.perf_counter() - at
    del weights
    at = time.perf_counter()
    Tokenizer.from_file(f"{folder}/tokenizer.json")
    times["tokenizer"] += time.perf_counter() - at
    at = time.perf_counter()
    model = SentenceTransformer(folder, device="cpu")
    times["model"] += time.perf_counter() - at
    at = time.perf_counter()
    model.encode(["The lamplighter walked the harbour wall at dusk."])
    times["first"] += time.perf_counter() - at
    models.append(model)

# The two parts that sentence-transformers does itself are not counted twice.
used = times["model"] + times["first"]
print(
    json.dumps(
        {
            "imports": imported - begun,
            **times,
            "ready": used,
            "process": imported - begun + used,
            "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "threads": torch.get_num_threads(),
        }
    )
)

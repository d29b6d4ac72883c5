"""The same texts computed by others, measured by whoever writes to the standard input.

    python engine.py KIND ARTIFACT WORKLOADS VECTORS FOLDER THREADS STEP

KIND is st-f32, st-bf16, st-autocast, ort-f32 or ort-int8; FOLDER keeps the exported graphs. Writes the
vectors of W1 as 32-bit floats, then answers each line with one of JSON, as the example engine-bench
of the engine does. Of each workload every STEPth text is computed. Batches have 32 texts that are
sorted by length.
"""

import json
import os
import sys
import time

kind, artifact, workloads, vectors, folder, threads, step = sys.argv[1:]
os.environ["OMP_NUM_THREADS"] = threads

import graphs
import numpy as np
import torch

BATCH = 32
torch.set_num_threads(int(threads))
with open(workloads) as file:
    WORKLOADS = {
        name: {part: texts[:: int(step)] for part, texts in workload.items()}
        for name, workload in json.load(file).items()
    }


def batches(texts):
    order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
    for begin in range(0, len(order), BATCH):
        batch = order[begin : begin + BATCH]
        longest = max(len(texts[at]) for at in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, at in enumerate(batch):
            ids[row, : len(texts[at])] = texts[at]
            mask[row, : len(texts[at])] = 1
        yield batch, ids, mask


class SentenceTransformers:
    def __init__(self):
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(artifact, device="cpu").eval()
        if kind == "st-bf16":
            self.model = self.model.bfloat16()

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "st-autocast")

    def batch(self, ids, mask):
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode(), self.autocast():
            vectors = self.model(features)["sentence_embedding"].float()
            return torch.nn.functional.normalize(vectors, dim=1).numpy()

    def texts(self, texts):
        with self.autocast():
            return self.model.encode(texts, batch_size=BATCH, show_progress_bar=False)


class Onnxruntime:
    def __init__(self):
        from tokenizers import Tokenizer

        self.session = graphs.session(kind, artifact, folder, int(threads), network, "tokens")
        self.inputs = [given.name for given in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(f"{artifact}/tokenizer.json")
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def batch(self, ids, mask):
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        tokens = self.session.run(None, {name: given[name] for name in self.inputs})[0]
        sums = (tokens * mask[:, :, None].astype(np.float32)).sum(1)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def texts(self, texts):
        return run(self, [encoded.ids for encoded in self.tokenizer.encode_batch(texts)])


def network():
    from transformers import AutoModel

    model = AutoModel.from_pretrained(artifact, attn_implementation="eager").eval()

    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
            ).last_hidden_state

    return Tokens()


def run(model, texts):
    vectors = [None] * len(texts)
    for batch, ids, mask in batches(texts):
        for at, vector in zip(batch, model.batch(ids, mask)):
            vectors[at] = vector
    return np.stack(vectors)


def answer(model, asked):
    name = asked.rstrip("t")
    workload = WORKLOADS[name]
    if name == "W3":
        millis = []
        for ids, text in zip(workload["ids"], workload["texts"]):
            begun = time.perf_counter()
            model.texts([text]) if name != asked else run(model, [ids])
            millis.append((time.perf_counter() - begun) * 1e3)
        return {"millis": millis}
    begun, used = time.perf_counter(), time.process_time()
    model.texts(workload["texts"]) if name != asked else run(model, workload["ids"])
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    tokens = sum(map(len, workload["ids"]))
    return {"tokensPerSecond": tokens / seconds, "tokensPerProcessorSecond": tokens / used}


def say(value):
    print(json.dumps(value), flush=True)


model = SentenceTransformers() if kind.startswith("st") else Onnxruntime()
run(model, WORKLOADS["W1"]["ids"]).astype(np.float32).tofile(vectors)
answer(model, "W3")
say({"kind": kind})
for line in sys.stdin:
    say(answer(model, line.strip()))

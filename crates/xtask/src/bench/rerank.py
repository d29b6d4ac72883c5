"""Queries and their passages scored by others, measured by whoever writes to the standard input.

    python rerank.py KIND ARTIFACT QUERIES SCORES FOLDER THREADS

KIND is st-f32, ort-f32 or ort-int8; FOLDER keeps the exported graphs. Writes the scores of all queries
as 32-bit floats, before any function, then answers each line with one of JSON, as the example
engine-bench of the engine does: R from tokens, Rt from texts. Fails if texts have other scores than
their tokens. Batches have 32 pairs.
"""

import json
import os
import sys
import time

kind, artifact, queries, scores, folder, threads = sys.argv[1:]
os.environ["OMP_NUM_THREADS"] = threads

import graphs
import numpy as np
import torch

BATCH = 32
torch.set_num_threads(int(threads))
with open(queries) as file:
    QUERIES = json.load(file)


def batches(query):
    """Pairs of one length: nothing is filled up."""
    ids = np.array(query["ids"], np.int64)
    kinds = np.zeros_like(ids)
    kinds[:, query["second"] :] = 1
    for begin in range(0, len(ids), BATCH):
        yield ids[begin : begin + BATCH], kinds[begin : begin + BATCH]


def pairs(query):
    return [(query["text"], passage) for passage in query["passages"]]


class SentenceTransformers:
    def __init__(self):
        from sentence_transformers import CrossEncoder

        self.encoder = CrossEncoder(artifact, device="cpu")
        self.network = self.encoder.model.eval()

    def tokens(self, query):
        with torch.inference_mode():
            found = [
                self.network(
                    input_ids=torch.from_numpy(ids),
                    attention_mask=torch.ones(ids.shape, dtype=torch.int64),
                    token_type_ids=torch.from_numpy(kinds),
                ).logits
                for ids, kinds in batches(query)
            ]
        return torch.cat(found).numpy()[:, 0]

    def texts(self, query):
        return self.encoder.predict(
            pairs(query),
            batch_size=BATCH,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )


class Onnxruntime:
    def __init__(self):
        from tokenizers import Tokenizer

        self.session = graphs.session(kind, artifact, folder, int(threads), network, "scores")
        self.tokenizer = Tokenizer.from_file(f"{artifact}/tokenizer.json")

    def tokens(self, query):
        return np.concatenate([self.batch(ids, kinds) for ids, kinds in batches(query)])

    def batch(self, ids, kinds):
        given = dict(zip(graphs.INPUTS, (ids, np.ones_like(ids), kinds)))
        return self.session.run(None, given)[0][:, 0]

    def texts(self, query):
        encoded = self.tokenizer.encode_batch(pairs(query))
        ids = [pair.ids for pair in encoded]
        return self.tokens({"ids": ids, "second": encoded[0].type_ids.index(1)})


def network():
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        artifact, attn_implementation="eager"
    ).eval()

    class Scores(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
            ).logits

    return Scores()


def answer(model, asked):
    ask = {"R": model.tokens, "Rt": model.texts}[asked]
    millis = []
    begun, used = time.perf_counter(), time.process_time()
    for query in QUERIES:
        at = time.perf_counter()
        ask(query)
        millis.append((time.perf_counter() - at) * 1e3)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    tokens = sum(len(ids) for query in QUERIES for ids in query["ids"])
    return {
        "millis": millis,
        "tokensPerSecond": tokens / seconds,
        "tokensPerProcessorSecond": tokens / used,
    }


def say(value):
    print(json.dumps(value), flush=True)


model = SentenceTransformers() if kind.startswith("st") else Onnxruntime()
of_tokens = np.concatenate([model.tokens(query) for query in QUERIES]).astype(np.float32)
of_texts = np.concatenate([model.texts(query) for query in QUERIES])
if not np.allclose(of_tokens, of_texts, atol=1e-4):
    sys.exit(f"texts have other scores than their tokens: {np.abs(of_tokens - of_texts).max()} apart")
of_tokens.tofile(scores)
say({"kind": kind})
for line in sys.stdin:
    say(answer(model, line.strip()))

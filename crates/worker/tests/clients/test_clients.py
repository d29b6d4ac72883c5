"""Exercises a running worker with the clients that people use.

Environment: LAMPLIGHTER_SERVING (host:port of a worker that serves the embedding model `embedder` in
the versions 1 and 2, 2 being the default) and LAMPLIGHTER_KEY (a key that it takes).
Prints "clients: N checks passed" and exits 0, or exits 1 at the first check that fails.
"""

import os
import sys

import cohere
import numpy as np
import openai
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient.utils import InferenceServerException

SERVING = os.environ["LAMPLIGHTER_SERVING"]
KEY = os.environ["LAMPLIGHTER_KEY"]
BASE = f"http://{SERVING}"
TEXTS = ["the lamp", "winter river", "stone"]

checks = 0


def check(what: str, holds: bool) -> None:
    global checks
    if not holds:
        sys.exit(f"clients: failed: {what}")
    checks += 1


def raises(what: str, expected, call):
    try:
        call()
    except expected as error:
        check(what, True)
        return error
    sys.exit(f"clients: failed: {what}: no error")


def near(a, b) -> bool:
    a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-5))


def with_openai():
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, timeout=30, max_retries=0)
    create = client.embeddings.create
    vectors = [entry.embedding for entry in create(model="embedder", input=TEXTS).data]
    check("openai: a vector for each text", len(vectors) == len(TEXTS))
    floats = create(model="embedder", input=TEXTS, encoding_format="float")
    check("openai: base64 holds the same", near(vectors, [e.embedding for e in floats.data]))
    short = create(model="embedder", input=TEXTS[0], dimensions=2).data[0].embedding
    whole = np.array(vectors[0][:2])
    check("openai: a shorter vector", near(short, whole / np.linalg.norm(whole)))
    check("openai: the default version", floats.model == "embedder:2")
    names = [model.id for model in client.models.list()]
    check("openai: the names", names == ["embedder", "embedder:1", "embedder:2"])
    error = raises(
        "openai: an unknown model", openai.NotFoundError, lambda: create(model="x", input="a")
    )
    check("openai: a failure has a code", error.code == "model_not_found")
    raises(
        "openai: too many dimensions",
        openai.BadRequestError,
        lambda: create(model="embedder", input="a", dimensions=10_000),
    )
    meshed = openai.OpenAI(
        base_url=f"{BASE}/v1",
        api_key="a-meshs-own",
        default_headers={"x-api-key": KEY},
        timeout=30,
        max_retries=0,
    )
    check("openai: a key beside another bearer's", len(meshed.models.list().data) == 3)
    other = openai.OpenAI(base_url=f"{BASE}/v1", api_key="oil", timeout=30, max_retries=0)
    error = raises("openai: another key", openai.AuthenticationError, other.models.list)
    check("openai: a key that does not count", error.code == "invalid_api_key")
    return np.array(vectors, dtype=np.float32)


def with_hugging_face(vectors) -> None:
    client = InferenceClient(model=BASE, token=KEY, timeout=30)
    found = client.feature_extraction(TEXTS[0])
    check("hugging face: a vector at the root", near(found, vectors[:1]))
    at_route = InferenceClient(model=f"{BASE}/embed", token=KEY, timeout=30)
    found = at_route.feature_extraction(TEXTS, normalize=True, truncate=True)
    check("hugging face: vectors at /embed", near(found, vectors))
    found = at_route.feature_extraction(TEXTS, normalize=False)
    check("hugging face: what the artifact normalises", near(found, vectors))
    found = client.feature_extraction(TEXTS[0], dimensions=2, truncation_direction="left")
    check("hugging face: a shorter vector", found.shape == (1, 2))
    cosines = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    check("hugging face: cosines", near(cosines, vectors @ vectors[0]))
    named = InferenceClient(model=BASE, token=KEY, headers={"x-model": "embedder:1"}, timeout=30)
    check("hugging face: a model by header", near(named.feature_extraction(TEXTS[0]), vectors[:1]))
    error = raises(
        "hugging face: a prompt that is not there",
        HfHubHTTPError,
        lambda: client.feature_extraction("a", prompt_name="query"),
    )
    check("hugging face: its status", error.response.status_code == 422)
    error = raises(
        "hugging face: an embedding model classifies nothing",
        HfHubHTTPError,
        lambda: InferenceClient(model=f"{BASE}/predict", token=KEY).text_classification("a"),
    )
    check("hugging face: its status, too", error.response.status_code == 424)


def with_triton(vectors) -> None:
    # A new one for each call: the client adds to what it is given.
    def headers():
        return {"Authorization": f"Bearer {KEY}"}

    client = triton.InferenceServerClient(SERVING)
    check("triton: live", client.is_server_live())
    check("triton: ready", client.is_server_ready())
    check("triton: the model is ready", client.is_model_ready("embedder", headers=headers()))
    check("triton: a version is, too", client.is_model_ready("embedder", "1", headers=headers()))
    check("triton: another is not", not client.is_model_ready("embedder", "9", headers=headers()))
    metadata = client.get_server_metadata(headers=headers())
    check("triton: extensions", "binary_tensor_data" in metadata["extensions"])
    metadata = client.get_model_metadata("embedder", headers=headers())
    check("triton: inputs", [tensor["name"] for tensor in metadata["inputs"]] == ["text"])
    check("triton: versions", metadata["versions"] == ["1", "2"])
    index = client.get_model_repository_index(headers=headers())
    check("triton: index", [entry["state"] for entry in index] == ["READY", "READY"])

    texts = np.array([text.encode() for text in TEXTS], dtype=np.object_)
    for as_bytes in (True, False):
        text = triton.InferInput("text", [len(TEXTS)], "BYTES")
        text.set_data_from_numpy(texts, binary_data=as_bytes)
        result = client.infer("embedder", [text], request_id="7", headers=headers())
        check("triton: vectors", near(result.as_numpy("embedding"), vectors))
        check("triton: the id comes back", result.get_response()["id"] == "7")
        for binary in (True, False):
            wanted = [triton.InferRequestedOutput("embedding", binary_data=binary)]
            result = client.infer("embedder", [text], outputs=wanted, headers=headers())
            check("triton: vectors that were asked for", near(result.as_numpy("embedding"), vectors))
    error = raises(
        "triton: an unknown model",
        InferenceServerException,
        lambda: client.infer("nobody", [text], headers=headers()),
    )
    check("triton: a failure in its shape", "not served" in error.message())
    error = raises("triton: no key", InferenceServerException, client.get_server_metadata)
    check("triton: a status", error.status() == "401")


def with_cohere() -> None:
    client = cohere.ClientV2(api_key=KEY, base_url=BASE)
    error = raises(
        "cohere: an embedding model ranks nothing",
        cohere.errors.BadRequestError,
        lambda: client.rerank(model="embedder", query="light", documents=TEXTS),
    )
    check("cohere: a failure in its shape", "gives vectors and no scores" in error.body["message"])
    old = cohere.Client(api_key=KEY, base_url=BASE)
    raises(
        "cohere: an unknown model",
        cohere.errors.NotFoundError,
        lambda: old.rerank(model="nobody", query="light", documents=TEXTS),
    )
    stranger = cohere.ClientV2(api_key="oil", base_url=BASE)
    raises(
        "cohere: another key",
        cohere.errors.UnauthorizedError,
        lambda: stranger.rerank(model="embedder", query="light", documents=TEXTS),
    )


def main() -> None:
    vectors = with_openai()
    with_hugging_face(vectors)
    with_triton(vectors)
    with_cohere()
    print(f"clients: {checks} checks passed")


if __name__ == "__main__":
    main()

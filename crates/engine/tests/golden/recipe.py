"""Makes all-minilm-l6-v2.json: what sentence-transformers answers, in 32-bit floats on a CPU.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python recipe.py path/to/all-MiniLM-L6-v2 > all-minilm-l6-v2.json

The folder is the one that cargo xtask test uses: the model without its package's own extras.
The file has the form of an artifact's golden.json, so the test that reads it reads it the way
a worker does. Texts run one by one: a batch would add the noise of padding to the reference.
"""

import hashlib
import json
import pathlib
import sys

import torch
from sentence_transformers import SentenceTransformer

WORDS = "river stone lantern winter harbour copper meadow thunder ribbon orchard".split()

TEXTS = {
    "one word": "lantern",
    "a sentence": "The lamplighter walked the harbour wall at dusk.",
    "a paraphrase": "At nightfall a man went along the quay lighting the lamps.",
    "another subject": "Interest rates rose for the third quarter in a row.",
    "nothing": "",
    "white space": " \t \n ",
    "punctuation": "?!… -- (;)",
    "capitals and accents": "CAFÉ Zürich naïve façade, Ångström and Straße",
    "other scripts": "東京の夜 Привет мир שלום עולם नमस्ते",
    "emoji and unknown": "🔥🚢 ok \u200d\ufeff x",
    "digits": "On 2024-02-29 at 13:37 the total was 1,234,567.89 (≈ 1.2e6).",
    "one long word": "antidisestablishmentarianism" * 4,
    "long": " ".join(WORDS[(i * i + i // 7) % len(WORDS)] for i in range(240)),
}


def artifact_digest(root: pathlib.Path) -> str:
    """The digest as crates/artifact/src/digest.rs defines it, written a second time."""
    lines = []
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and relative.as_posix() != "golden.json":
            content = path.read_bytes()
            name = relative.as_posix().encode()
            sha256 = hashlib.sha256(content).hexdigest().encode()
            lines.append((name, b"%s %d %s\n" % (sha256, len(content), name)))
    joined = b"".join(line for _, line in sorted(lines))
    return "sha256:" + hashlib.sha256(joined).hexdigest()


def main(folder: str) -> None:
    torch.manual_seed(0)
    model = SentenceTransformer(folder, device="cpu").float().eval()
    cases = []
    for name, text in TEXTS.items():
        tokens = len(model.tokenizer(text, truncation=False)["input_ids"])
        assert tokens <= model.max_seq_length, (name, tokens)
        vector = model.encode(text, convert_to_numpy=True)
        numbers = [float(f"{value:.7g}") for value in vector.tolist()]
        cases.append({"name": name, "text": text, "vector": numbers, "minCosine": "0.99999"})
        print(f"{name}: {tokens} tokens", file=sys.stderr)
    digest = artifact_digest(pathlib.Path(folder))
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    print(f'{{"format": 1, "artifactDigest": "{digest}", "cases": [\n{lines}\n]}}')


main(sys.argv[1])

"""Makes the folders beside it: a tiny model of every family and head, and what torch answers.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python reference.py

Each folder is an artifact as transformers and sentence-transformers save it, with weights by lot,
and expected.json: texts and pairs, their token ids, and the answers in 32-bit floats on a CPU. A
text runs alone, so that no padding adds its noise. `buckets.json` has MPNet's relative positions.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CamembertConfig,
    CamembertForSequenceClassification,
    CamembertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    MPNetConfig,
    MPNetForSequenceClassification,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    pipeline,
)
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

HERE = pathlib.Path(__file__).parent
WORDS = "the lamp river stone light winter".split()
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
LONGEST = 64
FAR = 150

TEXTS = [
    "the lamp",
    "x",
    "",
    "river stone light winter",
    "winter light on the river, and a stone",
    "The LAMP was lit?! (twice)",
    "CAFÉ Zürich naïve Straße 東京 мир 🔥",
    "  white \t space \n everywhere ",
    "aaaa bbbb aaaa bbbb aaaa",
    "lamp lamp lamp lamp lamp lamp lamp lamp lamp lamp lamp lamp",
]
PAIRS = [
    ("the lamp", "river stone light winter"),
    ("river stone light winter", "the lamp"),
    ("x", "y"),
    ("", "winter"),
    ("the", ""),
    ("CAFÉ", "мир 東京 🔥"),
    ("the lamp", "the lamp"),
]


def fast(tokenizer: Tokenizer, names: dict, inputs: list[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, model_max_length=LONGEST, **names
    )


def template(first: str, last: str, pair: str, ids: dict[str, int]):
    special = [(token, ids[token]) for token in (first, last)]
    return processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=pair, special_tokens=special
    )


def word_pieces(special: list[str], names: dict, pair: str, inputs: list[str]):
    vocabulary = special + WORDS + LETTERS + ["##" + letter for letter in LETTERS] + [",", "?"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=names["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = template(first, last, pair, ids)
    tokenizer.decoder = decoders.WordPiece()
    return fast(tokenizer, names, inputs)


def bert_tokenizer():
    names = {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return word_pieces(list(names.values()), names, pair, inputs)


def distilbert_tokenizer():
    tokenizer = bert_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


ROBERTA = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}
PAIR = "<s> $A </s> </s> $B </s>"


def mpnet_tokenizer():
    names = ROBERTA | {"unk_token": "[UNK]"}
    pair = "<s> $A </s> </s> $B:1 </s>:1"
    special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    return word_pieces(special, names, pair, ["input_ids", "attention_mask"])


def roberta_tokenizer():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "l"), ("a", "m"), ("am", "p"), ("Ġl", "amp")]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = special + letters + ["".join(merge) for merge in merges]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    tokenizer.decoder = decoders.ByteLevel()
    return fast(tokenizer, ROBERTA, ["input_ids", "attention_mask"])


def unigram_tokenizer():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [("▁", -3.0)] + [("▁" + word, -5.0 - 0.1 * n) for n, word in enumerate(WORDS)]
    pieces += [(letter, -6.0 - 0.05 * n) for n, letter in enumerate(LETTERS)]
    vocabulary = [(token, 0.0) for token in special] + pieces + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ids = {token: number for number, (token, _) in enumerate(vocabulary)}
    tokenizer.post_processor = template("<s>", "</s>", PAIR, ids)
    tokenizer.decoder = decoders.Metaspace()
    return fast(tokenizer, ROBERTA, ["input_ids", "attention_mask"])


SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
}
OF_ROBERTA = SIZES | {
    "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, "pad_token_id": 1,
    "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
}
# The configuration's class, its fields, the network, the same with a head, and the tokenizer.
FAMILIES = {
    "bert": (
        BertConfig,
        SIZES | {"max_position_embeddings": LONGEST + 8, "type_vocab_size": 2},
        BertModel, BertForSequenceClassification, bert_tokenizer,
    ),
    "roberta": (
        RobertaConfig, OF_ROBERTA,
        RobertaModel, RobertaForSequenceClassification, roberta_tokenizer,
    ),
    "xlm-roberta": (
        XLMRobertaConfig, OF_ROBERTA,
        XLMRobertaModel, XLMRobertaForSequenceClassification, unigram_tokenizer,
    ),
    "camembert": (
        CamembertConfig, OF_ROBERTA,
        CamembertModel, CamembertForSequenceClassification, unigram_tokenizer,
    ),
    "distilbert": (
        DistilBertConfig,
        {
            "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40,
            "max_position_embeddings": LONGEST,
        },
        DistilBertModel, DistilBertForSequenceClassification, distilbert_tokenizer,
    ),
    "mpnet": (
        MPNetConfig,
        # Further than the last bucket begins.
        SIZES | {"max_position_embeddings": FAR + 2},
        MPNetModel, MPNetForSequenceClassification, mpnet_tokenizer,
    ),
}


def lot(network: torch.nn.Module) -> None:
    """Numbers that no part can do without, the rows of padding among them."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias") or "norm" in name.lower():
                parameter.uniform_(-0.5, 0.5)
            else:
                parameter.uniform_(-0.6, 0.6)


def made(family: str, seed: int, has_head: bool, **fields):
    config_class, sizes, network_class, head_class, tokenizer = FAMILIES[family]
    tokenizer = tokenizer()
    if family == "mpnet":
        tokenizer.model_max_length = FAR
    torch.manual_seed(seed)
    config = config_class(vocab_size=len(tokenizer), **sizes, **fields)
    network = (head_class if has_head else network_class)(config).float().eval()
    lot(network)
    return network, tokenizer


def texts_of(tokenizer) -> list[str]:
    """With one that is as long as can be, and one with a token of padding in it."""
    def length(text: str) -> int:
        return len(tokenizer(text, truncation=False)["input_ids"])

    longest = tokenizer.model_max_length
    text = " ".join(WORDS[(n * n + n // 5) % len(WORDS)] for n in range(longest))
    while length(text) > longest:
        text = text.rsplit(" ", 1)[0]
    # A letter is one token whatever the tokenizer.
    while length(text) < longest:
        text += "x"
    return TEXTS + [text, f"the {tokenizer.pad_token} lamp"]


def encoded(tokenizer, *texts: str):
    """In a batch of one: left to itself, an empty second text is none."""
    one = texts[0] if len(texts) == 1 else texts
    return tokenizer([one], return_tensors="pt")


def ids(tokenizer, *texts: str) -> list[int]:
    found = encoded(tokenizer, *texts)["input_ids"][0].tolist()
    assert len(found) <= tokenizer.model_max_length, (texts, len(found))
    return found


def numbers(tensor) -> list:
    """The shortest decimals that are read back as the same 32-bit floats."""
    tensor = torch.as_tensor(tensor)
    if tensor.dim() > 1:
        return [numbers(row) for row in tensor]
    return [float(f"{value:.9g}") for value in tensor.tolist()]


def write(folder: pathlib.Path, expected: dict) -> None:
    for unneeded in ("README.md", "additional_chat_templates"):
        (folder / unneeded).unlink(missing_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in expected.items())
    (folder / "expected.json").write_text("{\n" + lines + "\n}\n")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(f"{folder.name}: {len(sizes)} files, {sum(sizes)} bytes")


def fresh(name: str) -> pathlib.Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def embedding(name, family, seed, pooling, normalize=False, dense=(), matryoshka=None):
    fields = {"matryoshka_dimensions": matryoshka} if matryoshka else {}
    network, tokenizer = made(family, seed, False, **fields)
    folder = fresh(name)
    with tempfile.TemporaryDirectory() as plain:
        network.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        transformer = Transformer(plain, max_seq_length=tokenizer.model_max_length)
        modules = [transformer, Pooling(24, pooling_mode=pooling)]
        for size_in, size_out, bias, activation in dense:
            layer = Dense(size_in, size_out, bias=bias, activation_function=activation)
            lot(layer)
            modules.append(layer)
        if normalize:
            modules.append(Normalize())
        model = SentenceTransformer(modules=modules, device="cpu").eval()
        model.save_pretrained(str(folder), create_model_card=False)
    model = SentenceTransformer(str(folder), device="cpu").eval()
    texts = texts_of(tokenizer)
    tokens = [model.encode(text, output_value="token_embeddings") for text in texts[:5]]
    expected = {
        "texts": texts,
        "ids": [ids(tokenizer, text) for text in texts],
        "vectors": [numbers(model.encode(text)) for text in texts],
        "tokenVectors": [numbers(vectors) for vectors in tokens],
    }
    write(folder, expected)


def head(name, family, seed, labels, saved_by, pairs, **fields):
    id2label = dict(enumerate(labels))
    label2id = {label: number for number, label in id2label.items()}
    network, tokenizer = made(family, seed, True, id2label=id2label, label2id=label2id, **fields)
    folder = fresh(name)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if saved_by == "sentence-transformers":
        with tempfile.TemporaryDirectory() as again:
            CrossEncoder(str(folder), device="cpu").save_pretrained(again)
            shutil.rmtree(folder)
            shutil.copytree(again, folder)
    asked = PAIRS if pairs else [(text,) for text in texts_of(tokenizer)]
    with torch.no_grad():
        logits = [network(**encoded(tokenizer, *texts)).logits[0] for texts in asked]
    if saved_by == "transformers" and not pairs:
        classify = pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu")
        scaled = []
        for texts in asked:
            by_label = {found["label"]: found["score"] for found in classify(texts[0], top_k=None)}
            scaled.append(numbers([by_label[label] for label in labels]))
    else:
        encoder = CrossEncoder(str(folder), device="cpu")
        scaled = [numbers(encoder.predict([texts])[0].reshape(-1)) for texts in asked]
    expected = {
        "texts": asked,
        "ids": [ids(tokenizer, *texts) for texts in asked],
        "scores": [numbers(scores) for scores in logits],
        "scaled": scaled,
        "labels": labels,
    }
    write(folder, expected)


def buckets() -> None:
    """Of a key's distance from a query, from far behind it to far before it."""
    distances = torch.arange(-600, 601)
    found = MPNetEncoder.relative_position_bucket(distances)
    (HERE / "buckets.json").write_text(json.dumps(found.tolist()) + "\n")


def main() -> None:
    embedding("bert-mean", "bert", 1, "mean", normalize=True)
    embedding("roberta-cls", "roberta", 2, "cls")
    embedding("xlm-roberta-mean", "xlm-roberta", 3, "mean", normalize=True)
    embedding("camembert-last", "camembert", 4, "lasttoken")
    embedding("distilbert-max", "distilbert", 5, "max")
    embedding("mpnet-mean", "mpnet", 6, "mean", normalize=True)
    dense = [(24, 20, True, torch.nn.Tanh()), (20, 12, False, torch.nn.Identity())]
    embedding("bert-dense", "bert", 7, "cls", normalize=True, dense=dense, matryoshka=[4, 8, 12])
    three = ["bad", "fair", "good"]
    head("bert-reranker", "bert", 11, ["LABEL_0"], "sentence-transformers", True)
    head("bert-classes", "bert", 12, three, "transformers", False)
    several = "multi_label_classification"
    head("roberta-tags", "roberta", 13, three, "transformers", False, problem_type=several)
    identity = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}
    one = ["LABEL_0"]
    head(
        "xlm-roberta-reranker", "xlm-roberta", 14, one, "transformers", True,
        sentence_transformers=identity,
    )
    head("camembert-classes", "camembert", 15, three, "transformers", False)
    head("distilbert-classes", "distilbert", 16, ["NEGATIVE", "POSITIVE"], "transformers", False)
    old = "torch.nn.modules.activation.Sigmoid"
    head(
        "mpnet-reranker", "mpnet", 17, one, "transformers", True,
        sbert_ce_default_activation_function=old,
    )
    buckets()


if __name__ == "__main__":
    main()

"""A cross-encoder of the size of MiniLM-L6 whose weights are drawn by lot, the same in every run.

    python cross_encoder.py TOKENIZER TARGET

TOKENIZER is the folder of a BERT model with the vocabulary of bert-base-uncased. Its weights are larger
than those that a network is trained from, so that scores of other passages are other scores.
"""

import json
import shutil
import sys

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification

source, target = sys.argv[1:]
torch.manual_seed(20261128)
config = BertConfig(
    vocab_size=30522,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    initializer_range=0.05,
    num_labels=1,
)
model = BertForSequenceClassification(config).eval()
with torch.no_grad():
    model.classifier.weight.mul_(8)
model.save_pretrained(target)

# Other lengths than those that the source was saved with.
tokenizer = Tokenizer.from_file(f"{source}/tokenizer.json")
tokenizer.no_truncation()
tokenizer.no_padding()
tokenizer.save(f"{target}/tokenizer.json")
for name in ("special_tokens_map.json", "vocab.txt"):
    shutil.copy(f"{source}/{name}", f"{target}/{name}")
with open(f"{source}/tokenizer_config.json") as file:
    settings = json.load(file)
settings["model_max_length"] = config.max_position_embeddings
with open(f"{target}/tokenizer_config.json", "w") as file:
    json.dump(settings, file)

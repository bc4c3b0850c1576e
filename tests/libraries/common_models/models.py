"""Small models of 22 families, in the form that transformers' common model tests ask for.

Run by pytest beside the sources of those tests, which `run.py` unpacks (`transformers_tests`).
"""

import unittest

import torch
import transformers
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor

BATCH, LENGTH, VOCABULARY, WIDTH, HEADS, LAYERS = 2, 7, 99, 32, 4, 2

TEXT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
GROUPED = {"num_key_value_heads": 2}
EXPERTS = GROUPED | {"num_experts_per_tok": 2}

#: Class names' first part, the family, and what it needs beside `TEXT`.
DECODERS = {
    "Llama": ("llama", GROUPED),
    "Mistral": ("mistral", GROUPED),
    "Qwen2": ("qwen2", GROUPED),
    "Qwen3": ("qwen3", GROUPED | {"head_dim": 8}),
    "Gemma": ("gemma", GROUPED | {"head_dim": 8}),
    "Gemma2": ("gemma2", GROUPED | {"head_dim": 8}),
    "Phi": ("phi", {}),
    "Phi3": ("phi3", GROUPED),
    "Olmo2": ("olmo2", {}),
    "StableLm": ("stablelm", GROUPED),
    "GPT2": ("gpt2", {"n_inner": 48, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "GPTNeoX": ("gpt_neox", {}),
    "OPT": ("opt", {"word_embed_proj_dim": WIDTH, "ffn_dim": 48, "dropout": 0.0}),
    "Bloom": ("bloom", {}),
    "Mixtral": ("mixtral", EXPERTS | {"num_local_experts": 4}),
    "Qwen3Moe": ("qwen3_moe", EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}),
    "Granite": ("granite", GROUPED),
}
ENCODERS = {"Bert": ("bert", {}), "Roberta": ("roberta", {}), "Electra": ("electra", {"embedding_size": WIDTH})}


class Tester:
    """The `model_tester` of a family: its configuration, and inputs of each of its models."""

    batch_size, seq_length, encoder_seq_length, key_length = BATCH, LENGTH, LENGTH, LENGTH
    hidden_size, num_hidden_layers, num_attention_heads = WIDTH, LAYERS, HEADS
    vocab_size, num_labels, num_choices, is_training = VOCABULARY, 3, 2, True

    def __init__(self, family: str, extra: dict) -> None:
        self.family, self.extra = family, extra

    def get_config(self):
        return transformers.AutoConfig.for_model(self.family, **(TEXT | self.extra))

    def prepare_config_and_inputs_for_common(self):
        tokens = ids_tensor([BATCH, LENGTH], VOCABULARY - 3) + 3
        return self.get_config(), {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    prepare_config_and_inputs = prepare_config_and_inputs_for_common


class VisionTester(Tester):
    image_size, patch_size, num_masks, mask_length = 16, 8, 2, 4

    def __init__(self, family: str, first_tokens: int) -> None:
        super().__init__(family, {})
        # Of the picture's four patches, and what stands before them.
        self.seq_length = self.encoder_seq_length = self.key_length = 4 + first_tokens

    def get_config(self):
        small = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        small |= {"intermediate_size": 48, "image_size": 16, "patch_size": 8, "num_labels": 3}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return transformers.AutoConfig.for_model(self.family, **(small | dropout | self.extra))

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"pixel_values": floats_tensor([BATCH, 3, 16, 16])}

    prepare_config_and_inputs = prepare_config_and_inputs_for_common


def declare(prefix: str, tester: Tester, kinds: list[str]) -> None:
    classes = tuple(getattr(transformers, prefix + kind) for kind in kinds if hasattr(transformers, prefix + kind))
    assert len(classes) > 1, prefix

    def setUp(self):
        self.model_tester = tester

    name = f"{prefix}Test"
    members = {"all_model_classes": classes, "setUp": setUp, "__module__": __name__}
    globals()[name] = type(name, (ModelTesterMixin, unittest.TestCase), members)


for prefix, (family, extra) in DECODERS.items():
    declare(prefix, Tester(family, extra), ["Model", "ForCausalLM", "LMHeadModel", "ForSequenceClassification"])
for prefix, (family, extra) in ENCODERS.items():
    declare(prefix, Tester(family, extra), ["Model", "ForMaskedLM", "ForTokenClassification", "ForMultipleChoice"])
for prefix, family, first_tokens in (("ViT", "vit", 1), ("DeiT", "deit", 2)):
    declare(prefix, VisionTester(family, first_tokens), ["Model", "ForImageClassification"])
    globals()[f"{prefix}Test"].test_resize_embeddings = False

"""transformers' models of pictures and words on the device."""

import copy

import pytest
import torch

from libraries.comparing import SIZES, check_trains_as_on_the_cpu

transformers = pytest.importorskip("transformers", reason="transformers is not installed: `make libraries` installs it")


WORDS = SIZES | {"num_key_value_heads": 2}
SIGHT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 8,
}
#: The token that stands for a part of a picture.
PICTURE = 63
PIXELS = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def tokens(*before_and_after: int, parts: int = 4) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[before_and_after[0], *[PICTURE] * parts, *before_and_after[1:]]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def llava():
    sight = transformers.CLIPVisionConfig(**SIGHT, projection_dim=32)
    config = transformers.LlavaConfig(
        vision_config=sight,
        text_config=transformers.LlamaConfig(**WORDS),
        image_token_index=PICTURE,
        image_seq_length=4,
    )
    return transformers.LlavaForConditionalGeneration(config), tokens(1, 5, 6) | {"pixel_values": PIXELS}


def paligemma():
    sight = transformers.SiglipVisionConfig(**SIGHT, vision_use_head=False)
    words = transformers.GemmaConfig(**WORDS, head_dim=8)
    sizes = {"image_token_index": PICTURE, "projection_dim": 32, "hidden_size": 32}
    config = transformers.PaliGemmaConfig(vision_config=sight, text_config=words, **sizes)
    model = transformers.PaliGemmaForConditionalGeneration(config)
    inputs = tokens(PICTURE, 1, 5, 6, parts=3)
    return model, inputs | {"pixel_values": PIXELS, "token_type_ids": torch.zeros_like(inputs["input_ids"])}


def idefics3():
    words = transformers.LlamaConfig(**WORDS)
    config = transformers.Idefics3Config(text_config=words, vision_config=SIGHT, image_token_id=PICTURE, scale_factor=1)
    return transformers.Idefics3ForConditionalGeneration(config), tokens(1, 5, 6) | {"pixel_values": PIXELS[None]}


def qwen2_vl():
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    sight = {"depth": 2, "embed_dim": 32, "num_heads": 4, "hidden_size": 32, "mlp_ratio": 2, "patch_size": 8}
    config = transformers.Qwen2VLConfig(
        text_config=WORDS | {"rope_parameters": rope},
        vision_config=sight | {"spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=PICTURE,
        video_token_id=62,
        vision_start_token_id=61,
        vision_end_token_id=60,
    )
    inputs = tokens(61, 60, 5, 6, parts=1)
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == PICTURE).int()
    patches = torch.rand(4, 3 * 2 * 8 * 8, generator=torch.Generator().manual_seed(1))
    inputs |= {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, 2, 2]])}
    return transformers.Qwen2VLForConditionalGeneration(config), inputs


FAMILIES = [llava, paligemma, idefics3, qwen2_vl]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_as_on_the_cpu(family):
    torch.manual_seed(0)
    model, inputs = family()

    def step(run, device):
        given = {name: value.to(device) for name, value in inputs.items()}
        output = run(**given, labels=given["input_ids"])
        return output.logits, output.loss

    check_trains_as_on_the_cpu(lambda: copy.deepcopy(model), step)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_as_on_the_cpu(family):
    torch.manual_seed(0)
    model, inputs = family()
    answers = []
    for device in ("cpu", "rustorch"):
        there = copy.deepcopy(model).eval().to(device)
        given = {name: value.to(device) for name, value in inputs.items()}
        answers.append(there.generate(**given, max_new_tokens=4, do_sample=False).tolist())
    assert answers[1] == answers[0]


def test_clip():
    torch.manual_seed(0)
    sizes = {"text_config": WORDS | {"projection_dim": 16}, "vision_config": SIGHT | {"projection_dim": 16}}
    model = transformers.CLIPModel(transformers.CLIPConfig(**sizes, projection_dim=16)).eval()
    inputs = {"input_ids": torch.tensor([[1, 5, 9, 2], [1, 7, 8, 2]]), "pixel_values": PIXELS}
    there = copy.deepcopy(model).to("rustorch")
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
        actual = there(**{name: value.to("rustorch") for name, value in inputs.items()}).logits_per_image
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-3, atol=1e-4)

"""transformers on the device: Trainer, generation in its ways, loading by device maps, pipelines."""

import pytest
import torch

from libraries.comparing import SIZES

transformers = pytest.importorskip("transformers", reason="transformers is not installed: `make libraries` installs it")
pytest.importorskip("accelerate", reason="accelerate is not installed: `make libraries` installs it")

import rustorch_device.integrations.accelerate  # noqa: E402, F401

pytestmark = pytest.mark.allow_fallback

#: Families of language models, with what each needs beside the sizes.
FAMILIES = {
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "phi": {},
    "phi3": {"num_key_value_heads": 2},
    "olmo": {},
    "stablelm": {"num_key_value_heads": 2},
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "bloom": {},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "qwen2_moe": {"num_key_value_heads": 2, "num_experts": 4, "moe_intermediate_size": 16},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "falcon": {},
    "starcoder2": {"num_key_value_heads": 2},
    "bert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "electra": {"is_decoder": True},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "granite": {"num_key_value_heads": 2},
}


def small(family: str = "llama"):
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


TOKENS = torch.tensor([[1, 5, 9, 11, 23, 7], [1, 8, 3, 30, 12, 4]])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_as_on_the_cpu(family):
    ours, theirs = small(family).to("rustorch"), small(family)
    results = []
    for model, tokens in ((ours, TOKENS.to("rustorch")), (theirs, TOKENS)):
        output = model(input_ids=tokens, labels=tokens)
        output.loss.backward()
        results.append((output, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (output, gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(output.logits.detach().cpu(), expected.logits.detach(), rtol=1e-3, atol=1e-4)
    assert gradients.keys() == expected_gradients.keys() and gradients
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name].cpu(), gradient, rtol=1e-2, atol=1e-4, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_family_trains_as_it_does_eager(family):
    torch._dynamo.reset()
    model, eager = small(family).to("rustorch"), small(family).to("rustorch")
    run = torch.compile(model, backend="rust_backend")
    tokens = TOKENS.to("rustorch")
    losses = []
    for of in (run, eager):
        output = of(input_ids=tokens, labels=tokens)
        output.loss.backward()
        losses.append(output.loss.detach())
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    expected = {name: p.grad for name, p in eager.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        if name in expected:
            difference = (parameter.grad - expected[name]).norm()
            assert difference <= 1e-3 * expected[name].norm() + 1e-5, name
    assert expected


WAYS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "prompt lookup": {"prompt_lookup_num_tokens": 2, "batch": 1},
    "repetition": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


def generate(model, batch: int = 2, **way) -> list[list[int]]:
    tokens = TOKENS[:batch].to(model.device)
    given = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(tokens)}
    return model.generate(tokens, **(given | way)).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_generation_is_the_cpus(way):
    assert generate(small().to("rustorch"), **WAYS[way]) == generate(small(), **WAYS[way])


def test_sampling_repeats():
    model = small().to("rustorch")
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(generate(model, do_sample=True, top_k=20, top_p=0.9, temperature=0.8))
    assert drawn[0] == drawn[1]


def test_a_static_cache_is_compiled():
    compiled = transformers.CompileConfig(backend="rust_backend", mode="reduce-overhead")
    compiled._compile_all_devices = True
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        tokens = generate(small().to("rustorch"), cache_implementation="static", compile_config=compiled)
    assert tokens == generate(small())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_continuous_batching():
    """Many requests at once, over a cache that is no larger than they need."""
    settings = transformers.GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=-1)
    cache = transformers.ContinuousBatchingConfig(num_blocks=32)
    requests = [[1, *range(3, 3 + length)] for length in (5, 9, 14, 7)]
    answers = []
    for device in ("cpu", "rustorch"):
        given = small().to(device).generate_batch(requests, settings, continuous_batching_config=cache)
        answers.append([answer.generated_tokens for answer in given.values()])
    assert len(answers[0]) == len(requests) and answers[1] == answers[0]


@pytest.mark.parametrize("device_map", ["rustorch", "auto", {"": "rustorch"}])
def test_from_pretrained(device_map, tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map)
    assert {parameter.device.type for parameter in loaded.parameters()} == {"rustorch"}
    with torch.no_grad():
        actual = loaded(TOKENS.to("rustorch")).logits.cpu()
        torch.testing.assert_close(actual, model(TOKENS).logits, rtol=1e-3, atol=1e-4)


def test_a_pipeline():
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    from PIL import Image

    image = Image.new("RGB", (64, 64), (200, 30, 90))
    processor = transformers.ViTImageProcessor()
    answers = []
    for device in ("cpu", "rustorch"):
        pipe = transformers.pipeline("image-classification", model=model, image_processor=processor, device=device)
        answers.append(pipe(image))
        assert pipe.model.device.type == device
    for theirs, ours in zip(*answers, strict=True):
        assert ours["label"] == theirs["label"] and ours["score"] == pytest.approx(theirs["score"], rel=1e-3)


class Sentences(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = (TOKENS[index % 2] + index) % 60 + 3
        return {"input_ids": tokens, "labels": tokens}


def trainer(folder, steps: int, **arguments):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("gpt2", **SIZES, resid_pdrop=0.2, embd_pdrop=0.2)
    model = transformers.AutoModelForCausalLM.from_config(config)
    chosen = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, save_steps=2, report_to=[], **arguments
    )
    return transformers.Trainer(model=model, args=chosen, train_dataset=Sentences())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"bf16": True}, {"fp16": True}, {"torch_compile_backend": "rust_backend"}],
    ids=["eager", "bf16", "fp16", "compiled"],
)
def test_trainer(arguments, tmp_path):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    run = trainer(tmp_path, 4, **arguments)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.train().global_step == 4
    assert run.args.device.type == "rustorch"
    weights = run.model.state_dict()
    assert {value.device.type for value in weights.values()} == {"rustorch"}
    assert any((value.cpu() != before[name].cpu()).any() for name, value in weights.items())


def test_a_resumed_trainer_is_an_uninterrupted_one(tmp_path):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    whole = trainer(tmp_path, 4)
    whole.train()
    torch.rand(5, device="rustorch")
    resumed = trainer(tmp_path, 4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name

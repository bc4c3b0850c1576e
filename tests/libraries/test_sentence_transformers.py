"""sentence-transformers on the device: sentences encoded, and a model trained."""

import pytest
import torch

reason = "sentence-transformers is not installed: `make libraries` installs it"
library = pytest.importorskip("sentence_transformers", reason=reason)
transformers = pytest.importorskip("transformers", reason="transformers is not installed: `make libraries` installs it")

import rustorch_device.integrations.accelerate  # noqa: E402, F401

pytestmark = pytest.mark.allow_fallback
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "cat", "dog", "sat", "on", "mat", "ran", "slow"]
SENTENCES = ["the cat sat on the mat", "a dog ran", "slow cat"]


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_sentences_are_encoded_as_on_the_cpu(folder):
    encoded = {}
    for device in ("cpu", "rustorch"):
        model = library.SentenceTransformer(folder, device=device)
        assert model.device.type == device
        encoded[device] = torch.as_tensor(model.encode(SENTENCES))
        similarity = model.similarity(encoded[device], encoded[device])
        torch.testing.assert_close(similarity.diagonal().cpu(), torch.ones(len(SENTENCES)))
    torch.testing.assert_close(encoded["rustorch"], encoded["cpu"], rtol=1e-3, atol=1e-4)
    there = model.encode(SENTENCES, convert_to_tensor=True)
    assert there.device.type == "rustorch"
    torch._dynamo.reset()
    model.compile(backend="rust_backend")
    compiled = torch.as_tensor(model.encode(SENTENCES))
    torch.testing.assert_close(compiled, encoded["rustorch"], rtol=1e-4, atol=1e-5)


def test_a_model_learns(folder):
    model = library.SentenceTransformer(folder, device="rustorch")
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    loss = CosineSimilarityLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    features = [
        {name: value.to("rustorch") for name, value in model.tokenize(part).items() if isinstance(value, torch.Tensor)}
        for part in (SENTENCES[:2], SENTENCES[1:])
    ]
    labels = torch.tensor([1.0, -1.0], device="rustorch")
    found = []
    for _ in range(8):
        optimizer.zero_grad()
        value = loss(features, labels)
        value.backward()
        optimizer.step()
        found.append(value.item())
    assert found[-1] < found[0]

"""PyTorch's cache of compiled graphs: a second process does without autograd's tracing."""

import json

import pytest
import torch

STEP = """
import json, torch
from torch._dynamo.utils import counters
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 3)).to("{device}")
x = torch.randn(5, 6).to("{device}")
run = torch.compile(model, backend="rust_backend", options={{"cache": {cache}}})
out = run(x)
out.square().sum().backward()
keys = ("autograd_cache_hit", "autograd_cache_miss", "autograd_cache_bypass")
found = {{key: counters["aot_autograd"][key] for key in keys}}
gradients = [p.grad.cpu().tolist() for p in model.parameters()]
print(json.dumps([found, out.tolist(), gradients]))
"""


def outcome(python, folder, device, cache=True, before="", after=""):
    done = python(
        before + STEP.format(device=device, cache=cache) + after,
        TORCHINDUCTOR_CACHE_DIR=str(folder),
        TORCHINDUCTOR_FORCE_DISABLE_CACHES="0",
        RUSTORCH_FALLBACK="error",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("device", ["cpu", "rustorch"])
def test_a_second_process_starts_warm_and_computes_the_same(python, tmp_path, device):
    cold, *expected = outcome(python, tmp_path, device)
    warm, *actual = outcome(python, tmp_path, device)
    assert (cold["autograd_cache_hit"], cold["autograd_cache_miss"]) == (0, 1)
    assert (warm["autograd_cache_hit"], warm["autograd_cache_miss"]) == (1, 0)
    assert actual == expected


def test_nothing_is_kept_unless_asked_for(python, tmp_path):
    found, *expected = outcome(python, tmp_path, "cpu", cache=False)
    assert not any(found.values())
    assert expected == outcome(python, tmp_path, "cpu")[1:]


def test_artifacts_travel(python, tmp_path):
    bundle = tmp_path / "bundle"
    save = f"open({str(bundle)!r}, 'wb').write(torch.compiler.save_cache_artifacts()[0])"
    load = f"import torch; torch.compiler.load_cache_artifacts(open({str(bundle)!r}, 'rb').read())\n"
    _, *expected = outcome(python, tmp_path / "here", "cpu", after=save)
    found, *actual = outcome(python, tmp_path / "there", "cpu", before=load)
    assert found["autograd_cache_hit"] == 1
    assert actual == expected


def test_errors_name_the_line_of_a_kept_graph(python, tmp_path):
    program = """
import torch
@torch.compile(backend="rust_backend", options={"cache": True})
def pick(table, rows):
    return table.index_select(0, rows)  # the line
try:
    pick(torch.zeros(3, 2), torch.tensor([0, 7]))
except IndexError as error:
    print(error)
"""
    source = tmp_path / "pick.py"
    source.write_text(program)
    run = f"import runpy; runpy.run_path({str(source)!r})"
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "0"}
    texts = [python(run, **environment).stdout for _ in range(2)]
    assert 'pick.py", line 5, in pick' in texts[0]
    assert texts[0] == texts[1]


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="no option tracing; it knows: cache"):
        torch.compile(torch.nn.ReLU(), backend="rust_backend", options={"tracing": True})(torch.ones(2))

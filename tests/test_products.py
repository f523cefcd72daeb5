"""Training with products in bfloat16: close to float32, float32 outside, refused where the device has none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vln_clip import devices
from vln_clip.agents import products
from vln_clip.agents.nn import RaggedLSTM, step_linear
from vln_clip.agents.products import learning_in, linear, product_dtype, products_in
from vln_clip.devices import has_fast_bfloat16
from vln_clip.errors import InputError

CPU = torch.device("cpu")


def gradients(dtype):
    """A linear layer used twice and an LSTM over ragged sequences, learned from: outputs and gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm, weight, bias = RaggedLSTM(8, 16, bidirectional=True), torch.randn(32, 8), torch.randn(32)
        x = torch.randn(3, 5, 8)
    leaves = [tensor.requires_grad_() for tensor in (weight, bias, x)]
    with products_in(dtype):
        apply = step_linear(weight, bias)
        parts = (*lstm(x, torch.tensor([5, 2, 4])), apply(x[:, 0]), apply(x[:, 1]), linear(x[:, 2], weight, bias))
        total = sum(part.tanh().sum() for part in parts)
        assert all(part.dtype == torch.float32 for part in parts)
    found = torch.autograd.grad(total, [*leaves, *lstm.parameters()])
    assert all(grad.dtype == torch.float32 for grad in found)
    return [part.detach() for part in parts], found


def test_bfloat16_is_close_to_float32_and_not_the_same():
    ours, wanted = gradients(torch.bfloat16), gradients(None)
    for a, b in zip(ours[0] + list(ours[1]), wanted[0] + list(wanted[1]), strict=True):
        assert float((a - b).norm() / b.norm()) < 0.02  # 8 bits of mantissa: 0.4 % each
        assert not torch.equal(a, b)


def test_nothing_is_rounded_outside_and_without_gradients():
    asked = []
    learn = learning_in(torch.bfloat16, lambda: asked.append(product_dtype()) or {})
    learn()
    with products_in(torch.bfloat16), torch.no_grad():
        asked.append(product_dtype())
    assert asked == [torch.bfloat16, None]
    assert product_dtype() is None


def test_a_device_without_bfloat16_refuses(monkeypatch):
    assert devices.product_type("float32", CPU) is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    assert not has_fast_bfloat16(CPU)
    with pytest.raises(InputError, match=r"--precision must be float32 on this cpu, got 'bf16': it has no bfloat16"):
        devices.product_type("bf16", CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert devices.product_type("bf16", CPU) == torch.bfloat16
    assert products.learning_in(None, gradients) is gradients


def test_the_command_line_of_training_is_read_before_anything_heavy_is_imported():
    code = "import sys, vln_clip.train; print({'torch', 'accelerate', 'matplotlib'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Optimizers step as PyTorch's own do, and never load its compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vln_clip import checkpoint
from vln_clip.optimizers import KINDS, JointOptimizer, make_group_optimizer, make_optimizer

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", KINDS)
def test_steps_and_states_are_those_of_pytorch(name):
    models = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make_optimizer(models[0], name, 0.1), KINDS[name](models[1].parameters(), lr=0.1)]
    for x in torch.randn(3, 4, 3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(models[0].weight, models[1].weight)
    assert models[0].weight.requires_grad
    ours, wanted = (optimizer.state_dict() for optimizer in optimizers)
    assert ours["param_groups"] == wanted["param_groups"]
    assert str(ours["state"]) == str(wanted["state"])
    assert repr(optimizers[0]) == repr(optimizers[1])


def test_an_iteration_does_not_load_the_compiler():
    code = f"""
import sys
import torch
import vln_clip.recipe
from vln_clip.envdrop import clip_each
from vln_clip.optimizers import make_optimizer
for name in {list(KINDS)}:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    optimizer = make_optimizer(model, name, 0.1)
    optimizer.zero_grad(set_to_none=True)
    model(torch.ones(1, 3)).sum().backward()
    clip_each(model, ("0",), 1.0)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print([module for module in ("torch._dynamo", "torch._inductor", "sympy") if module in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def joint(model):
    """AdamW for the first layer, weights and biases apart; SGD for the second, at a rate of its own."""
    first = [{"params": [model[0].weight]}, {"params": [model[0].bias], "weight_decay": 0.0}]
    return JointOptimizer(
        make_group_optimizer(first, "adamw", lr=0.1, weight_decay=0.5),
        make_group_optimizer([{"params": list(model[1].parameters())}], "sgd", lr=0.5, momentum=0.9),
    )


def step(model, optimizer, x):
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


def test_a_joint_optimizer_goes_on_where_it_was_saved():
    torch.manual_seed(0)
    model, xs = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)), torch.randn(3, 4, 3)
    optimizer = joint(model)
    step(model, optimizer, xs[0])
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    other.load_state_dict(model.state_dict())
    again = joint(other)
    saved = {name: value.clone() for name, value in checkpoint.flatten_optimizer(optimizer).items()}
    checkpoint.restore_optimizer(again, saved)
    for x in xs[1:]:
        step(model, optimizer, x)
        step(other, again, x)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_every_part_of_a_joint_optimizer_steps_in_its_own_way():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    apart = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    apart.load_state_dict(model.state_dict())
    parts = joint(apart).parts
    x = torch.randn(4, 3)
    step(model, joint(model), x)
    apart(x).square().sum().backward()
    for part in parts:
        part.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), apart.parameters(), strict=True))
    assert [group["lr"] for group in joint(model).param_groups] == [0.1, 0.1, 0.5]

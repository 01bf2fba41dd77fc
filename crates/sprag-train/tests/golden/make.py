"""Makes gpt.json: what PyTorch says of a tiny GPT, for tests/golden.rs. Needs torch; run it beside this file.

All weights come from a formula, so that only results are kept. Shapes are [in, out]. Weights are rounded to single
precision, and all else is double: in single precision, PyTorch is off by up to 3e-5 here.
"""

import json
import math
from pathlib import Path

import torch

VOCAB, WIDTH, HEADS, KV_HEADS, HIDDEN, LAYERS = 11, 8, 2, 1, 16, 2
ROWS, SEQ, WINDOW, SOFTCAP, QK_SCALE, BASE = 2, 6, 4, 15.0, 1.3, 100.0
DIM = WIDTH // HEADS


def weights(number, rows, columns):
    """Numbers between -0.5 and 0.5; the same formula stands in golden.rs."""
    at = torch.arange(rows * columns, dtype=torch.float64)
    return (0.5 * torch.sin(0.7 * at * at + 1.3 * number)).float().double().reshape(rows, columns)


def norm(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


shapes = [(VOCAB, WIDTH), (WIDTH, VOCAB)]
for _ in range(LAYERS):
    kv = KV_HEADS * DIM
    shapes += [(WIDTH, WIDTH), (WIDTH, kv), (WIDTH, kv), (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH), (1, 2)]
params = [weights(number, *shape).requires_grad_() for number, shape in enumerate(shapes)]

position = torch.arange(SEQ, dtype=torch.float64)
pair = torch.arange(DIM // 2, dtype=torch.float64) / (DIM // 2)
angle = torch.outer(position, BASE**-pair)
cos, sin = angle.cos(), angle.sin()


def turn(x):
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


def heads(x, count):
    return x.view(ROWS, SEQ, count, DIM).transpose(1, 2)


def model(tokens):
    table, head, *rest = params
    first = norm(table[tokens])
    x = first
    ages = torch.arange(SEQ)[:, None] - torch.arange(SEQ)[None, :]
    hidden = (ages < 0) | (ages >= WINDOW)
    for layer in range(LAYERS):
        query, key, value, output, up, down, mix = rest[7 * layer : 7 * layer + 7]
        x = x * mix[0, 0] + first * mix[0, 1]
        y = norm(x)
        q = norm(turn(heads(y @ query, HEADS))) * QK_SCALE
        k = norm(turn(heads(y @ key, KV_HEADS))).repeat_interleave(HEADS // KV_HEADS, 1)
        v = heads(y @ value, KV_HEADS).repeat_interleave(HEADS // KV_HEADS, 1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(DIM)).masked_fill(hidden, -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(ROWS, SEQ, WIDTH)
        x = x + mixed @ output
        x = x + torch.relu(norm(x) @ up).square() @ down
    return SOFTCAP * torch.tanh(norm(x) @ head / SOFTCAP)


def adamw(param, gradients):
    param = param.detach().clone().requires_grad_()
    optimiser = torch.optim.AdamW([param], lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    for gradient in gradients:
        param.grad = gradient.clone()
        optimiser.step()
    return param.detach()


def muon(param, gradients):
    """Jordan's Muon: Nesterov momentum, five Newton-Schulz iterations."""
    value, momentum = param.detach().clone(), torch.zeros_like(param)
    for gradient in gradients:
        momentum = 0.9 * momentum + 0.1 * gradient
        x = 0.1 * gradient + 0.9 * momentum
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.T if tall else x
        rate = 0.02 * max(1.0, param.shape[1] / param.shape[0]) ** 0.5
        value = value * (1.0 - 0.02 * 0.1) - rate * x
    return value


tokens = torch.tensor([[(3 * row + 5 * at) % VOCAB for at in range(SEQ)] for row in range(ROWS)])
targets = (tokens * 7 + 2) % VOCAB
logits = model(tokens)
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
loss.backward()
gradients = [param.grad for param in params]
up = params[6]
sequence = [up.grad, -0.5 * up.grad.flip(0), up.grad.flip(1)]


def plain(tensor):
    return [float(f"{number:.9g}") for number in tensor.detach().double().flatten().tolist()]


golden = {
    "made_by": f"torch {torch.__version__}, double precision from single-precision weights",
    "logits": plain(logits),
    "loss": plain(loss.reshape(1)),
    "gradients": [plain(gradient) for gradient in gradients],
    "adamw": plain(adamw(up, sequence)),
    "muon_wide": plain(muon(up, sequence)),
    "muon_tall": plain(muon(up.T, [gradient.T for gradient in sequence])),
}
Path(__file__).with_name("gpt.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")

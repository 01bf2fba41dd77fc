"""PyTorch's side of `step.rs`: the same small GPT and batch, timed a step at a time. Prints one line of JSON.

Usage: step.py NAME N_LAYER D_MODEL N_HEAD SEQ_LEN BATCH VOCAB THREADS [--bf16] [--compile]
"""

import json
import resource
import statistics
import sys
import time

import torch
from torch.nn import functional

WARMUP, STEPS, SOFTCAP = 3, 15, 15.0
name = sys.argv[1]
layers, width, heads, seq_len, batch, vocab, threads = (int(word) for word in sys.argv[2:9])
bf16, compiled = "--bf16" in sys.argv, "--compile" in sys.argv
head_dim = width // heads
torch.set_num_threads(threads)
torch.manual_seed(0)


def norm(x):
    return functional.rms_norm(x, x.shape[-1:])


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        # One matrix for queries, keys and values: what PyTorch is fastest with.
        self.project = torch.nn.Linear(width, 3 * width, bias=False)
        self.output = torch.nn.Linear(width, width, bias=False)
        self.up = torch.nn.Linear(width, 4 * width, bias=False)
        self.down = torch.nn.Linear(4 * width, width, bias=False)

    def forward(self, x, turn):
        rows, seq, _ = x.shape
        query, key, value = self.project(norm(x)).view(rows, seq, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        query, key = norm(turn(query)), norm(turn(key))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(rows, seq, width))
        return x + self.down(functional.relu(self.up(norm(x))).square())


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(vocab, width)
        self.layers = torch.nn.ModuleList([Layer() for _ in range(layers)])
        self.head = torch.nn.Linear(width, vocab, bias=False)
        pair = torch.arange(head_dim // 2) / (head_dim // 2)
        angle = torch.outer(torch.arange(seq_len).float(), 10000.0**-pair)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def turn(self, x):
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * self.cos - right * self.sin, left * self.sin + right * self.cos], dim=-1)

    def forward(self, tokens, targets):
        x = norm(self.table(tokens))
        for layer in self.layers:
            x = layer(x, self.turn)
        logits = SOFTCAP * torch.tanh(self.head(norm(x)).float() / SOFTCAP)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


model = Model()
run = torch.compile(model) if compiled else model
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


def step():
    began = time.perf_counter()
    tokens = torch.randint(vocab, (batch, seq_len + 1))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = run(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    loss = loss.item()
    return loss, time.perf_counter() - began


began = time.perf_counter()
for _ in range(WARMUP):
    step()
warmup_seconds = time.perf_counter() - began
losses, seconds = zip(*(step() for _ in range(STEPS)))
median = statistics.median(seconds)
print(
    json.dumps(
        {
            "engine": f"torch {torch.__version__}",
            "config": name,
            "compile": compiled,
            "bf16": bf16,
            "threads": threads,
            "params": float(sum(weights.numel() for weights in model.parameters())),
            "loss": losses[-1],
            "tokens_per_second": round(batch * seq_len / median),
            "median_ms": median * 1e3,
            "min_ms": min(seconds) * 1e3,
            "max_ms": max(seconds) * 1e3,
            "warmup_seconds": warmup_seconds,
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)

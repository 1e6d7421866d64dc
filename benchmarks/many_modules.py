"""Planning for a model of very many modules: experts that are modules of their own.

The shape is that of Kimi-K2 (a DeepSeek-V3 architecture, https://huggingface.co/moonshotai): 61
layers, the first of them dense, 384 experts and a shared one in each of the others.  Written as
remote code often still is, with one module for each expert and one for each of its matrices.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from benchmarks.models import machine, workload
from benchmarks.peers import AUTO
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.models.blocks import partition
from devplan.models.build import declared_no_split
from devplan.models.source import Skeleton
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan
from devplan.profile.graph import build_graph
from devplan.profile.model import Profile, RunProfile
from devplan.profile.profiling import block_of, measure_weights

HIDDEN, DENSE_WIDTH, EXPERT_WIDTH, VOCABULARY = 7168, 18432, 2048, 163840
NUM_LAYERS, NUM_DENSE_LAYERS, NUM_EXPERTS = 61, 1, 384
QUERY_RANK, KEY_RANK, NUM_HEADS = 1536, 512, 64
NOPE_DIM, ROPE_DIM, VALUE_DIM = 128, 64, 128

GPUS = "16x141GiB"
NUM_ROUNDS = 3
MOST_S, MOST_RATIO = 1.0, 0.5

SMALL = {"NUM_LAYERS": 3, "NUM_EXPERTS": 8, "NUM_ROUNDS": 1}

PROSE = f"""
A model built from plain modules in the shape of Kimi-K2: {NUM_LAYERS} layers with
{NUM_EXPERTS} experts each, every expert a module with three matrices and an activation. It is
planned for {GPUS.replace("x", " cards of ")} from the skeleton, in one process, the planners in
turns, the best of {NUM_ROUNDS} rounds. devplan's time is that of dividing it into blocks,
measuring the weights, building the graph, planning and verifying; nothing is run virtually, as
the modules have no `forward`.
"""


def measure() -> Report:
    """One row a planner, and devplan's steps."""
    model, cards = build(), machine(GPUS)
    skeleton = _skeleton(model)
    ways = {name: _peer_way(peer, model, cards) for name, peer in AUTO.items()}
    times = best_times_ms({**ways, "devplan": lambda: _planned(skeleton, cards)}, NUM_ROUNDS)
    ratio = times["devplan"] / times["transformers auto"]
    return Report(
        title="Many modules",
        prose=f"{PROSE}\nModules and parameters: {num_parts(model):,}.",
        tables=(
            Table(
                title="Whole planning",
                rows=[{"planner": name, "s": f"{ms / 1e3:.2f}"} for name, ms in times.items()],
            ),
            Table(title="Steps of devplan", rows=_steps(skeleton, cards)),
        ),
        requirements=[
            Requirement(
                text=f"whole planning under {MOST_S:.0f} s",
                measured=f"{times['devplan'] / 1e3:.2f} s",
                met=times["devplan"] < 1e3 * MOST_S,
            ),
            Requirement(
                text="less than half of transformers' time",
                measured=f"{ratio:.2f}",
                met=ratio < MOST_RATIO,
            ),
        ],
    )


def num_parts(model: nn.Module) -> int:
    """Modules and parameters together."""
    return sum(1 for _ in model.modules()) + sum(1 for _ in model.parameters())


def _planned(skeleton: Skeleton, cards, lap: Callable[[str], None] = lambda step: None):
    """Skeleton to verified plan; `lap` is called after each step."""
    model = skeleton.model
    sites = partition(model, skeleton.no_split)
    lap("blocks")
    weights = measure_weights(skeleton, sites)
    lap("weights")
    run = RunProfile(cache={}, input_bytes_per_token={}, shared_inputs={})
    profile = Profile(
        sites=sites,
        weights=weights,
        run=run,
        embedding=block_of(sites, model.get_input_embeddings()),
        head=block_of(sites, model.get_output_embeddings()),
    )
    graph = build_graph(profile)
    lap("graph")
    result = plan(graph, PlanRequest(machine=cards, workload=workload()))
    lap("plan, with certificate and verification")
    return result


def _steps(skeleton: Skeleton, cards) -> list[dict]:
    best: dict[str, float] = {}
    for _ in range(NUM_ROUNDS):
        last = time.process_time()

        def lap(step: str) -> None:
            nonlocal last
            now = time.process_time()
            best[step] = min(best.get(step, float("inf")), now - last)
            last = now

        _planned(skeleton, cards, lap)
    return [{"step": step, "ms": f"{1e3 * seconds:.0f}"} for step, seconds in best.items()]


def _skeleton(model: PreTrainedModel) -> Skeleton:
    return Skeleton(
        model=model,
        config=model.config,
        class_name=type(model).__name__,
        dtype=torch.bfloat16,
        no_split=declared_no_split(model),
        max_tokens=None,
        executable=False,
    )


def _peer_way(peer, model: nn.Module, cards) -> Callable[[], object]:
    return lambda: peer(model, cards)


# ------------------------------------------------------------------------------------- the model


def build() -> PreTrainedModel:
    """The model on the meta device, in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            return ManyExpertsForCausalLM(PretrainedConfig(tie_word_embeddings=False)).eval()
    finally:
        torch.set_default_dtype(before)


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias=False)


class Expert(nn.Module):
    """A gated feed-forward network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = _linear(HIDDEN, width)
        self.up_proj = _linear(HIDDEN, width)
        self.down_proj = _linear(width, HIDDEN)
        self.act_fn = nn.SiLU()


class Experts(nn.Module):
    """A router, its experts, and the one that sees every token."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = _linear(HIDDEN, NUM_EXPERTS)
        self.experts = nn.ModuleList(Expert(EXPERT_WIDTH) for _ in range(NUM_EXPERTS))
        self.shared_experts = Expert(EXPERT_WIDTH)


class Attention(nn.Module):
    """Multi-head latent attention."""

    def __init__(self) -> None:
        super().__init__()
        self.q_a_proj = _linear(HIDDEN, QUERY_RANK)
        self.q_a_layernorm = nn.RMSNorm(QUERY_RANK)
        self.q_b_proj = _linear(QUERY_RANK, NUM_HEADS * (NOPE_DIM + ROPE_DIM))
        self.kv_a_proj_with_mqa = _linear(HIDDEN, KEY_RANK + ROPE_DIM)
        self.kv_a_layernorm = nn.RMSNorm(KEY_RANK)
        self.kv_b_proj = _linear(KEY_RANK, NUM_HEADS * (NOPE_DIM + VALUE_DIM))
        self.o_proj = _linear(NUM_HEADS * VALUE_DIM, HIDDEN)


class DecoderLayer(nn.Module):
    """Attention and a feed-forward network, dense or of experts."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.mlp = Expert(DENSE_WIDTH) if index < NUM_DENSE_LAYERS else Experts()
        self.input_layernorm = nn.RMSNorm(HIDDEN)
        self.post_attention_layernorm = nn.RMSNorm(HIDDEN)


class Decoder(nn.Module):
    """Embedding, layers and the final norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(DecoderLayer(index) for index in range(NUM_LAYERS))
        self.norm = nn.RMSNorm(HIDDEN)


class ManyExpertsForCausalLM(PreTrainedModel):
    """A model class as transformers' planner expects one."""

    config_class = PretrainedConfig
    base_model_prefix = "model"
    _no_split_modules = ("DecoderLayer",)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.model = Decoder()
        self.lm_head = _linear(HIDDEN, VOCABULARY)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

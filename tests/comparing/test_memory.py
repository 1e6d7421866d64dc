"""What a map puts on every card, by its runs or, where none came to its end, by the graph."""

from __future__ import annotations

from dataclasses import replace

from devplan.core.findings import ModelError
from devplan.workflows.evaluation import memory_of_cards
from tests.checks.test_loads import CACHE, TOGETHER, run, subject

RAN = run(("cuda:0", 7), ("cuda:1", 40))


def test_the_run_says_what_is_needed_beside_weights_and_cache():
    context = subject(TOGETHER, 1000, 2000, 50, reserve=17, runs=(RAN,))
    first, second, third = memory_of_cards(context, context.machine, RAN)
    assert (first.weight_bytes, first.cache_bytes, first.activation_bytes) == (140, CACHE, 7)
    assert (second.buffer_bytes, second.activation_bytes) == (8, 40)
    assert (third.load_bytes, third.activation_bytes) == (0, 0)  # a card that the map leaves empty
    assert [each.reserve_bytes for each in (first, second, third)] == [17] * 3
    assert [each.capacity_bytes for each in (first, second, third)] == [1017, 2017, 67]


def test_where_no_run_came_to_its_end_the_larger_of_run_and_graph_counts(monkeypatch):
    context = subject(TOGETHER, 1000, 2000, runs=(RAN,))
    foretold = {"cuda:0": 5, "cuda:1": 90}
    monkeypatch.setattr("devplan.workflows.evaluation.active_bytes", lambda *_: foretold)
    error = ModelError(type="E", message="m", source=None, stack=(), phase="prefill")
    for record in (None, replace(RAN, error=error), replace(RAN, cut_to_tokens=3)):
        found = memory_of_cards(context, context.machine, record)
        assert [each.activation_bytes for each in found] == [7, 90]
    ended = memory_of_cards(context, context.machine, RAN)
    assert [each.activation_bytes for each in ended] == [7, 40]

"""The command line in this process: torch and transformers are imported once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from devplan.cli.app import main


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said and did."""

    status: int
    out: str
    err: str
    files: tuple[str, ...]
    """Files below the current folder, new ones only."""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder, outside every project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def devplan(here, capsys):
    """``devplan("suggest", ...)`` as a shell would run it in the folder `here`."""

    def run(*arguments: object) -> Answer:
        before = files_below(here)
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        new = tuple(sorted(files_below(here) - before))
        return Answer(status=status, out=said.out, err=said.err, files=new)

    return run


@pytest.fixture
def refused(devplan):
    """Run what must be refused: one line on stderr, status 2, nothing else; gives the line."""

    def run(*arguments: object) -> str:
        answer = devplan(*arguments)
        assert (answer.status, answer.out, answer.files) == (2, "", ()), answer
        assert answer.err.startswith("devplan: "), answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert "Traceback" not in answer.err
        return answer.err

    return run


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny Llama as ``save_pretrained`` writes it, in several shards."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).eval().save_pretrained(folder, max_shard_size="200KB")
    return folder

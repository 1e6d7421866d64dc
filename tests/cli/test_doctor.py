"""`devplan doctor` and `devplan lock` as people run them; machines with GPUs are handed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devplan.core.environment import Environment
from devplan.mapfile.read import read_map
from tests.environment.machines import MAP_PATH, card, machine

ADA = "NVIDIA GeForce RTX 4090"


@pytest.fixture
def on(monkeypatch):
    """Let the commands find this machine."""

    def use(environment: Environment) -> None:
        monkeypatch.setattr("devplan.environment.read_environment", lambda folder=".": environment)

    return use


@pytest.fixture
def map_path(here) -> Path:
    path = here / "map.yaml"
    path.write_text(MAP_PATH.read_text(encoding="utf-8"), encoding="utf-8")
    return path


# -------------------------------------------------------------------------------------- doctor


def test_this_machine_whatever_it_has(devplan):
    answer = devplan("doctor")
    assert answer.err == ""
    assert answer.out.startswith("This machine\n")
    assert "transformers" in answer.out


def test_without_gpus_it_says_so(devplan, on):
    on(machine())
    answer = devplan("doctor")
    assert answer.status == 0
    assert "no GPU that torch can use" in answer.out
    assert answer.out.endswith("no GPU here\n")


def test_a_map_on_a_machine_without_gpus(devplan, on, map_path):
    on(machine())
    answer = devplan("doctor", "map.yaml")
    assert answer.status == 1
    assert "error DP503 card-missing" in answer.out
    assert "this machine does not fit the map: 1 error" in answer.out


def test_a_machine_that_fits(devplan, on, map_path):
    on(machine(card(0, 24, ADA, compute_capability=(8, 9)), card(1, 12)))
    answer = devplan("doctor", "map.yaml")
    assert answer.status == 0
    assert answer.out.endswith("the map fits\n")
    row = next(line for line in answer.out.splitlines() if line.startswith("  cuda:0"))
    assert row.split() == ["cuda:0", *ADA.split(), "24.00", "24.00", "0.00", "8.9", "GPU", "0"]


def test_warnings_do_not_change_the_status(devplan, on, map_path):
    on(machine(card(0, 24), card(1, 9)))
    answer = devplan("doctor", "map.yaml")
    assert answer.status == 0
    assert "warning DP504 card-smaller" in answer.out
    assert "the map fits: 1 warning" in answer.out


def test_a_model_of_another_class(devplan, on, map_path):
    on(machine(card(0, 24), card(1, 12)))
    model = Path(__file__).parents[1] / "checks" / "models" / "tiny_llama"
    answer = devplan("doctor", "map.yaml", "--model", model)
    assert answer.status == 1
    assert "error DP509 model-differs" in answer.out
    assert "a LlamaForCausalLM" in answer.out


def test_links_and_peer_access(devplan, on):
    from devplan.machine.parse import parse_gpus

    links = parse_gpus("2xa100-80gb").links
    on(
        machine(
            card(0, 80, "NVIDIA A100-SXM4-80GB"),
            card(1, 80, "NVIDIA A100-SXM4-80GB"),
            links=links,
            peers={("cuda:0", "cuda:1"): True, ("cuda:1", "cuda:0"): True},
        )
    )
    answer = devplan("doctor")
    assert "cuda:0 - cuda:1: NVLink" in answer.out
    assert "each GPU reads the others' memory" in answer.out
    assert "--measure times copies instead" in answer.out


def test_peer_access_of_a_mixed_machine_is_a_matrix(devplan, on):
    cards = tuple(card(index, 24) for index in range(3))
    pairs = [(a.device, b.device) for a in cards for b in cards if a is not b]
    on(machine(*cards, peers={pair: "cuda:2" not in pair for pair in pairs}))
    rows = [line.split() for line in devplan("doctor").out.splitlines()]
    assert ["from", "cuda:0", "cuda:1", "cuda:2"] in rows
    assert ["cuda:0", ".", "yes", "no"] in rows
    assert ["cuda:2", "no", "no", "."] in rows


def test_measured_links_are_asked_for(devplan, on, monkeypatch):
    here = machine(card(0, 24), card(1, 12))
    on(here)
    asked = []
    monkeypatch.setattr("devplan.environment.measured", lambda found: asked.append(found) or found)
    devplan("doctor")
    assert asked == []
    devplan("doctor", "--measure")
    assert asked == [here]


def test_the_report_for_programs(devplan, on, map_path):
    on(machine(card(0, 12), card(1, 24), peers={("cuda:0", "cuda:1"): False}))
    answer = devplan("doctor", "map.yaml", "--json")
    assert answer.status == 1
    report = json.loads(answer.out)
    assert (report["schema"], report["fits"], report["map"]) == (1, False, "map.yaml")
    assert [d["code"] for d in report["differences"]] == ["DP507"]
    assert report["environment"]["cards"][0]["capacity_bytes"] == 12 << 30
    assert report["environment"]["peers"] == [
        {"source": "cuda:0", "target": "cuda:1", "access": False}
    ]
    assert json.loads(devplan("doctor", "--json").out)["fits"] is None


# --------------------------------------------------------------------------------------- remap


def test_a_map_is_remapped_only_where_it_is_asked_for(devplan, on, map_path):
    on(machine(card(0, 12), card(1, 24)))
    before = map_path.read_text()
    assert devplan("doctor", "map.yaml").status == 1
    assert map_path.read_text() == before
    answer = devplan("doctor", "map.yaml", "--remap", "here.yaml")
    assert (answer.status, answer.files) == (0, ("here.yaml",))
    assert "here.yaml (written): remapped by capacity: cuda:0 (24GiB) is cuda:1" in " ".join(
        answer.out.split()
    )
    assert read_map("here.yaml").machine.main_device == "cuda:1"
    assert map_path.read_text() == before


def test_something_else_is_not_replaced(devplan, refused, on, map_path):
    on(machine(card(0, 12), card(1, 24)))
    before = map_path.read_text()
    answer = devplan("doctor", "map.yaml", "--remap", "map.yaml")
    assert (answer.status, map_path.read_text()) == (2, before)
    assert "name another file with --remap FILE" in answer.err and "--force" in answer.err
    assert "map.yaml (not written)" in " ".join(answer.out.split())
    Path("thesis.tex").write_text("precious")
    assert "is not a map" in refused("doctor", "map.yaml", "--remap", "thesis.tex")


def test_a_map_that_fits_nowhere_is_refused(refused, on, map_path):
    on(machine(card(0, 12), card(1, 14)))
    assert "no order of its GPUs can hold the map" in refused(
        "doctor", "map.yaml", "--remap", "here.yaml"
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("no.yaml",), "cannot read the map no.yaml"),
        (("--remap", "x.yaml"), "--remap goes with a map"),
        (("--model", "x"), "--model goes with a map"),
    ],
)
def test_bad_input(refused, on, arguments, words):
    on(machine())
    assert words in refused("doctor", *arguments)


# ---------------------------------------------------------------------------------------- lock


def test_lock_writes_into_the_map(devplan, on, map_path):
    on(machine(card(0, 24, ADA), card(1, 12)))
    answer = devplan("lock", "map.yaml")
    assert answer.status == 0
    assert f"map.yaml (replaced): locked to cuda:0 {ADA}, cuda:1 12GiB, driver" in answer.out
    assert read_map(map_path).environment.cards[0].name == ADA
    assert "locked to cuda:0" in devplan("doctor", "map.yaml").out


def test_lock_without_gpus(devplan, on, map_path):
    on(machine())
    answer = devplan("lock", "map.yaml")
    assert answer.status == 0
    assert "locked to versions only: no GPU here" in answer.out


def test_lock_refuses_a_machine_that_does_not_fit(devplan, on, map_path):
    on(machine(card(0, 24)))
    before = map_path.read_text()
    answer = devplan("lock", "map.yaml")
    assert answer.status == 1
    assert "error DP503 card-missing" in answer.out
    assert "map.yaml is not locked: this machine does not fit it" in answer.out
    assert map_path.read_text() == before


# -------------------------------------------------------------------------------------- check


def test_check_compares_this_machine_where_it_is_asked_for(devplan, on, map_path):
    on(machine(card(0, 24)))
    folder = Path(__file__).parents[1] / "checks"
    arguments = (folder / "maps" / "tiny_llama.yaml", "--model", folder / "models" / "tiny_llama")
    assert "DP503" not in devplan("check", *arguments).out
    answer = devplan("check", *arguments, "--here")
    assert "error DP503 card-missing" in answer.out
    assert answer.status == 1

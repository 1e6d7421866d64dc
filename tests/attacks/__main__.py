"""Try the attacks by hand.

python -m tests.attacks                 all, one line for each that fails
python -m tests.attacks maps/ hub/x     those whose names begin so, with what was said
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.attacks.attack import load_attacks
from tests.attacks.trying import try_attack
from tests.attacks.zygote import Zygote


def main(names: list[str]) -> int:
    zygote, failed, seconds = Zygote(), 0, 0.0
    attacks = [a for a in load_attacks() if not names or a.name.startswith(tuple(names))]
    with tempfile.TemporaryDirectory(prefix="attacks") as folder:
        for number, attack in enumerate(attacks):
            outcome, found = try_attack(attack, zygote, Path(folder) / str(number))
            seconds += outcome.seconds
            if found:
                failed += 1
                print(f"{attack.name}: {'; '.join(found)}", flush=True)
            if names:
                facts = f"status {outcome.status}, {outcome.seconds} s, {outcome.peak_mib} MiB"
                print(f"--- {attack.name}: {facts}\n{outcome.out[-1500:]}{outcome.err[-1500:]}")
    zygote.close()
    print(f"{len(attacks)} attacks, {failed} failed, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Mix two weights folders of one model, for example a restorer before and after adversarial training.

    python tools/mix_weights.py run/weights sharp/weights --share 0.5 --out mixed

Adversarial training adds sharpness and artefacts (tinted fringes at uncertain edges); interpolating between
the two keeps most of the sharpness and removes most of the artefacts (network
interpolation, Wang et al. 2018, arXiv 1809.00219, section 3.4).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from semibody.weights import store
from semibody.weights.state import read_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plain", type=Path)
    parser.add_argument("sharp", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second folder, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = json.loads((arguments.sharp / store.INDEX).read_text(encoding="utf-8"))
    about["origin"] += f"; {arguments.share:g} of it, the rest from before that stage"
    (arguments.out / store.INDEX).write_text(json.dumps(about, indent=1), encoding="utf-8")
    for path in sorted(arguments.sharp.glob("*.safetensors")):
        plain, sharp = read_state(arguments.plain / path.name), read_state(path)
        if {k: v.shape for k, v in plain.items()} != {k: v.shape for k, v in sharp.items()}:
            raise SystemExit(f"{path.name}: the two folders hold different networks")
        mixed = {k: torch.lerp(plain[k].float(), v.float(), arguments.share).to(v) for k, v in sharp.items()}
        save_file({k: v.contiguous() for k, v in mixed.items()}, arguments.out / path.name)


if __name__ == "__main__":
    main()

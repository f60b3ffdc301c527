"""All games on the grid of 25 Gaussians: the modes they reach, how evenly, how well; second half of docs/games.md.

    python scripts/grid_modes.py --work runs/grid [--games NAME ...] [--seeds N ...]

Each game is trained with the same networks, schedule and number of turns by the package's own loop, once per seed, and
judged by 10,000 samples of the averaged generator. A run takes minutes; one that is in the work folder is not made
again unless its options have changed, and an unfinished one begins anew. Writes docs/results/grid.json, a picture of
the first seed's samples and the table of docs/games.md from all runs found in the work folder.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import put, table
from seeds import by_line, is_made, keep, made, make_runs, parser_of, span

from rdae.data.arrays import ArrayData, Kind
from rdae.data.synthetic import MixtureSource
from rdae.measures.modes import mode_coverage
from rdae.recipes import generative_recipe
from rdae.reports.games import samples_figure
from rdae.training.checkpoint import load_newest
from rdae.training.loop import Settings, train

SOURCE = MixtureSource.grid()
EXAMPLES, JUDGED, SHOWN = 100_000, 10_000, 2500
TURNS = 110_000  # of both players
COMMON: dict[str, Any] = {
    "network": "dense", "latent": 2, "hidden": (128, 128, 128), "batch": 256, "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3, "average": 0.999, "epochs": TURNS * 256 / EXAMPLES,
}  # fmt: skip
GAMMA, FADE = 0.3, 0.005
R1, BOTH = {"r1": GAMMA, "fade": FADE}, {"r1": GAMMA, "r2": GAMMA, "fade": FADE}
NAMES = {
    "minimax": "minimax", "non_saturating": "non-saturating", "least_squares": "least squares", "hinge": "hinge",
    "relativistic": "relativistic",
}  # fmt: skip
CONTESTANTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # name to game, what holds it back, recipe, options
    **{game: (words, "nothing", "gan", {"game": game}) for game, words in NAMES.items()},
    "non_saturating-pac2": ("non-saturating", "packs of 2", "gan", {"game": "non_saturating", "packing": 2}),
    **{f"{game}-r1": (words, "R1", "gan", {"game": game, **R1}) for game, words in NAMES.items()},
    **{f"{game}-r1r2": (words, "R1 and R2", "gan", {"game": game, **BOTH})
       for game, words in NAMES.items() if game != "relativistic"},
    "r3gan": ("relativistic", "R1 and R2 (r3gan)", "r3gan", {"gamma": GAMMA, "fade": FADE}),
    "wgan_gp": ("Wasserstein", "gradient penalty", "wgan_gp", {"penalty": 0.1, "critic_steps": 5}),
}  # fmt: skip


def run(name: str, seed: int, folder: Path, changes: dict[str, Any]) -> None:
    """Trains one game with one seed; leaves its samples and what they are worth in the folder."""
    _, _, recipe_name, own = CONTESTANTS[name]
    options = COMMON | own | changes
    if is_made(folder, options):
        return
    shutil.rmtree(folder, ignore_errors=True)
    values = torch.from_numpy(SOURCE.sample(EXAMPLES, seed=seed)).float()
    recipe = generative_recipe(recipe_name, ArrayData(values, Kind.REAL), None, options)
    cpu, wall = time.process_time(), time.monotonic()
    settings = Settings(
        data=folder, out=folder, seed=seed, accelerator="cpu", devices="1", checkpoint_minutes=60.0
    )  # fmt: skip
    train(recipe, settings)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    state = load_newest(folder / "checkpoints")
    assert state is not None
    model = recipe.trained(state["average"]["average"])
    torch.manual_seed(seed)
    samples = model.sample(JUDGED)
    found = mode_coverage(samples, torch.from_numpy(SOURCE.means), SOURCE.scale)
    np.save(folder / "samples.npy", samples[:SHOWN].numpy())
    result = {
        "game": name, "seed": seed, "modes": found.covered, "high_quality": found.high_quality.value,
        "reverse_kl": found.reverse_kl.value, "cpu_seconds": round(cpu), "wall_seconds": round(wall),
        "turns": recipe.steps,
    }  # fmt: skip
    shutil.rmtree(folder / "checkpoints")
    keep(folder, result, options)


def grid_table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """The table of docs/games.md."""
    rows = []
    for name, own in runs.items():
        game, held, _, _ = CONTESTANTS[name]
        column = {key: [r[key] for r in own] for key in own[0] if key != "game"}
        quality = [100 * share for share in column["high_quality"]]
        rows.append([
            game, held, f"{len(own)}", span(column["modes"], 0), span(quality, 1), span(column["reverse_kl"], 4),
            span(column["cpu_seconds"], 0),
        ])  # fmt: skip
    head = ["game", "critic held back by", "seeds", "modes of 25", "high quality, %", "reverse KL, nats", "CPU seconds"]
    return table(head, rows, words=2)


def main() -> None:
    """Trains what is not trained yet, and writes what all of it came to."""
    parser = parser_of("games", list(CONTESTANTS))
    arguments = parser.parse_args()
    if arguments.work is None:
        parser.error("name a folder with --work")
    if not make_runs(arguments, run):
        return
    runs = {name: made(arguments.work, name, COMMON | own) for name, (*_, own) in CONTESTANTS.items()}
    runs = {name: own for name, own in runs.items() if own}
    about = {"options": COMMON, "own": {name: CONTESTANTS[name][3] for name in runs}, "judged": JUDGED}
    text = by_line(about | {"runs": runs}, "game")
    (arguments.docs / "results" / "grid.json").write_text(text, encoding="utf-8")
    first = {name: np.load(arguments.work / f"{name}-{own[0]['seed']}" / "samples.npy") for name, own in runs.items()}
    figure = samples_figure(first, SOURCE.means, caption=lambda name: "\n".join(CONTESTANTS[name][:2]))
    figure.savefig(arguments.docs / "images" / "grid-samples.png", dpi=80)
    put(arguments.docs / "games.md", "grid", grid_table(runs))


if __name__ == "__main__":
    main()

"""The command line on a tiny subject with few controls, for tests that must end a process: python tests/small_cli.py run --out …"""

import small_runs
import torch

from cardgen import cli, session
from cardgen.methods import METHODS

torch.set_num_threads(1)
session.load_subject = lambda config: small_runs.loaded(batch=config.batch or 16, seed=config.seed, cut=config.n)
METHODS._items = {key: METHODS[key] for key in ("vanilla_gradients", "grad_cam", "noise", "noise_4", "edges")}
cli.main(prog_name="cardgen")

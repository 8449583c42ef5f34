"""For a busy machine: one thread per test process, as two with two threads each would wait for each other, and time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

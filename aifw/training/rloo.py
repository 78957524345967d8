"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv:2402.14740) for a LoRA adapter against a reward model, by TRL's trainer.

Several answers to one prompt are drawn; the advantage of each is how far its reward, less the divergence from the model as it was, is above the
mean of the others. A stopped run goes on from its last step (`aifw.training.rollouts`).
"""

from __future__ import annotations

from aifw.job import Job
from aifw.training import rollouts
from aifw.training.trl_kinds import RlooSettings


def train(job: Job[RlooSettings]) -> None:
    """Train and write the outputs `model` and `adapter`; errors are those of `aifw.training.rollouts.train`."""
    from trl import RLOOConfig, RLOOTrainer

    settings = job.settings
    options = {"beta": settings.beta, "normalize_advantages": settings.normalise_advantages}
    rollouts.train(job, "RLOO", RLOOTrainer, RLOOConfig, options)

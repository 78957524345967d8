"""Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300) of a LoRA adapter against a reward model, by TRL's trainer.

Several answers to one prompt are drawn; the advantage of each is how far its reward is above the mean of its group, by default in units of the
group's standard deviation. A stopped run goes on from its last step (`aifw.training.rollouts`).
"""

from __future__ import annotations

from aifw.job import Job
from aifw.training import rollouts
from aifw.training.trl_kinds import GrpoSettings


def train(job: Job[GrpoSettings]) -> None:
    """Train and write the outputs `model` and `adapter`; errors are those of `aifw.training.rollouts.train`."""
    from trl import GRPOConfig, GRPOTrainer

    settings = job.settings
    options = {"beta": settings.beta, "loss_type": settings.loss, "scale_rewards": settings.scale_rewards}
    rollouts.train(job, "GRPO", GRPOTrainer, GRPOConfig, options)

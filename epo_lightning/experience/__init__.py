"""From environments to samples: rollouts, episodes, fitness, targets, evaluation."""

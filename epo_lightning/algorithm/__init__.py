"""The algorithm as pure functions on tensors: genetics, advantages, losses, distributions."""

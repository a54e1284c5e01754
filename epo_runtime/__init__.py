"""Run a policy that `epo-lightning export` has written: numpy and onnxruntime, no torch.

    from epo_runtime import Policy

    policy = Policy.load("policy")       # the exported folder
    policy.reset()                       # where an episode begins
    action = policy.act(observation)     # raw, as the task gives it

Shape legend: N rows, O observation entries, A action entries, K agents, Z gene entries.
"""

from epo_runtime.folder import PolicyError
from epo_runtime.policy import Policy

__all__ = ["Policy", "PolicyError", "__version__"]
__version__ = "0.1.0"

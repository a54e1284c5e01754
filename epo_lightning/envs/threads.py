"""How many threads torch uses where tensors are small."""

from contextlib import ContextDecorator

import torch


class OneThread(ContextDecorator):
    """One torch thread inside: tensors are small here, and idle torch threads would spin on the physics' cores."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.threads)

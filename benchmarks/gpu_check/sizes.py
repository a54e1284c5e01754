"""How large the stages are: for a card, and small enough for the tests on Warp's CPU device."""

from dataclasses import dataclass

from epo_lightning.envs.allegro_kuka.cards import CARDS


@dataclass(frozen=True)
class Sizes:
    """Of one check.

    Attributes:
        tasks: Whose physics is compared with the CPU.
        parity_envs: Environments in which it is.
        timed_tasks: Whose physics is timed; the first one is also timed on the CPU's cores.
        worlds: Numbers of environments at which it is.
        memory_worlds: Two numbers of environments between which memory is compared.
        steps: Timed env steps; as many again warm up.
        learners: Environments and agents of each learner that is timed, its hidden layers, and units of its LSTM or 0.
        iterations: Timed iterations of a learner.
        config: The configuration that is trained.
        train_envs: Its environments.
        train_iterations: Its iterations, the resumed one not counted; the first one is not timed.
        train_settings: What else the command line says.
        compiles: Whether the learner is also timed compiled.
        algorithms: Which runs of `algorithms` are made; empty: all.
    """

    tasks: tuple[str, ...] = tuple(CARDS)
    parity_envs: int = 64
    timed_tasks: tuple[str, ...] = ("two_arm", "single_arm_regrasp")
    worlds: tuple[int, ...] = (1024, 4096, 8192, 16384, 32768)
    memory_worlds: tuple[int, int] = (64, 576)
    steps: int = 50
    learners: tuple[tuple[int, int, tuple[int, ...], int], ...] = (
        (4096, 64, (512, 256, 128), 0),
        (64, 64, (64, 64), 0),
        (4096, 64, (768, 512, 256), 768),
    )
    iterations: int = 10
    config: str = "two_arm"
    train_envs: int = 24576
    train_iterations: int = 4
    train_settings: tuple[str, ...] = ()
    compiles: bool = True
    algorithms: tuple[str, ...] = ()


FULL = Sizes()
TOY = Sizes(
    tasks=("single_arm_regrasp",),
    parity_envs=8,
    timed_tasks=("single_arm_regrasp",),
    worlds=(4, 8),
    memory_worlds=(4, 12),
    steps=3,
    learners=((16, 4, (8,), 0), (16, 4, (8,), 8)),
    iterations=2,
    config="single_arm_regrasp",
    train_envs=16,
    train_iterations=2,
    train_settings=(
        *("--config", "laptop", "--model.network.hidden", "[8]", "--model.network.lstm_units", "8"),
        *("--model.rollout.horizon", "4", "--data.env.init_args.objects", "cube"),
    ),
    compiles=False,
    algorithms=("epo",),
)
"""Shows that everything runs; no measure of anything."""

"""Which tasks can be shown on a page."""

from collections.abc import Callable

from epo_lightning.envs.allegro_kuka.env import AllegroKuka
from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.classic.arena import Arena
from epo_lightning.export.allegro_kuka.page import CLIPS, KukaShown
from epo_lightning.export.arena_page import ArenaShown
from epo_lightning.export.page import Shown
from epo_lightning.limits import Mistake


def shown(begun: Callable[[int, int], VectorEnv], players: int) -> Shown:
    """The task, where a page can show it.

    Args:
        begun: Makes so many environments with a seed that is so much larger than the run's.
        players: How many agents play side by side between walls.

    Raises:
        Mistake: When it cannot.
    """
    env = begun(1, 0)
    if isinstance(env, AllegroKuka):
        KukaShown.require(env)
        others = (begun(1, number) for number in range(1, CLIPS))
        return KukaShown([env, *(each for each in others if isinstance(each, AllegroKuka))])
    if isinstance(env, Arena):
        several = begun(players, 0)
        assert isinstance(several, Arena)
        return ArenaShown(several)
    raise Mistake(
        f"--web: there is no page for {env.spec.name}, only for points between walls (WallMaze, TwoGoals, PointMaze"
        " and subclasses of Arena) and for AllegroKuka: its step cannot be carried over exactly"
    )

"""One picture per Allegro-Kuka task, for docs/allegro_kuka.md: the scripted policy with the object in the air.

python docs/pictures/tasks.py    (about a minute; needs the extra `video`)
"""

from pathlib import Path

import torch
from PIL import Image

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, TABLE_TOP
from epo_lightning.show.playback import Playback

FOLDER = Path(__file__).with_suffix("")
WIDTH, HEIGHT, COLOURS = 480, 360, 128
LIFTED = 0.15
ENVS, AT_LEAST, LONGEST = 16, 5, 600
"""The picture is taken when so many of the objects are well above the table, or after the last of so many steps."""


def picture(task: str) -> Image.Image:
    """Of the environments whose object is in the air, the one that has the longest way to its goal."""
    env = AllegroKuka(ENVS, torch.device("cpu"), seed=0, task=task)
    playback = Playback(env, ["scripted"] * ENVS)
    for _ in range(LONGEST):
        log = playback.step().log
        in_the_air = log["object_height"] > TABLE_TOP + LIFTED
        if in_the_air.sum() >= AT_LEAST:
            break
    chosen = int((log["keypoint_distance"] * in_the_air).argmax())
    pixels = env.render([chosen], WIDTH, HEIGHT)[0]
    env.close()
    return Image.fromarray(pixels).quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    for name in CARDS:
        path = FOLDER / f"{name}.png"
        picture(name).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")

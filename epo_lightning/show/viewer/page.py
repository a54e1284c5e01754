"""The page in the browser: the scene, its controls and its read-out."""

import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import viser

from epo_lightning.show.viewer.loop import FRAME_SECONDS, GRAVITY, SPEEDS, Loop
from epo_lightning.show.viewer.scene import Nodes, camera

READOUT_SECONDS = 0.2
DIRECTIONS = {
    "+x": (1, 0, 0),
    "-x": (-1, 0, 0),
    "+y": (0, 1, 0),
    "-y": (0, -1, 0),
    "up": (0, 0, 1),
    "down": (0, 0, -1),
}
STRENGTHS = (0.5, 10.0)
"""Weakest and strongest push, as multiples of the object's weight; on the table, friction takes one of it."""
ARROW = 0.08
"""Metres that a force's arrow is long per weight of the object."""


class Page:
    """A loop on a web page.

    What the user does there arrives in threads of the web server; it waits in a queue for the loop's own thread.

    Args:
        loop: The simulation.
        host: Address that the page is served at.
        port: Where the page is served; 0: any free port.
    """

    def __init__(self, loop: Loop, host: str, port: int) -> None:
        self.loop = loop
        self.wishes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.server = viser.ViserServer(host=host, port=port, label=loop.playback.env.spec.name, verbose=False)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.gui.main_panel.dock_right()
        self.address = f"http://{host}:{self.server.get_port()}"
        self._home = camera(loop.model, loop.data)
        start = self.server.initial_camera
        start.position, start.look_at, start.fov = self._home
        self._grip = np.zeros(3)
        self._readout_due = 0.0
        self._draw()
        self._arrow = self.server.scene.add_arrows(
            "/force", np.zeros((1, 2, 3)), (110, 30, 200), shaft_radius=0.006, head_radius=0.015, head_length=0.03
        )
        self._add_controls()
        self.update()

    def run(self) -> None:
        """Run until Ctrl-C; the time stands still while no browser has the page open."""
        while True:
            begin = time.monotonic()
            if self.server.get_clients():
                self.update()
            time.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - begin)))

    def update(self) -> None:
        """Do what the user asked for, make the steps that are due, and show the result."""
        while not self.wishes.empty():
            self.wishes.get()()
        self.loop.advance()
        with self.server.atomic():
            self._nodes.move(self.loop.data, self.loop.markers)
            self._show_force()
        if time.monotonic() >= self._readout_due:
            self._readout_due = time.monotonic() + READOUT_SECONDS
            self._readout.content = table(self.loop.readout())

    def close(self) -> None:
        """Stop the web server."""
        self.server.stop()

    # Scene ----------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._nodes = Nodes(self.server.scene, self.loop.model, self.loop.markers, self._on_drag)
        self._nodes.move(self.loop.data, self.loop.markers)

    def _show(self, env: int) -> None:
        """Another environment: its object has another size."""
        self.loop.show(env)
        with self.server.atomic():
            self._draw()

    def _show_force(self) -> None:
        force = self.loop.force
        self._arrow.visible = force is not None
        if force is not None:
            centre = self.loop.data.body("object").xpos
            arrow = ARROW / (self.loop.mass * GRAVITY) * force.numpy()
            self._arrow.points = np.stack([centre, centre + arrow])[None].astype(np.float32)

    async def _on_drag(self, event: viser.SceneNodeDragEvent[Any]) -> None:
        """The point under the mouse when the drag began stays under the mouse."""
        if event.phase == "start":
            self._grip = np.asarray(event.start_position) - self.loop.data.body("object").xpos
        target = None
        if event.phase != "end":
            target = torch.from_numpy(np.asarray(event.end_position) - self._grip).float()
        self.wishes.put(lambda: self.loop.drag(target))

    # Controls -------------------------------------------------------------------------------------------------------

    def _add_controls(self) -> None:
        gui = self.server.gui
        self._readout = gui.add_markdown("")
        labels = tuple(f"{env}: {label}" for env, label in enumerate(self.loop.playback.labels))
        self.agent = gui.add_dropdown("Agent", labels)
        self.agent.on_update(self._wish(lambda: self._show(labels.index(self.agent.value))))
        self.pause = gui.add_button("Pause")
        self.pause.on_click(self._wish(lambda: self._pause(not self.loop.paused)))
        self.step = gui.add_button("Single step")
        self.step.on_click(self._wish(self._single_step))
        self.speed = gui.add_slider("Speed", *SPEEDS, step=0.1, initial_value=1.0)
        self.speed.on_update(self._wish(lambda: setattr(self.loop, "speed", self.speed.value)))
        self.restart = gui.add_button("Restart the episodes")
        self.restart.on_click(self._wish(self.loop.restart))
        self.home = gui.add_button("Reset the camera")
        self.home.on_click(self._go_home)
        with gui.add_folder("Push"):
            gui.add_markdown("Drag the object with the mouse, or:")
            self.direction = gui.add_dropdown("Direction", tuple(DIRECTIONS))
            self.strength = gui.add_slider("Times its weight", *STRENGTHS, step=0.5, initial_value=2.0)
            self.push = gui.add_button("Push")
            self.push.on_click(self._wish(self._push))

    def _wish(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """A callback that leaves `action` to the loop's thread."""
        return lambda _: self.wishes.put(action)

    def _pause(self, paused: bool) -> None:
        self.loop.pause(paused)
        self._label_pause()

    def _single_step(self) -> None:
        self.loop.step_once()
        self._label_pause()

    def _label_pause(self) -> None:
        self.pause.label = "Continue" if self.loop.paused else "Pause"
        self._readout_due = 0.0

    def _push(self) -> None:
        direction = torch.tensor(DIRECTIONS[self.direction.value], dtype=torch.float32)
        self.loop.push(direction, self.strength.value)

    def _go_home(self, event: viser.GuiEvent[Any]) -> None:
        assert event.client is not None
        view = event.client.camera
        with event.client.atomic():
            view.position, view.look_at, view.fov = self._home


def table(words: list[str]) -> str:
    """Markdown: the first of `words` as the head, the others below it, two in a row."""
    head, *rest = words
    rows = [rest[start : start + 2] for start in range(0, len(rest), 2)]
    return "\n".join(f"| {' | '.join([*row, ''][:2])} |" for row in [[head], ["---", "---"], *rows])

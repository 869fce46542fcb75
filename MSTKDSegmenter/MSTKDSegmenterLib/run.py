"""A segmentation that has been started from volume nodes: its process, and what its result belongs to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .child import ChildJob
    from .engine.geometry import Grid
    from .engine.progress import Event
    from .scene.volumes import Frame


class Run:
    """One segmentation between its start and its result; whoever started it closes it.

    Closing the scene ends it: what it would add belongs to volumes that are gone, maybe to another patient than the
    next scene.

    Attributes:
        scene: the vtkMRMLScene that the result goes to.
        volumes, grids: the input nodes by sequence, and the grids of the images made of them, in the world.
        frames: where the nodes' voxels lay when it was started.
        exclusive: whether segments NCR, ED and ET are wanted as well.
        scene_closed: whether the scene has been closed since.
        closed: whether ``close`` has been called.
    """

    def __init__(
        self,
        child: ChildJob,
        folder: Path,
        scene: Any,
        volumes: Mapping[str, Any],
        grids: Mapping[str, Grid],
        frames: Mapping[str, Frame | None],
        exclusive: bool,
    ) -> None:
        self.child, self.scene, self.volumes, self.exclusive = child, scene, volumes, exclusive
        self.grids, self.frames = grids, frames
        self.scene_closed = self.closed = False
        self._folder = folder
        self._observation = scene.AddObserver(scene.StartCloseEvent, self._on_scene_close)

    @property
    def running(self) -> bool:
        """Whether the process still computes."""
        return not self.closed and self.child.running()

    def poll(self) -> list[Event]:
        """The progress since the last call; returns at once. Ask for ``running`` first, or the last event may go by."""
        return [] if self.closed else self.child.events()

    def cancel(self) -> None:
        """Ask the process to end, which it does within two seconds. Returns at once."""
        if not self.closed:
            self.child.cancel()

    def close(self) -> None:
        """End the process, if it still runs, and remove the files that went to and came from it."""
        if self.closed:
            return
        self.closed = True
        self.scene.RemoveObserver(self._observation)
        self.child.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _on_scene_close(self, caller: Any, event: Any) -> None:
        self.scene_closed = True
        self.cancel()

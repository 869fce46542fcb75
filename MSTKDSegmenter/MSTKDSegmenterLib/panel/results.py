"""What came out: volumes, findings in words, and where to go on from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..engine.regions import REGIONS
from ..scene.attributes import OUTPUT_ATTRIBUTE, REPORT_ATTRIBUTE, TABLE_ROLE
from .marks import grade_in_words, icon, paragraphs, region_name, show_icon
from .report_files import ReportFiles


class Results:
    """Shows one segmentation of this module: also one that was loaded with a scene, because its report is in it."""

    def __init__(self, ui: Any, failed: Callable[[Exception], None]) -> None:
        """``failed`` is told what went wrong when a button was pressed."""
        import qt

        self._ui, self._failed = ui, failed
        self._node: Any = None
        self._files = ReportFiles()
        ui.resultSelector.addAttribute("vtkMRMLSegmentationNode", REPORT_ATTRIBUTE)
        for region in REGIONS:
            getattr(ui, f"volumeName{region}").text = region_name(region)
        for name in ("edit", "table", "report"):
            getattr(ui, f"{name}Button").setIcon(icon(name.capitalize()))
        ui.editButton.clicked.connect(self.edit)
        ui.tableButton.clicked.connect(self.show_table)
        ui.reportButton.clicked.connect(self.open_report)
        self._menu = qt.QMenu()
        self._menu.addAction(_("Save as web page (HTML)...")).triggered.connect(lambda: self.save_report(".html"))
        self._menu.addAction(_("Save as data (JSON)...")).triggered.connect(lambda: self.save_report(".json"))
        ui.reportButton.setMenu(self._menu)

    def show(self, node: Any) -> None:
        """Show the result in a segmentation node; None if none is selected. In the views it takes the others' place."""
        before, self._node = self._node, node
        report = self._report()
        results = [one for one in _of_this_module() if one.GetAttribute(REPORT_ATTRIBUTE)]
        if report and before in results and before is not node:
            for display in filter(None, (one.GetDisplayNode() for one in results)):
                display.SetVisibility(display is node.GetDisplayNode())
        self._ui.resultsSection.visible = bool(results)
        self._ui.resultContents.visible = bool(report)
        self._ui.show3DButton.setSegmentationNode(node if report else None)
        if not report:
            return
        self._ui.sourceLabel.text = _(
            "From {subset} with {model} {version} in {seconds} s on {device}. Later edits do not change these volumes."
        ).format(
            subset=report["subset"],
            model=report["model"]["name"],
            version=report["model"]["version"],
            seconds=round(report["seconds"]["total"]),
            device=report["device"]["name"],
        )
        for region in REGIONS:
            getattr(self._ui, f"volumeMl{region}").text = _("{volume} ml").format(
                volume=f"{report['volumes_ml'][region]:.1f}"
            )
            # no symbol: beside a volume, a tick would stand for this result
            getattr(self._ui, f"volumeGrade{region}").text = grade_in_words(
                report["expected"].get(region, {}).get("grade")
            )
        findings = report["findings"]
        show_icon(self._ui.findingsIcon, "Warning" if findings else "Information")
        self._ui.findingsLabel.text = paragraphs(
            findings or [_("The automatic checks found nothing unusual. That is no proof that the result is right.")]
        )
        window = slicer.util.mainWindow() is not None
        self._ui.editButton.enabled = window
        self._ui.tableButton.enabled = window and self._table() is not None

    def edit(self) -> None:
        """Open the segmentation in the Segment Editor, over the volume that it was made for."""
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        slicer.util.selectModule("SegmentEditor")
        editor.setSegmentationNode(self._node)
        volume = self._node.GetNodeReference(self._node.GetReferenceImageGeometryReferenceRole())
        if volume is not None:
            editor.setSourceVolumeNode(volume)
        # otherwise a voxel that is added to one region is taken from the others, although WT holds TC, and TC holds ET
        editor.mrmlSegmentEditorNode().SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)

    def show_table(self) -> None:
        """Show the table of volumes, in a layout like the present one that has a place for it."""
        layouts = slicer.app.layoutManager()
        layouts.setLayout(slicer.modules.tables.logic().GetLayoutWithTable(layouts.layout))
        application = slicer.app.applicationLogic()
        application.GetSelectionNode().SetActiveTableID(self._table().GetID())
        application.PropagateTableSelection()

    def open_report(self) -> None:
        self._try(lambda: self._files.open(self._report(), self._node.GetName()))

    def save_report(self, suffix: str) -> None:
        parent = slicer.util.mainWindow()
        self._try(lambda: self._files.save(self._report(), self._node.GetName(), suffix, parent))

    def accept(self) -> None:
        """Notice edits of what came with a scene, as of results that are new."""
        loaded = _of_this_module()
        if loaded:
            from ..scene.segmentation import mark_when_edited  # loads SimpleITK

            for node in loaded:
                mark_when_edited(node)

    def cleanup(self) -> None:
        self._files.remove()

    def _try(self, what: Callable[[], Any]) -> None:
        try:
            what()
        except (RuntimeError, OSError) as error:
            self._failed(error)

    def _table(self) -> Any:
        return self._node.GetNodeReference(TABLE_ROLE)

    def _report(self) -> Mapping[str, Any]:
        text = self._node.GetAttribute(REPORT_ATTRIBUTE) if self._node is not None else None
        return json.loads(text) if text else {}


def _of_this_module() -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(OUTPUT_ATTRIBUTE)]

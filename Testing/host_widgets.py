"""Widgets of CTK and Slicer for the host: what their documentation says they do, and a similar look, on real Qt."""

from __future__ import annotations

from typing import Any, Callable

import vtk
from host_parameters import observe
from PySide6 import QtCore, QtGui, QtWidgets
from shiboken6 import isValid

SEGMENT_SURFACE = "Closed surface"


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    """The outermost widget of a panel; the connections of its .ui file hand the scene on (host.load_ui makes them)."""

    mrmlSceneChanged = QtCore.Signal("vtkMRMLScene*")  # noqa: N815 - cannot carry a Python object, so is never emitted

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.receivers_of_scene: list[Any] = []

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        for receiver in self.receivers_of_scene:
            receiver.setMRMLScene(scene)


class qMRMLNodeComboBox(QtWidgets.QWidget):  # noqa: N801
    """A node selector. Like the real one, it moves on to a neighbour when its node is removed from the scene."""

    currentNodeChanged = QtCore.Signal()  # noqa: N815
    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, lambda self, names: self._set_types(names))  # noqa: N815
    noneDisplay = QtCore.Property(str, lambda self: self._none, lambda self, text: self._set_none(text))  # noqa: N815
    # of the real one, and without effect here: children are never shown, None always is, nothing is added or removed
    noneEnabled = addEnabled = removeEnabled = renameEnabled = showChildNodeTypes = QtCore.Property(bool)  # noqa: N815

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._attributes: dict[str, str] = {}
        self._none = "None"
        self._seen: Any = None
        self._box = QtWidgets.QComboBox()
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.addItem(self._none, "")
        self._box.currentIndexChanged.connect(self._index_changed)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setEnabled(False)

    @QtCore.Slot("vtkMRMLScene*")
    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self._scene = scene
        self.setEnabled(scene is not None)
        self._observe(scene, scene.NodeAddedEvent, self._refresh)
        self._observe(scene, scene.NodeAboutToBeRemovedEvent, self._remove)
        self._refresh()

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:  # noqa: N802
        self._attributes[node_type] = name
        self._refresh()

    def currentNode(self) -> Any:  # noqa: N802
        identifier = self._box.currentData()
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        self._refresh()
        self._box.setCurrentIndex(max(0, self._box.findData(node.GetID())) if node is not None else 0)

    def choose(self, text: str) -> None:
        """What a person does: picks the entry with that text."""
        index = self._box.findText(text)
        assert index >= 0, f"{text!r} is not one of {self.texts()}"
        self._box.setCurrentIndex(index)

    def texts(self) -> list[str]:
        return [self._box.itemText(index) for index in range(self._box.count())]

    def _set_types(self, names: Any) -> None:
        self._types = list(names)
        self._refresh()

    def _set_none(self, text: str) -> None:
        self._none = text
        self._box.setItemText(0, text)

    def _index_changed(self) -> None:
        if self._box.currentData() != self._seen:
            self._seen = self._box.currentData()
            self.currentNodeChanged.emit()

    def _shown(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [
            node
            for node in nodes
            if node.GetClassName() in self._types
            and not node.GetHideFromEditors()
            and (
                node.GetClassName() not in self._attributes or node.GetAttribute(self._attributes[node.GetClassName()])
            )
        ]

    def _observe(self, observed: Any, event: Any, call: Callable[[Any], None]) -> None:
        """Until this widget is deleted; ``call`` gets the node that the event is about."""

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def observer(caller: Any, event: Any, node: Any = None) -> None:
            if isValid(self._box):
                call(node)

        observe(observed, event, observer)

    def _refresh(self, _: Any = None) -> None:
        shown = {node.GetID(): node for node in self._shown()}
        for index in reversed(range(1, self._box.count())):
            node = shown.pop(self._box.itemData(index), None)
            if node is None:
                self._box.removeItem(index)
            else:
                self._box.setItemText(index, node.GetName())
        for identifier, node in shown.items():
            self._box.addItem(node.GetName(), identifier)
            self._observe(node, vtk.vtkCommand.ModifiedEvent, self._refresh)

    def _remove(self, node: Any) -> None:
        index = self._box.findData(node.GetID())
        if index > 0:
            self._box.removeItem(index)


class ctkCollapsibleButton(QtWidgets.QAbstractButton):  # noqa: N801
    """A header that shows and hides what lies below it; children that were hidden on their own stay hidden."""

    contentsCollapsed = QtCore.Signal(bool)  # noqa: N815
    collapsed = QtCore.Property(bool, lambda self: not self.isChecked(), lambda self, on: self.setChecked(not on))

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(1, self._header() + 1, 1, 1)
        self._hidden: set[QtCore.QObject] = set()
        self._folding = False
        self.toggled.connect(self._fold)

    def sizeHint(self) -> QtCore.QSize:  # noqa: N802
        if not self.isChecked() or self.layout() is None:
            return QtCore.QSize(100, self._header())
        return self.layout().totalSizeHint()

    minimumSizeHint = sizeHint  # noqa: N815

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        return self.isChecked() and self.layout() is not None and self.layout().hasHeightForWidth()

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        return self.layout().totalHeightForWidth(width)

    def hitButton(self, position: QtCore.QPoint) -> bool:  # noqa: N802
        return position.y() <= self._header()

    def childEvent(self, event: QtCore.QChildEvent) -> None:  # noqa: N802
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        if not self._folding and event.type() in (QtCore.QEvent.Type.ShowToParent, QtCore.QEvent.Type.HideToParent):
            if event.type() == QtCore.QEvent.Type.HideToParent:
                self._hidden.add(child)
            else:
                self._hidden.discard(child)
            self._fold(self.isChecked())
        return False

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802
        painter = QtWidgets.QStylePainter(self)
        if self.isChecked():
            painter.setPen(self.palette().color(QtGui.QPalette.ColorRole.Mid))
            painter.drawRect(self.rect().adjusted(0, self._header() // 2, -1, -1))
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._header())
        painter.drawPrimitive(QtWidgets.QStyle.PrimitiveElement.PE_PanelButtonCommand, option)
        arrow = QtWidgets.QStyleOptionButton(option)
        arrow.rect = QtCore.QRect(8, (self._header() - 12) // 2, 12, 12)
        element = QtWidgets.QStyle.PrimitiveElement
        direction = element.PE_IndicatorArrowDown if self.isChecked() else element.PE_IndicatorArrowRight
        painter.drawPrimitive(direction, arrow)
        painter.setPen(self.palette().color(QtGui.QPalette.ColorRole.ButtonText))
        text = QtCore.QRect(28, 0, self.width() - 28, self._header())
        painter.drawText(text, int(QtCore.Qt.AlignmentFlag.AlignVCenter), self.text())

    def _header(self) -> int:
        return self.fontMetrics().height() + 10

    def _fold(self, unfolded: bool) -> None:
        self._folding = True
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(unfolded and child not in self._hidden)
        self._folding = False
        self.updateGeometry()
        self.contentsCollapsed.emit(not unfolded)


class ctkPathLineEdit(QtWidgets.QWidget):  # noqa: N801
    """A line for a path, with a button that would browse. Of an empty path it only says that it is not valid."""

    Dirs = 1
    currentPathChanged = QtCore.Signal(str)  # noqa: N815
    validInputChanged = QtCore.Signal(bool)  # noqa: N815
    filters = settingKey = showHistoryButton = QtCore.Property(str)  # noqa: N815
    currentPath = QtCore.Property(  # noqa: N815
        str, lambda self: self._line.text(), lambda self, path: self._line.setText(path)
    )

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._line = QtWidgets.QLineEdit()
        self._valid = False
        self._line.textChanged.connect(self._changed)
        browse = QtWidgets.QToolButton()
        browse.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(browse)

    def _changed(self, path: str) -> None:
        was, self._valid = self._valid, bool(path)
        if path:
            self.currentPathChanged.emit(path)
        if was != self._valid:
            self.validInputChanged.emit(self._valid)


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):  # noqa: N801
    """Makes the surfaces of a segmentation when pressed, and drops them when released."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__("Show 3D", parent)
        self._node: Any = None
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._toggle)

    def setSegmentationNode(self, node: Any) -> None:  # noqa: N802
        self._node = node
        self.setEnabled(node is not None and node.GetSegmentation().GetNumberOfSegments() > 0)
        self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation(SEGMENT_SURFACE))
        self.blockSignals(False)

    def _toggle(self, on: bool) -> None:
        segmentation = self._node.GetSegmentation()
        if on:
            segmentation.CreateRepresentation(SEGMENT_SURFACE)
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(SEGMENT_SURFACE)
        else:
            segmentation.RemoveRepresentation(SEGMENT_SURFACE)


WIDGETS = (qMRMLWidget, qMRMLNodeComboBox, ctkCollapsibleButton, ctkPathLineEdit, qMRMLSegmentationShow3DButton)

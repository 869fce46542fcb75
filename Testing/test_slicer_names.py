"""All that the module asks of Slicer exists there: a walk over its code, against what Slicer 5.12.3 answers to."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import slicer_walk
from slicer_genuine import Genuine, signature
from slicer_known import widgets_in

MODULE = Path(__file__).resolve().parents[1] / "MSTKDSegmenter"
LIBRARY = MODULE / "MSTKDSegmenterLib"
NAMES = json.loads(Path(__file__).with_name("slicer_names.json").read_text(encoding="utf-8"))
GENUINE = Genuine(NAMES)
API = Path(__file__).resolve().parents[2] / "shared" / "docs" / "slicer_api.json"

# What runs in the application; these run in processes of their own.
NOT_IN_THE_APPLICATION = {"cli.py", "stopping.py", "worker.py"}
SOURCES = {
    path.relative_to(MODULE).as_posix(): path.read_text(encoding="utf-8")
    for path in [MODULE / "MSTKDSegmenter.py", *LIBRARY.rglob("*.py")]
    if "engine" not in path.parts and path.name not in NOT_IN_THE_APPLICATION
}
ENGINE = [path.read_text(encoding="utf-8") for path in (LIBRARY / "engine").glob("*.py")]
"""Neither slicer nor qt in it, see the test below; its names may be used."""
WIDGETS = widgets_in((MODULE / "Resources" / "UI").glob("*.ui"))


def walk(source: str) -> list[str]:
    """Findings in a piece of code, with two widgets in its .ui file."""
    return slicer_walk.walk({"x.py": source}, GENUINE, {"applyButton": "QPushButton", "statusLabel": "QLabel"})


def test_slicer_answers_to_all_that_the_module_asks_of_it() -> None:
    assert {"MSTKDSegmenter.py", "MSTKDSegmenterLib/logic.py", "MSTKDSegmenterLib/panel/installing.py"} <= set(SOURCES)
    assert slicer_walk.walk(SOURCES, GENUINE, WIDGETS, ENGINE) == []


def test_a_slip_in_any_attribute_of_any_widget_is_found() -> None:
    """Every `ui.NAME.ATTRIBUTE` of the module, misspelt."""
    trees = {name: ast.parse(text) for name, text in SOURCES.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree) if _is_of_a_widget(node)]
    for node in nodes:
        node.attr += "x"
    texts = {name: ast.unparse(tree) for name, tree in trees.items()}
    found = [text for text in slicer_walk.walk(texts, GENUINE, WIDGETS, ENGINE) if " of Slicer has no " in text]
    assert len(nodes) > 30
    assert len(found) == len(nodes)


def _is_of_a_widget(node: ast.AST) -> bool:
    owner = node.value if isinstance(node, ast.Attribute) else None
    return isinstance(owner, ast.Attribute) and ast.unparse(owner.value) in ("ui", "self.ui", "self._ui")


def test_the_engine_and_the_worker_use_neither_slicer_nor_qt() -> None:
    for path in [*(LIBRARY / "engine").glob("*.py"), LIBRARY / "worker.py", LIBRARY / "stopping.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {"slicer", "qt", "ctk", "vtk"}, path.name


PANEL = """
import qt, slicer, vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

class Widget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def setup(self):
        self.ui = slicer.util.childWidgetVariables(slicer.util.loadUI(self.resourcePath("x.ui")))
        self.timer = qt.QTimer()
        {line}

def show(label):
    label.text = "shown"
"""


@pytest.mark.parametrize(
    "line",
    [
        "self.ui.applyButton.enabled = True",
        "self.ui.applyButton.clicked.connect(self.setup)",
        "self.timer.timeout.connect(self.setup)",
        "self.timer.singleShot(10, self.setup)",
        "getattr(self.ui, f'{x}Button').toolTip = _('go')",
        "show(self.ui.statusLabel)",
        "slicer.util.errorDisplay('no', windowTitle=_('sorry'))",
        "slicer.app.layoutManager().setLayout(slicer.app.layoutManager().layout)",
        "slicer.modules.terminologies.logic().LoadTerminologyFromFile('x')",
        "slicer.mrmlScene.AddNewNodeByClass('vtkMRMLTableNode').GetTable()",
        "vtk.vtkMatrix4x4().SetElement(0, 0, 1)",
        "self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.setup)",
        "super().setup()",
        "slicer.app.extensionsManagerModel() if hasattr(slicer.app, 'extensionsManagerModel') else None",
        "database = getattr(slicer, 'dicomDatabase', None)",
    ],
)
def test_correct_code_is_left_alone(line) -> None:
    assert walk(PANEL.format(line=line)) == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("self.ui.applyButton.enable = True", "QPushButton of Slicer has no 'enable'"),
        ("self.ui.applyBtn.enabled = True", "no widget in the .ui files is called 'applyBtn'"),
        ("getattr(self.ui, f'{x}Label').value = 1", "QLabel of Slicer has no 'value'"),
        ("getattr(self.ui, f'select{x}').text = ''", "no widget in the .ui files is called like"),
        ("label = self.ui.statusLabel; label.txt = ''", "QLabel of Slicer has no 'txt'"),
        ("show(self.timer)", "QTimer of Slicer has no 'text'"),
        ("self.timer.setIntervall(5)", "QTimer of Slicer has no 'setIntervall'"),
        ("qt.QTimmer()", "qt has no 'QTimmer'"),
        ("qt.QRegExp('x')", "qt has no 'QRegExp'"),
        ("slicer.util.showError('no')", "slicer.util of Slicer has no 'showError'"),
        ("slicer.util.selectModule(name='x')", "missing a required argument: 'module'"),
        ("slicer.util.errorDisplay()", "missing a required argument: 'text'"),
        ("_('one', 'two')", "too many positional arguments"),
        ("slicer.app.layoutManager().setLayuot(3)", "slicer.app.layoutManager() of Slicer has no 'setLayuot'"),
        ("slicer.app.isTesting()", "slicer.app of Slicer has no 'isTesting'"),
        ("slicer.modules.terminology.logic()", "slicer.modules of Slicer has no 'terminology'"),
        ("slicer.modules.terminologies.logic().LoadFile('x')", "logic() of Slicer has no 'LoadFile'"),
        ("slicer.mrmlScene.AddNewNodeByClass('vtkMRMLTabelNode')", "there is no class vtkMRMLTabelNode"),
        ("slicer.mrmlScene.AddNewNodeByClass('vtkMRMLTableNode').GetTabel()", "of Slicer has no 'GetTabel'"),
        ("slicer.mrmlScene.class_name", "vtkMRMLScene of Slicer has no 'class_name'"),
        ("slicer.vtkMRMLScalarVolume()", "slicer has no 'vtkMRMLScalarVolume'"),
        ("vtk.vtkMatrix5x5()", "vtk has no 'vtkMatrix5x5'"),
        ("self.addObsever(1, 2, 3)", "Widget has no 'addObsever'"),
        ("for node in slicer.util.getNodesByClass('vtkMRMLTableNode'): node.GetRows()", "no 'GetRows'"),
        ("whatever().setEnabeld(True)", "nothing in Slicer, MRML, Python or our code has an attribute 'setEnabeld'"),
        ("import json; json.load_file('x')", "json has no 'load_file'"),
        ("slicer.packaging.pip_ensure('x')", "packaging came with Slicer 5.12"),
        ("from slicer.packaging import pip_ensure", "packaging came with Slicer 5.12"),
        ("slicer.util.launchConsoleProcess(['x'], blocking=False)", "(blocking=) came with Slicer 5.12"),
        ("slicer.app.extensionsManagerModel()", "extensionsManagerModel is not in every Slicer"),
        ("slicer.dicomDatabase.isOpen", "dicomDatabase is not in every Slicer"),
    ],
)
def test_a_planted_mistake_is_found(line, finding) -> None:
    found = walk(PANEL.format(line=line))
    assert [text for text in found if finding in text], found


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("if hasattr(slicer, 'packaging'):\n  slicer.packaging", True),
        ("if not hasattr(slicer, 'packaging'):\n  slicer.packaging", False),
        ("if hasattr(slicer, 'packaging'):\n  pass\nelse:\n  slicer.packaging", False),
        ("if hasattr(slicer, 'util'):\n  slicer.packaging", False),
        ("def f():\n  if not hasattr(slicer, 'packaging'):\n    return\n  slicer.packaging", True),
        ("def f():\n  if not hasattr(slicer, 'packaging'):\n    pass\n  slicer.packaging", False),
        ("try:\n  from slicer.packaging import pip_ensure\nexcept ImportError:\n  pass", True),
        ("try:\n  from slicer.packaging import pip_ensure\nexcept ValueError:\n  pass", False),
        ("hasattr(slicer, 'packaging') and slicer.packaging", True),
    ],
)
def test_what_came_with_5_12_needs_a_guard(source, allowed) -> None:
    assert (walk("import slicer\n" + source) == []) is allowed


def test_signatures_are_read_as_python_prints_them() -> None:
    signature("(key, default, converter=<function <lambda> at 0x7f50e23bc7c0>, settings=None)").bind(1, 2, settings=3)
    signature("(self, *args, **kwargs)").bind(1, x=2)
    signature("(args: 'list[str]', blocking: 'bool' = True) -> 'Popen[str]'").bind([], blocking=False)
    with pytest.raises(TypeError):
        signature("(self, message, show=True)").bind()


@pytest.fixture(scope="module")
def api() -> dict:
    """All names that were read from the application."""
    if not API.is_file():
        pytest.skip("the list of all names is not at ../shared/docs/slicer_api.json")
    return json.loads(API.read_text(encoding="utf-8"))


class TestAgainstTheWholeList:
    """slicer_names.json is a part of what was read from the application."""

    def test_no_name_was_added_by_hand(self, api) -> None:
        whole = {**api["objects"], **{name: list(content) for name, content in api["functions"].items()}}
        for classes in api["modules"].values():
            whole.update(classes)
        for functions in api["functions"].values():
            whole.update({name: one["members"] for name, one in functions.items() if isinstance(one, dict)})
        for kind, names in NAMES.items():
            if isinstance(names, list):
                assert sorted(set(names) - set(whole[kind])) == [], kind

    def test_no_signature_was_changed_by_hand(self, api) -> None:
        for path, text in NAMES["signatures"].items():
            module, _, name = path.rpartition(".")
            entry = api["functions"][module][name]
            assert text == (entry["init"] if isinstance(entry, dict) else entry), path

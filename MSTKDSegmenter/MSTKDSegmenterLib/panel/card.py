"""The card: what the chosen sequences are good for, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slicer.i18n import tr as _

from ..engine.errors import PackageError
from ..engine.package import default_folder, quality_table
from ..engine.regions import REGIONS
from ..engine.reliability import outlook
from ..engine.sequences import subset_name
from .marks import region_name, show_grade


class Card:
    """Region by region the Dice measured for such a subset, as good, fair or not reliable, and what would help."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self.problem = ""
        """Why the model cannot be described; empty if it can."""
        for region in REGIONS:
            getattr(ui, f"expectedName{region}").text = region_name(region)

    def show(self, subset: Iterable[str], model: str) -> None:
        """Show what to expect of a subset (an empty one too) with the model package in the folder ``model``; without
        one, with the model that came with the extension."""
        given = tuple(subset)
        self.problem = ""
        try:
            expected = outlook(quality_table(model or default_folder()), given)
        except PackageError as error:
            self.problem = str(error)
            self._ui.expectationTable.visible = False
            self._ui.adviceLabel.text = self.problem
            return
        self._ui.expectationTable.visible = bool(expected.regions)
        for region, expectation in expected.regions.items():
            getattr(self._ui, f"expectedDice{region}").text = f"{expectation.dice:.2f}"
            icon, grade = (getattr(self._ui, f"expected{part}{region}") for part in ("Icon", "Grade"))
            show_grade(icon, grade, expectation.grade)
        self._ui.expectationSection.text = (
            _("What to expect from {subset}").format(subset=subset_name(given)) if given else _("What to expect")
        )
        self._ui.adviceLabel.text = (
            expected.sentence
            if given
            else _("Choose at least one sequence to see how reliable each region of the tumour will be.")
        )

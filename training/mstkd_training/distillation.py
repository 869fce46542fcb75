"""One training step's computation: teacher and student see the same patient, the objective compares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from MSTKDSegmenterLib.engine.network import MSTKDNet, Taps
from torch import Tensor, nn

from .adapters import Adapters, Features
from .config import Config, FormulasConfig
from .ensemble import Ensemble
from .losses import features, logits, segmentation, style


@dataclass(frozen=True)
class StepResult:
    """total: what to descend on. terms: unweighted, by name. styles: of teacher and student, for the discriminator."""

    total: Tensor
    terms: dict[str, Tensor]
    styles: tuple[Tensor, Tensor] | None


class Distillation(nn.Module):
    """Student, teacher and adapters as one module with one forward pass, which is what DistributedDataParallel wraps.

    Args:
        teacher: None for the baseline without one.

    Raises:
        ValueError: the configured terms or crop do not fit the two networks.
    """

    def __init__(self, student: MSTKDNet, teacher: MSTKDNet | Ensemble | None, config: Config) -> None:
        super().__init__()
        _check_crop(config.augment.crop, {"student": student, "teacher": teacher})
        self.student, self.teacher = student, teacher
        self.formulas = config.formulas
        self.kind = config.teacher.kind
        self.gradients = config.teacher.gradients
        self.adapters = Adapters(student, teacher) if teacher is not None else None
        if teacher is not None:
            _check_terms(config, student, teacher, self.adapters)
            if self.kind != "joint":
                teacher.requires_grad_(False)
            weights = config.terms.weights(config.optim.steps)
            for term, projections in self.adapters.by_term().items():
                projections.requires_grad_(term in weights)  # without a gradient they must not wait for one
        self.train()

    def train(self, mode: bool = True) -> Distillation:
        super().train(mode)
        if self.teacher is not None and self.kind != "joint":
            self.teacher.eval()
        return self

    def forward(
        self,
        image: Tensor,
        present: Tensor,
        labels: Tensor,
        weights: dict[str, float],
        discriminator: nn.Module | None = None,
    ) -> StepResult:
        """Compute the terms that have a weight.

        Args:
            image: (B, 4, z, y, x), all sequences. present: (B, 4) of 0 and 1, what the student sees.
            labels: (B, z, y, x) int64.
            weights: by term; see config.TermsConfig.
            discriminator: its parameters get no gradient from here if they do not require one.
        """
        mine, ours = self._pass(self.student, image * present[:, :, None, None, None], present)
        if self.teacher is None:
            terms = self._segmentation({"segmentation": (mine, None)}, labels, weights)
            return StepResult(_total(terms, weights), terms, None)
        with torch.set_grad_enabled(self.kind == "joint" and torch.is_grad_enabled()):
            full, theirs = self._pass(self.teacher, image, torch.ones_like(present))
        target, shown = (full, theirs) if self.gradients else (full.detach(), theirs.detached())
        who: dict[str, tuple[Tensor, Tensor | None]] = {"segmentation": (mine, target)}
        if self.kind == "joint":  # no other learns from the labels here
            who["teacher_segmentation"] = (full, None)
        terms = self._segmentation(who, labels, weights)
        terms |= self._logits(target, mine, labels, weights)
        terms |= self._features(shown, self.adapters(ours, shown), weights)
        if "adversarial" in weights:
            terms["adversarial"] = style.fooled(discriminator(ours.stages[1]))
        return StepResult(_total(terms, weights), terms, (theirs.stages[1].detach(), ours.stages[1].detach()))

    def _pass(self, network: MSTKDNet | Ensemble, image: Tensor, present: Tensor) -> tuple[Tensor, Features | None]:
        if self.teacher is None:
            return network(image, present), None
        taps = Taps()
        return network(image, present, taps), Features.of(taps)

    def _segmentation(
        self, who: dict[str, tuple[Tensor, Tensor | None]], labels: Tensor, weights: dict[str, float]
    ) -> dict[str, Tensor]:
        terms = {}
        for name, (own, teacher) in who.items():
            if name not in weights:
                continue
            if self.formulas.segmentation == "corrected":
                terms[name] = segmentation.cross_entropy_and_dice(own, labels)
            else:
                background = teacher if self.formulas.background == "official" else None
                terms[name] = segmentation.official(own, labels, background)
        return terms

    def _logits(self, target: Tensor, mine: Tensor, labels: Tensor, weights: dict[str, float]) -> dict[str, Tensor]:
        formulas, terms = self.formulas, {}
        if "consistency" in weights:
            if formulas.segmentation == "corrected":
                terms["consistency"] = logits.consistency(target, mine)
            else:
                terms["consistency"] = logits.official_consistency(
                    target, mine, labels, formulas.background == "official"
                )
        if "logit_kl" in weights:
            axis = 1 if formulas.logit_axis == "corrected" else -3  # the released code's last axis is our z
            terms["logit_kl"] = logits.standardised_kl(target, mine, formulas.temperature, axis)
        if "logit_mse" in weights:
            terms["logit_mse"] = logits.mean_square(target, mine)
        return terms

    def _features(self, theirs: Features, ours: Features, weights: dict[str, float]) -> dict[str, Tensor]:
        formulas: FormulasConfig = self.formulas
        terms = {}
        if "content" in weights:
            compare = features.content if formulas.content == "corrected" else features.official_content
            terms["content"] = compare(theirs.content, ours.content)
        if "multiscale" in weights:
            compare = features.multiscale if formulas.multiscale == "corrected" else features.official_multiscale
            terms["multiscale"] = compare(theirs.multiscale, ours.multiscale)
        if "extreme_value" in weights:
            corrected = formulas.extreme_value == "corrected"
            compare = features.extreme_value if corrected else features.official_extreme_value
            terms["extreme_value"] = compare(theirs.attention, ours.attention)
        if "gram" in weights:
            match = style.gram if formulas.gram == "corrected" else style.official_gram
            terms["gram"] = match(theirs.stages, ours.stages)
        return terms


def _total(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def _check_crop(crop: Sequence[int], networks: dict[str, MSTKDNet | Ensemble | None]) -> None:
    multiples = {name: network.multiple for name, network in networks.items() if network is not None}
    common = math.lcm(*multiples.values())
    if any(side % common for side in crop):
        fitting = [-(-side // common) * common for side in crop]
        needs = " and for ".join(
            f"the {name} sides that are multiples of {number}" for name, number in multiples.items()
        )
        raise ValueError(f"augment.crop is {list(crop)}, expected for {needs}: set augment.crop={fitting}")


def _check_terms(config: Config, student: MSTKDNet, teacher: MSTKDNet | Ensemble, adapters: Adapters) -> None:
    weights = config.terms.weights(config.optim.steps)
    if "logit_mse" in weights and isinstance(teacher, Ensemble):
        raise ValueError(
            "terms.logit_mse compares logits as they are, and those of several teachers are known but for a constant: "
            "set terms.logit_mse.weight to 0"
        )
    transformers = student.config.transformer is not None and teacher.config.transformer is not None
    for name in ("multiscale", "extreme_value"):
        if name in weights and not transformers:
            raise ValueError(
                f"terms.{name} compares transformers, but not both networks have one: set terms.{name}.weight to 0"
            )
    if "extreme_value" in weights and not adapters.same_attention:
        raise ValueError(
            "terms.extreme_value compares attention maps, but teacher and student have other numbers of heads or "
            "tokens: set terms.extreme_value.weight to 0"
        )
    if "adversarial" in weights and student.config.width != teacher.config.width:
        raise ValueError(
            f"terms.adversarial: one discriminator sees both styles, but the widths are {teacher.config.width} and "
            f"{student.config.width}: set terms.adversarial.weight to 0 or make them equal"
        )

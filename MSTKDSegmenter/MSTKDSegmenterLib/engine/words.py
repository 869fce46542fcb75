"""The words that file names and series descriptions are made of, and how a name is cut into them."""

from __future__ import annotations

import re

IMAGE_SUFFIXES: tuple[str, ...] = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File endings of the formats that hold a whole image, lower case, longest first where one ends in another."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Weightings
T1 = _set("t1")
T1_TECHNIQUES = _set("mprage bravo spgr fspgr efgre3d irspgr irfspgr vibe thrive")
T2 = _set("t2")
FLAIR = _set("flair tirm fl flr")
# Contrast agent: English, German (KM, nativ), French, Italian (mdc), Spanish; agents by name
WITH_AGENT = _set(
    "post gd gad gado gadol gadolinium gadavist gadovist gadobutrol dotarem clariscan magnevist prohance multihance "
    "omniscan km mdc contrast contraste kontrast contr ce cemr enhanced enh injected inj injection postcontrast postgd "
    "postgad postgado postkm nachkm mitkm apres wcon wc postcon"
)
WITHOUT_AGENT = _set(
    "pre nativ native plain unenhanced precontrast pregd pregad prekm noncontrast nocontrast nogad nongad nogd ohnekm "
    "without wo ohne vor sans sin avant precon noncon nocon"
)
_NEGATIONS = _set("pre no non not without wo ohne vor sans sin avant before senza sem zonder")
_REFERENCES = _set("to in on onto into reg regto coreg coregto registered coregistered aligned resampled warped")
GRADIENT_ECHO = _set("gre ffe fgre fl2d fl3d gradient flash medic merge")
# What is none of the four
_OTHER = {
    "diffusion": "dwi dw dti diff diffusion trace tracew adc eadc isoadc fa colfa tensor noddi ep2d epi b0 b50 b500 "
    "b800 b1000 b1500 b2000",
    "susceptibility or T2*": "swi swan susc susceptibility qsm hemo heme haemo venobold t2star t2s t2starw",
    "perfusion or functional": "bold fmri rsfmri resting perf perfusion pwi dsc dce asl pcasl casl pasl cbf cbv rcbv "
    "rcbf mtt ttp tmax ktrans dynamic dyn twist tricks",
    "spectroscopy": "mrs csi svs spectro spectroscopy",
    "a localiser or a calibration": "loc localizer localiser scout survey 3plane calibration fieldmap fmap b0map b1map",
    "angiography": "tof mra mrv angio mrangio venogram",
    "a projection, subtraction or phase image": "mip minip minp projection subtraction subtracted subtract subtr pha",
    "another weighting": "stir dir psir pd pdw proton dual ciss fiesta trufi bssfp cine mp2rage",
    "a quantitative map": "map maps t1map t2map rho t1rho relaxometry synthetic jacobian warp deformation",
    "another modality": "ct cta pet fdg fet suv spect",
    "another body part": "spine cspine tspine lspine cervical thoracic lumbar",
    "a report": "report dose screensave",
}
OTHER_KIND = {word: kind for kind, words in _OTHER.items() for word in words.split()}
REGION_NAMES = _set(
    "tumor tumors tumour tumours lesion lesions gtv ctv pve edema oedema necrosis wt tc et ed ncr net ot gt truth "
    "groundtruth pred prediction prob probability"
)
_MASK = re.compile(
    r"(?:.*mask|.*seg|segm|.*segmentation|segmented|labels?|labelmap|(?:|t1|t1ce|t2|flair|tumou?r|lesion|brain)rois?|"
    r"outlines?|contours?|annotation|annotated|parcellation|aparc|wmparc|glistrboost|manuallycorrected)\d?"
)
# Planes, techniques, options and processing steps: they say nothing about the weighting but belong to a description
_NEUTRAL = _set(
    "ax axial oax sag sagittal osag cor coronal ocor tra trans transverse transversal obl oblique se tse fse ge ir tir "
    "tfe frfse irfse irprep prep fs fatsat fat sat nofs spir spair dixon water 2d 3d iso isotropic propeller blade "
    "prop multivane cube space spc vista view brainview mpr ns nd sense clear extrp w wi weighted hr hires highres "
    "thin brain head skull stripped ss bet mr mri vol volume volumetric long short longtr longte tr repeat rpt rep run "
    "wip image img with mit nach and und iv i v mt mtc haste straight "
    "accelerated fast grappa grappa2 grappa3 asset arc dl stealth nav neuronav brainlab flowcomp flow comp adni"
)
_PROCESSED = _set("bias corrected bfc n4 norm normalized normalised")
_NEUTRAL_PATTERN = re.compile(r"\d+mm|p[2-4]|\d+ch|te\d+|tr\d+|ti\d+")

_BEFORE = r"(?:ax(?:ial)?|oax|sag(?:ittal)?|osag|cor(?:onal)?|ocor|tra|3d|2d|fse|tse|se|ir|fs|cube|ce|gd|c)"
_AFTER = (
    r"(?:weighted|wi|w|postcontrast|post|precontrast|pre|native|nativ|kontrast|contrast|enhanced|gadolinium|gado|gad|gd|ce|km|"
    r"mdc|flair|fl|mprage|mpr|cube|space|spc|vista|fspgr|spgr|bravo|vibe|blade|fse|tse|tfe|ffe|gre|se|fs|3d|2d|"
    r"ax(?:ial)?|sag(?:ittal)?|cor(?:onal)?|tra|iso|star|map|brain)"
)
_GLUED = re.compile(rf"(?P<before>{_BEFORE}*)(?P<core>t1|t2|flair|mprage|bravo|fspgr)(?P<after>{_AFTER}*)")
_LETTER = {"t1c": ("t1", "gd"), "t1n": ("t1", "native"), "t2f": ("t2", "flair"), "t1wc": ("t1", "gd")}


def describe(name: str) -> list[str]:
    """The name's words in order, lower case, glued ones separated, phrases replaced by the one word they mean."""
    text = name.strip()
    for suffix in IMAGE_SUFFIXES:
        if text.lower().endswith(suffix):
            text = text[: -len(suffix)]
            break
    # The BIDS entity for a contrast agent: what it says belongs to the suffix in the end, whatever stands between.
    text = re.sub(r"_ce-(?!no|pre|without)[A-Za-z0-9]+((?:_[A-Za-z0-9]+-[A-Za-z0-9]+)*_T1w)$", r"\1_gd", text)
    # BIDS entities that name the subject or the space an image was resampled to say nothing about its weighting.
    text = re.sub(r"(?:^|(?<=_))(?:sub|ses|run)-[A-Za-z0-9]+(?=_|$)", "", text)
    text = re.sub(r"_space-[A-Za-z0-9]+(?=_)", "", text).replace("_", " ")
    # Philips and Esaote put letters in front: sT2W, eFLAIR, SST1.
    text = re.sub(r"\b(?:[se]|SS)(?=T[12]|FLAIR|STIR)|\b[SsEe](?=[Tt][12][Ww])", "", text).lower()
    text = phrases_replaced(text)
    words: list[str] = []
    for token in re.findall(r"[a-z0-9]+", text):
        words += _unglue(token)
    return _without_reference(_with_negations(words))


def phrases_replaced(text: str) -> str:
    """A lower-case name with the one word that they mean in the place of phrases of several: dark fluid -> flair."""
    for pattern, meaning in _PHRASES:
        text = pattern.sub(meaning, text)
    return text


_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"\b(?:post|pre)[\s-]*(?:op|surg|resect|rt\b|rad(?!ial)|chemo|treat|tx\b|therap|biops|proc)\w*", " "),
        (
            r"\bw(?:ith)?\b[\s/]*(?:and|&|\+)?[\s/]*\b(?:w/?o|without)\b(?:[\s-]*(?:iv[\s-]*)?con(?:t|trast)?\b)?",
            " wandwo ",
        ),
        (r"\bw[/\s-]o\b", " without "),
        (r"\bs/\s*(?:c|gd|gad\w*|mdc|contraste?)\b", " native "),  # Spanish, Portuguese: sin, sem
        (r"(?<=\s)k?\+\s*$", " gd "),  # "T1 SE TRA +"
        (r"\bsub\b(?=\s*$|[\s-]+(?:ax|cor|sag|tra|t1|post|3d))", " subtraction "),
        (r"\bdark[\s-]*fl(?:uid)?\b|\bda-fl\b|\bfluid[\s-]*attenuated\b", " flair "),
        (r"\bt2w?[\s-]*(?:\*|star\b)", " t2star "),
        (r"\bmp[\s-]rage\b", " mprage "),
        (r"\bt1[\s-]*(?:map|rho)\b|\bt2[\s-]*map\b", " map "),
        (r"(?<=t1)\+(?!\w)|(?<=t1w)\+(?!\w)|\+\s*(?:c|ce|gd|gad\w*|km|k|mdc|contrast)\b|\bc\+(?!\w)", " gd "),
        (r"(?<=\s)-\s*(?:c|gd|gad|km|contrast)\b|(?:(?<=\s)|(?<=t1)|(?<=t1w))c-(?=\s|$)", " native "),
        (r"(t1\w*\b.*?)\bcont?\b(?![\s-]*\d)", r"\1 contrast"),  # CON_T1, T1_CON_003: of a control
        (r"(?<=[a-z0-9])2(?=t[12]|flair)", " to "),
        (r"\b(t[12]\w*|flair)[\s-]+2[\s-]+(?=t[12]|flair)", r"\1 to "),
    )
)


def _unglue(token: str) -> tuple[str, ...]:
    """``axt1post`` -> ax, t1, post. A token that is not made of known words stays whole."""
    if token in _LETTER:
        return _LETTER[token]
    unnumbered = token.rstrip("0123456789")
    if unnumbered in WITH_AGENT | WITHOUT_AGENT:  # post1, gd2
        return (unnumbered,)
    match = _GLUED.fullmatch(token)
    if match is None or token in OTHER_KIND:
        return (token,)
    before = re.findall(_BEFORE, match["before"])
    # As HD-GLIO and LUMIERE write it, CT1 is the T1 with contrast agent.
    before = ["gd" if word == "c" else word for word in before]
    return (*before, match["core"], *re.findall(_AFTER, match["after"]))


def _with_negations(words: list[str]) -> list[str]:
    """``without [iv] contrast`` becomes one word of the kind "no contrast agent"; so does ``pre gd``."""
    result: list[str] = []
    index = 0
    while index < len(words):
        ahead = index + 1
        while ahead < len(words) and words[ahead] in ("iv", "i", "v"):
            ahead += 1
        if words[index] in _NEGATIONS and ahead < len(words) and words[ahead] in WITH_AGENT - {"post"}:
            result.append("native")
            index = ahead + 1
        elif words[index] in ("c", "cm") and result and result[-1] in T1 | T1_TECHNIQUES:
            result.append("gd")
            index += 1
        elif words[index] == "c" and ahead == len(words) and T1 & {*result}:
            result.append("wandwo")  # "T1 AX C": contrast, or coronal, or the third of several
            index += 1
        else:
            result.append(words[index])
            index += 1
    return result


def _without_reference(words: list[str]) -> list[str]:
    """``flair to t1``: the image is the FLAIR, the T1 only the grid it was brought to."""
    result: list[str] = []
    for word in words:
        follows_reference = bool(result) and result[-1] in _REFERENCES
        if follows_reference and word in T1 | T2 | FLAIR and any(done in T1 | T2 | FLAIR for done in result):
            continue
        result.append(word)
    return result


def is_mask(word: str) -> bool:
    """Whether ``word`` names a segmentation; wherever it stands in a name, the image is then no sequence."""
    return _MASK.fullmatch(word) is not None


def tells(word: str) -> bool:
    """Whether ``word`` says what kind of image it is, one of the four or another."""
    return word in T1 | T2 | FLAIR | T1_TECHNIQUES or word in OTHER_KIND


def known_word(word: str) -> bool:
    """Whether ``word`` is part of the vocabulary of image descriptions."""
    known = WITH_AGENT | WITHOUT_AGENT | _NEGATIONS | _REFERENCES | GRADIENT_ECHO | _NEUTRAL | _PROCESSED
    return tells(word) or word in known or word == "wandwo" or _NEUTRAL_PATTERN.fullmatch(word) is not None


def is_description(name: str) -> bool:
    """Whether every word of ``name`` describes an image, so that none need be a patient's or a study's name."""
    return all(known_word(word) and word not in OTHER_KIND for word in describe(name))


def unprocessed(name: str) -> tuple[str, ...]:
    """The words of ``name`` without those for a correction or normalisation of intensities."""
    return tuple(word for word in describe(name) if word not in _PROCESSED)

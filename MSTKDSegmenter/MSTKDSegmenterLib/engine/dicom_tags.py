"""Which sequence a DICOM series is, from its header: what it is called, how it was acquired, which agent was given."""

from __future__ import annotations

from collections.abc import Mapping

from .names import NameFacts, Recognition, read_name

DICOM_TAGS: dict[str, str] = {
    "ImageType": "0008,0008",
    "Modality": "0008,0060",
    "SeriesDescription": "0008,103e",
    "ContrastBolusAgent": "0018,0010",
    "ScanningSequence": "0018,0020",
    "SequenceVariant": "0018,0021",
    "MRAcquisitionType": "0018,0023",
    "AngioFlag": "0018,0025",
    "RepetitionTime": "0018,0080",
    "EchoTime": "0018,0081",
    "InversionTime": "0018,0082",
    "ProtocolName": "0018,1030",
    "ContrastBolusIngredient": "0018,1048",
    "SamplesPerPixel": "0028,0002",
}
"""The tags that ``recognise_dicom`` reads; whoever collects tags collects these."""

_NOT_A_SOURCE_IMAGE = {
    "LOCALIZER": "a localiser",
    "PROJECTION IMAGE": "a projection",
    "MIP": "a projection",
    "MNIP": "a projection",
    "MINIP": "a projection",
    "SUBTRACTION": "a subtraction",
    "SUB": "a subtraction",
    "ADC": "a diffusion map",
    "EADC": "a diffusion map",
    "FA": "a diffusion map",
    "TRACEW": "a diffusion image",
    "DIFFUSION": "a diffusion image",
    "PERFUSION": "a perfusion image",
    "ASL": "a perfusion image",
    "T1 MAP": "a quantitative map",
    "T2 MAP": "a quantitative map",
    "PHASE MAP": "a phase image",
    "CSA REPORT": "a report",
    "SCREEN SAVE": "a screen shot",
}
_NO_AGENT = {"", "no", "non", "none", "not", "n", "0", "nil", "na", "n/a", "off", "without", "w/o", "kein", "keine"}
_NO_AGENT |= {"keins", "ohne", "sin", "sem", "senza", "sans", "unknown", "-", "--"}
"""First words of what stands in a contrast tag where no agent was given, or where nobody knows."""


def recognise_dicom(tags: Mapping[str, str], folder_name: str = "") -> Recognition:
    """The sequence that a series header describes.

    Args:
        tags: values by tag, ``"0008,103e"`` or ``"0008|103e"`` in any case, see ``DICOM_TAGS``; absent ones are fine.
        folder_name: name of the folder that holds this series and no other, or nothing.

    The series description decides, or else the protocol name, the folder's name, the timing. The timing also has a
    veto: a "T2" that was acquired like a T1 is undecided. T1 with contrast agent is T1ce, whether a name or the
    contrast tag says so; if one says with and the other without, it is undecided.
    """
    values = _by_keyword(tags)
    modality = values["Modality"].upper()
    if modality not in ("", "MR"):
        return Recognition(None, f"modality {modality}, not MR", excluded=True)
    image_type = [part.strip().upper() for part in values["ImageType"].split("\\")]
    for part in image_type:
        if part in _NOT_A_SOURCE_IMAGE:
            return Recognition(None, f"image type says {_NOT_A_SOURCE_IMAGE[part]}", excluded=True)
    if (_number(values["SamplesPerPixel"]) or 1) > 1:
        return Recognition(None, "a colour image", excluded=True)
    if "P" in image_type[2:]:
        return Recognition(None, "image type says a phase image", excluded=True)

    named = _names(values, folder_name)
    timing, numbers = _timing(values)
    where, facts = next(((where, facts) for where, facts in named if facts.weighting or facts.excluded), named[0])
    if facts.excluded:
        return Recognition(None, f"{where}: {facts.reason}", excluded=True)
    if facts.weighting is None:
        if timing is None:
            return Recognition(None, f"{where}: {facts.reason}; the timing ({numbers}) does not decide it")
        if timing not in ("FLAIR", "T1", "T2"):
            return Recognition(None, f"{timing} ({numbers}); {where}: {facts.reason}", excluded=True)
        weighting, reason = timing, f"timing ({numbers}); {where}: {facts.reason}"
    else:
        if timing is not None and not _agree(facts.weighting, timing):
            return Recognition(None, f"{where} says {facts.weighting}, the timing ({numbers}) says {timing}: undecided")
        weighting, reason = facts.weighting, f"{where}, {facts.reason}"
    if weighting != "T1":
        return Recognition(weighting, reason)
    return _with_agent(values, named, reason)


def _names(values: Mapping[str, str], folder_name: str) -> list[tuple[str, NameFacts]]:
    """What the series is called, the most telling name first: where it stands and what it says."""
    names = [
        ("series description", values["SeriesDescription"]),
        ("protocol name", values["ProtocolName"]),
        ("folder name", folder_name),
    ]
    given = [(f"{where} '{name}'", read_name(name)) for where, name in names if name]
    return given or [("no series description", read_name(""))]


def _with_agent(values: Mapping[str, str], named: list[tuple[str, NameFacts]], reason: str) -> Recognition:
    """T1 or T1ce, by the first name that speaks of contrast agent and by the contrast tags."""
    agents = (values["ContrastBolusAgent"], values["ContrastBolusIngredient"])
    agent = next((agent for agent in agents if (agent.lower().split() or [""])[0] not in _NO_AGENT), None)
    said = next(((where, facts.contrast) for where, facts in named if facts.contrast is not None), None)
    if said is None:
        return Recognition("T1ce", f"{reason}; contrast tag '{agent}'") if agent else Recognition("T1", reason)
    where, with_agent = said
    if agent and not with_agent:
        return Recognition(None, f"T1, but {where} says without contrast agent, the contrast tag '{agent}': undecided")
    where = "" if where in reason else f"; {where} says {'with' if with_agent else 'without'} contrast agent"
    return Recognition("T1ce" if with_agent else "T1", reason + where)


def _agree(named: str, timing: str) -> bool:
    # A FLAIR whose header lost the inversion time looks like a T2; a T2 with the inversion of a FLAIR is one.
    return named == timing or (named == "FLAIR" and timing == "T2")


def _timing(values: Mapping[str, str]) -> tuple[str | None, str]:
    """The weighting that TE, TR and TI (ms) stand for at 1.5 to 3 T, or what else it must be, or None; and the numbers.

    The limits leave gaps on purpose: a series in a gap is decided by its name or not at all.
    """
    te, tr, ti = (_number(values[tag]) for tag in ("EchoTime", "RepetitionTime", "InversionTime"))
    scanning = {part.strip().upper() for part in values["ScanningSequence"].replace(",", "\\").split("\\")} - {""}
    variant = {part.strip().upper() for part in values["SequenceVariant"].replace(",", "\\").split("\\")}
    known = [f"{label} {value:g}" for label, value in (("TE", te), ("TR", tr), ("TI", ti)) if value]
    numbers = ", ".join([*known, *sorted(scanning)]) or "absent"
    if te is None or tr is None:
        return None, numbers
    if values["AngioFlag"].upper() == "Y":
        return "angiography", numbers
    if "EP" in scanning:
        return "echo-planar, as diffusion or perfusion are", numbers
    gradient_echo = "GR" in scanning and "SE" not in scanning
    if gradient_echo:
        prepared = "MP" in variant or "IR" in scanning or bool(ti)
        if te < 10 and (prepared or (values["MRAcquisitionType"].upper() == "3D" and 5 <= tr < 15)):
            return "T1", numbers
        return ("gradient echo with long TE, as T2* is" if te >= 14 else None), numbers
    if ti and ti >= 1500 and tr >= 4000 and te >= 60:
        return "FLAIR", numbers
    if te <= 35 and (tr <= 1000 or (ti and 500 <= ti <= 1300 and tr <= 3500)):
        return "T1", numbers
    if ti and ti <= 400 and te >= 30 and tr >= 2000:
        return "STIR", numbers  # at this inversion time the signal of fat is nulled, not that of fluid
    if te >= 60 and tr >= 2000 and not ti and "IR" not in scanning:
        return "T2", numbers
    return None, numbers


def _number(text: str) -> float | None:
    try:
        return float(text.split("\\")[0])
    except ValueError:
        return None


def _by_keyword(tags: Mapping[str, str]) -> dict[str, str]:
    given = {key.lower().replace("|", ","): str(value).strip(" \0") for key, value in tags.items()}
    return {keyword: given.get(tag, "") for keyword, tag in DICOM_TAGS.items()}

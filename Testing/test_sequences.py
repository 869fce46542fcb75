"""Sequences and subsets, and which sequence a name or a DICOM header is taken for.

The names are those of public data sets, of scanners of the large makers, and some made up to mislead.
"""

from __future__ import annotations

import re

import pytest
from MSTKDSegmenterLib.engine.errors import Cancelled, UnusableInput
from MSTKDSegmenterLib.engine.progress import Event, Job
from MSTKDSegmenterLib.engine.sequences import (
    SEQUENCES,
    SUBSETS,
    in_channel_order,
    parse_subset,
    presence,
    recognise_dicom,
    recognise_name,
    subset_name,
)

FLAIR_NAMES = [
    "flair_2_t1.nii.gz",
    "BraTS19_CBICA_ABM_1_flair.nii",
    "BraTS-GLI-00005-100-t2f.nii.gz",
    "VSD.Brain.XX.O.MR_Flair.54512.mha",
    "FeTS2022_00000_flair.nii.gz",
    "00001_brain_fl.nii.gz",
    "sT2W/FLAIR",
    "sT2W/FLAIR SENSE",
    "FLAIR_longTR",
    "eFLAIR_longTR_SPIR",
    "3D_Brain_VIEW_FLAIR_SAG",
    "t2_tirm_tra_dark-fluid",
    "t2_tirm_tra_dark-fluid_320_p2",
    "t2_space_dark-fluid_sag_p2_iso",
    "t2_spc_da-fl_sag_fs",
    "t2_tse_dark-fluid",
    "dark fluid",
    "tirm_tra",
    "AX T2 FLAIR",
    "T2-FLAIR",
    "AX FLAIR T2",
    "OAx T2 FLAIR+C",
    "AX FLAIR POST",
    "T2FLAIR",
    "3DFLAIR",
    "axflair",
    "sub-01_space-T1w_FLAIR.nii.gz",
    "flair_to_t1.nii.gz",
    "flair2t1.nii.gz",
    "FLAIR_in_T1_space",
    "TCGA-T1-0001_flair.nii.gz",
    "T2019_patient_flair",
    "Patient_T1_t2_flair.nii.gz",
    "FLAIR_space",
    "T2 SPACE FLAIR",
    "flair_3D_SPACE",
    "HKCL Fast FLAIR dor HawkAI",
    "AX FLAIR : Processed_CaPTk",
    "seg001_flair.nii.gz",
    "Leroi_flair.nii.gz",
    "AX FLAIR FSE",
    "FLAIR-3D",
    "t2flair.nii.gz",
    "flair_stripped",
    "3D_SAG_T2_SPACE_FLAIR",
    "BraTS-MET-00001-000-t2f",
    "FLAIR-coreg-T1",
    "Brats17_TCIA_607_1_flair",
    "Brain FLAIR final (1).nii.gz",
    "t2w_flair",
    "t2-w-flair",
    "FLAIR_T2",
    "Flair.nii",
    "T2-weighted-Fluid-Attenuated Inversion Recovery",
    "fluid attenuated",
    "3T FLAIR",
    "T1w_patient_FLAIR",
]

T1_NAMES = [
    "BraTS19_CBICA_ABM_1_t1.nii",
    "AX T1 S/ CONTRASTE",
    "t1_tra_ohneKM",
    "BraTS-GLI-00005-100-t1n.nii.gz",
    "VSD.Brain.XX.O.MR_T1.54513.mha",
    "AX T1",
    "MPRAGE",
    "t1_mprage_sag_p2_iso",
    "t1_mprage_tra ohne KM",
    "t1_tse_sag_ohne_KM",
    "T1 vor KM",
    "T1 pre contrast",
    "T1 without contrast",
    "T1 w/o contrast",
    "T1 W/O GAD",
    "T1 non contrast",
    "T1 sans gado",
    "T1 nativ",
    "T1 unenhanced",
    "T1 ohne i.v. KM",
    "T1W PRE",
    "T1 tra C5-C7",
    "sT1W_3D_TFE_PRE_GD",
    "sT1W_3D_TFE",
    "301_ax_st1w_3d_tfe.nii",
    "T1/SE/extrp",
    "eT1W_SE",
    "t1_tirm_tra_dark-fluid",
    "T1_tse_dark_fluid_tra",
    "t1_space_sag",
    "t1_spc_sag_p2_iso_nativ",
    "t1_fl2d_tra",
    "Ax T1 FLAIR",
    "AX_T1_FLAIR",
    "T1FLAIR",
    "Sag T1,Flair",
    "Accelerated Sag IR-FSPGR",
    "SAG 3D FSPGR BRAVO STRAIGHT",
    "T1 REPEAT2",
    "T1 postop",
    "post op T1",
    "sub-01_ses-pre_T1w.nii.gz",
    "T2019_t1",
    "3_AX_T1_FLAIR_20200101",
    "t1.nii",
    "SagT1",
    "T1_T1_SE_extrp_CLEAR_20061201141645_601.nii.gz",
    "T1_n4.nii.gz",
    "T1w_acpc_dc_restore_brain",
    "T1-weighted, 3D VOLUMETRIC",
    "brain_tumor_001_t1.nii.gz",
    "T1_w_o_contrast",
    "sub_01_T1.nii.gz",
    "T1 -C",
    "T1 C-",
    "AX T1 PRECON",
    "T1 NONCON",
    "T1 no con",
    "AX T1 W/O CON",
    "CON_T1.nii.gz",
    "T1_CON_003.nii.gz",
    "t1_2_flair.nii.gz",
    "study_2_t1.nii.gz",
    "T1 post rads",
    "T1 post radiotherapy",
    "T1C-.nii",
    "P01_T1C-.nii.gz",
    "T1wC-_reg.nii",
    "T1 senza mdc",
    "AXIAL T1 PRE GD",
    "AX 3D T1 STEALTH",
    "3D SAG T1 BRAINLAB",
    "MP-RAGE",
    "t1 native.nii",
    "t1pre.nii.gz",
    "sub-0001_ses-01_acq-pre_T1w",
    "T1_BET",
    "anon_T1W",
    "UK_Biobank_T1",
    "Dr_No_T1",
    "T1_no_fatsat",
    "Wo_Chen_T1",
    "t1_fl3d_sag",
    "brain_T1_final_v2.nii.gz",
    "T1-",
    "T1 W",
    "unenhanced T1",
    "non-contrast T1",
    "non-enhanced T1",
    "T1 1.5T",
    "1_T1",
]

T1CE_NAMES = [
    "AX T1 +",
    "T1 3D K+",
    "T1 CM",
    "t1_tra_nachKM",
    "T1 c/ contraste",
    "BraTS19_CBICA_ABM_1_t1ce.nii",
    "BraTS-GLI-00005-100-t1c.nii.gz",
    "VSD.Brain.XX.O.MR_T1c.54514.mha",
    "TCGA-02-0003_1997.06.08_t1Gd.nii.gz",
    "W1_1998.09.05_t1Gd_LPS_rSRI.nii.gz",
    "00001_brain_t1gd.nii.gz",
    "CT1.nii.gz",
    "UPENN-GBM-00001_11_T1GD.nii.gz",
    "UCSF-PDGM-0004_T1c_bias.nii.gz",
    "PatientID_0003_Timepoint_1_brain_t1c.nii.gz",
    "BraTSReg_001_00_0000_t1ce.nii.gz",
    "AX T1 POST",
    "AX T1 POST GD",
    "T1+C",
    "T1 +C",
    "T1 C+",
    "AX T1 POSTCON",
    "POSTCON AX T1",
    "AX T1 W CON",
    "T1 W/CON",
    "T1 WCON",
    "T1 WC",
    "T1 Cont",
    "T1 con contraste",
    "T1 vibe post radial",
    "t1ce_2_t2.nii.gz",
    "t1post",
    "t1_post",
    "T1 post contrast",
    "T1 post-contrast",
    "t1_gd",
    "t1gd",
    "T1_C",
    "AX 3D T1 GAD",
    "MPRAGE POST",
    "t1_mprage_sag_p2_iso_KM",
    "t1_mprage_tra nach KM",
    "sT1W_3D_TFE GD",
    "Ax T1,Flair +C",
    "AX T1 POST GD FLAIR",
    "Sag CUBE T1 +C",
    "OAx T1+C",
    "AX T1 SE C+",
    "AX 3D BRAVO +C",
    "T1 post-op gd",
    "T1 with contrast",
    "T1 w contrast",
    "T1_contrast_enhanced",
    "sub-01_ce-gadolinium_T1w.nii.gz",
    "sub-01_ce-gadolinium_desc-preproc_T1w.nii.gz",
    "sub-01_ce-gad_rec-norm_T1w.nii.gz",
    "sub-01_ses-2_acq-mprage_ce-gadavist_run-1_space-MNI152_desc-brain_T1w.nii.gz",
    "T1CE",
    "t1-ce",
    "cet1w",
    "GD T1",
    "post T1",
    "PostGd_T1",
    "AxT1Post",
    "HKCL 3D SST1 dor post KM HawkAI",
    "Ax T1 Post: Processed_CaPTk",
    "3D AX T1 Post-contrast Intra-op Thin-cut.nii",
    "t1-weighted post",
    "t1_post1.nii",
    "13-AX T1 POST-19694",
    "T1Gadolinium.nii",
    "MRI BRAIN W WO CONTRAST AX T1 POST",
    "t1ce_to_flair.nii.gz",
    "AX T1 3D SPGR +C",
    "Ax T1 post gad",
    "COR T1 POST GD",
    "3DT1 VOLUME CONTRAST",
    "+C AX T1",
    "AX T1 FS POST",
    "MPRAGE-POST",
    "T1-3D-GD",
    "sub-0001_ses-01_acq-post_T1w.nii.gz",
    "patient01-T1CE-bet",
    "P01_T1c_reg.nii.gz",
    "P01-T1C-bet.nii.gz",
    "ReMIND-001_3D_AX_T1_postcontrast",
    "10_t1_mpr_tra_iso_p2_Gd",
    "t1c_n4_bet.nii.gz",
    "Brats18_2013_2_1_t1ce",
    "axial T1w with Gd",
    "T1W_IR_GD",
    "c1_T1_CE.nii",
    "T1wGd.nii",
    "T1_Gd_DTPA",
    "t1ce copy.nii",
    "T1_KM+",
    "T1 + KM",
    "T1 +Gd",
    "T1+Gd",
    "T1+CE",
    "contrast-enhanced T1",
    "T1 contrast-enhanced",
    "t1kontrast",
]

T2_NAMES = [
    "BraTS2021_00495_t2.nii.gz",
    "BraTS-GLI-00005-100-t2w.nii.gz",
    "VSD.Brain.XX.O.MR_T2.54515.mha",
    "sT2/TSE/T",
    "eT2W_TSE_DRIVE_HR",
    "t2_tse_tra",
    "t2_space_sag",
    "t2_spc_sag_p2_iso",
    "Ax T2 PROPELLER",
    "AX T2 FRFSE",
    "T2W_TSE",
    "sub-T1_T2w.nii.gz",
    "T2_reg_T1ce.nii.gz",
    "Patient_T1_T2.nii.gz",
    "T2.NII.GZ",
    "HKCL FSE T2 sag HawkAI",
    "Fa_Mao_003_T2.nii.gz",
    "AX FSE T2",
    "HGG_001_T2",
    "2D_AX_T2_BLADE",
    "T2 longTE",
    "T2_haste",
    "T2 (2).nii.gz",
    "Kopie von T2.nii",
    "MR T2 weighted",
    "3T_T2",
]

OTHER_NAMES = [
    "flair_seg2.nii.gz",
    "FLAIR_mask2",
    "FLAIR_lesions",
    "T1ce_gtv",
    "T1_pve_1",
    "BraTS-GLI-00005-100-seg.nii.gz",
    "VSD.Brain_3more.XX.O.OT.54517.mha",
    "TCGA-02-0003_1997.06.08_GlistrBoost_ManuallyCorrected.nii.gz",
    "UCSF-PDGM-0004_tumor_segmentation.nii.gz",
    "UCSF-PDGM-0004_DWI.nii.gz",
    "UCSF-PDGM-0004_ADC.nii.gz",
    "UCSF-PDGM-0004_SWI.nii.gz",
    "PatientID_0003_Timepoint_1_tumorMask.nii.gz",
    "FLAIR_ROI",
    "eSTIR_longTE",
    "t2_fl2d_tra_hemo",
    "T2*",
    "T2* GRE",
    "AX T2 STAR",
    "AX_T2_GRE_MT",
    "T2W_FFE",
    "sub-01_T2starw.nii.gz",
    "sT2W/PD_TSE",
    "AX PD + T2",
    "ep2d_diff_3scan_trace_p2",
    "DTI_30dir",
    "SWI_Images",
    "3 Plane Localizer",
    "AAHead_Scout",
    "T1 map",
    "T1_brain_mask.nii.gz",
    "t1ce_seg.nii.gz",
    "seg.nii.gz",
    "mask_BraTS_001_t1.nii.gz",
    "labels.nii.gz",
    "segmentation.seg.nrrd",
    "T1_label.nii.gz",
    "T1-label.nrrd",
    "TOF_3D_multi-slab",
    "sag t2 c-spine",
    "Ax DWI b1000",
    "PET_FET.nii.gz",
    "t2_map",
    "lesion.nii.gz",
    "t1_tumor.nii.gz",
    "T1 POST SUB",
    "SUB AX T1",
    "T2 star",
    "T1ce_brain_seg",
    "W39_1998.09.19_Segm.nii",
    "T1 dynamic",
    "3-Pl T2* FGRE",
    "t2_swi_tra",
    "ADC (10^-6 mm2/s)",
    "Perfusion_T1_dyn",
    "T1_mask",
    "manual_segmentation_t1",
]

UNDECIDED_NAMES = [
    "T2_IR",
    "t2_spc_ir_sag_p2",
    "T1 w/wo con",
    "T1 AX C",
    "T1W_SE_C",
    "BRATS_001_0000.nii.gz",
    "BRATS_001_0003.nii.gz",
    "T1 pre und post KM",
    "T1 w/wo contrast",
    "T2019_patient",
    "T1_T2.nii.gz",
    "Smith_T1_FLAIR.nii.gz",
    "TCGA-GD-A2C5-01_T1.nii.gz",
    "gd.nii.gz",
    "",
    "image.nii.gz",
    "SAG",
    "FLAIR_T1.nii.gz",
    "AX GRE",
    "pre.nii.gz",
    "T1_pre_post",
    "T1orT2.nii",
]


def test_there_are_fifteen_subsets_from_single_sequences_to_all_four() -> None:
    assert SEQUENCES == ("FLAIR", "T1", "T1ce", "T2")
    assert len(set(SUBSETS)) == 15
    assert [len(subset) for subset in SUBSETS] == [1] * 4 + [2] * 6 + [3] * 4 + [4]
    assert all(list(subset) == sorted(subset, key=SEQUENCES.index) for subset in SUBSETS)


@pytest.mark.parametrize("subset", SUBSETS, ids=subset_name)
def test_a_subset_survives_being_written_and_read(subset: tuple[str, ...]) -> None:
    assert parse_subset(subset_name(subset)) == subset
    assert [sequence for sequence, there in zip(SEQUENCES, presence(subset)) if there] == list(subset)


def test_a_subset_is_written_in_channel_order_however_it_is_given() -> None:
    assert subset_name(["T1ce", "FLAIR"]) == "FLAIR+T1ce"
    assert parse_subset("t2, t1CE flair") == ("FLAIR", "T1ce", "T2")
    assert presence({"T2", "T1"}) == (False, True, False, True)


@pytest.mark.parametrize("text", ["", "  ", "+", "T3", "FLAIR+T1c", "T1-T2"])
def test_what_is_no_subset_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="in the subset"):
        parse_subset(text)


def test_a_misspelt_sequence_in_code_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="flair"):
        in_channel_order(["flair"])


@pytest.mark.parametrize("name", FLAIR_NAMES)
def test_a_name_of_a_flair_is_recognised(name: str) -> None:
    assert recognise_name(name).sequence == "FLAIR", recognise_name(name).reason


@pytest.mark.parametrize("name", T1_NAMES)
def test_a_name_of_a_t1_is_recognised(name: str) -> None:
    assert recognise_name(name).sequence == "T1", recognise_name(name).reason


@pytest.mark.parametrize("name", T1CE_NAMES)
def test_a_name_of_a_t1_with_contrast_agent_is_recognised(name: str) -> None:
    assert recognise_name(name).sequence == "T1ce", recognise_name(name).reason


@pytest.mark.parametrize("name", T2_NAMES)
def test_a_name_of_a_t2_is_recognised(name: str) -> None:
    assert recognise_name(name).sequence == "T2", recognise_name(name).reason


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_mask_or_another_kind_of_image_is_none_of_the_four(name: str) -> None:
    recognition = recognise_name(name)
    assert recognition.sequence is None, recognition.reason
    assert recognition.excluded
    assert recognition.reason


@pytest.mark.parametrize("name", UNDECIDED_NAMES)
def test_an_ambiguous_or_empty_name_stays_undecided(name: str) -> None:
    recognition = recognise_name(name)
    assert recognition.sequence is None, recognition.reason
    assert not recognition.excluded
    assert recognition.reason


def test_the_ending_of_a_file_does_not_matter() -> None:
    for ending in (".nii", ".nii.gz", ".NII.GZ", ".nrrd", ".nhdr", ".mha", ".mhd", ""):
        assert recognise_name("x_t1ce" + ending).sequence == "T1ce"


def test_a_channel_number_is_not_guessed_and_the_reason_says_why() -> None:
    assert "channel number" in recognise_name("BRATS_001_0002.nii.gz").reason


# Headers of real series: TE, TR, TI in ms. Sources: the BRAINIX study, vendors' default protocols.
SE_T1 = {"0018,0081": "10.0", "0018,0080": "450", "0018,0020": "SE"}
MPRAGE = {
    "0018,0081": "2.98",
    "0018,0080": "2300",
    "0018,0082": "900",
    "0018,0020": "GR\\IR",
    "0018,0021": "SK\\SP\\MP",
    "0018,0023": "3D",
}
BRAVO = {"0018,0081": "3.2", "0018,0080": "8.2", "0018,0082": "450", "0018,0020": "GR", "0018,0023": "3D"}
TSE_T2 = {"0018,0081": "100", "0018,0080": "4450", "0018,0020": "SE"}
T2_FLAIR = {"0018,0081": "100", "0018,0080": "9000", "0018,0082": "2500", "0018,0020": "IR"}
SPACE_FLAIR = {"0018,0081": "388", "0018,0080": "5000", "0018,0082": "1800", "0018,0020": "SE\\IR"}
T1_FLAIR = {"0018,0081": "10", "0018,0080": "2500", "0018,0082": "860", "0018,0020": "SE\\IR"}
DWI = {"0018,0081": "90", "0018,0080": "6000", "0018,0020": "EP"}
T2_STAR = {"0018,0081": "20", "0018,0080": "28", "0018,0020": "GR", "0018,0023": "3D"}
TOF = {"0018,0081": "3.5", "0018,0080": "22", "0018,0020": "GR", "0018,0023": "3D"}
PROTON_DENSITY = {"0018,0081": "20", "0018,0080": "3000", "0018,0020": "SE"}
STIR = {"0018,0081": "60", "0018,0080": "4000", "0018,0082": "150", "0018,0020": "IR"}


@pytest.mark.parametrize(
    ("timing", "sequence"),
    [
        (SE_T1, "T1"),
        (MPRAGE, "T1"),
        (BRAVO, "T1"),
        (T1_FLAIR, "T1"),
        (TSE_T2, "T2"),
        (T2_FLAIR, "FLAIR"),
        (SPACE_FLAIR, "FLAIR"),
        (DWI, None),
        (T2_STAR, None),
        (TOF, None),
        (PROTON_DENSITY, None),
        (STIR, None),
        ({}, None),
        ({"0018,0081": "nonsense", "0018,0080": ""}, None),
    ],
)
def test_a_series_without_a_name_is_recognised_by_its_timing_or_not_at_all(
    timing: dict[str, str], sequence: str | None
) -> None:
    assert recognise_dicom(timing).sequence == sequence
    assert recognise_dicom({**timing, "0008,103e": "Series 4"}).sequence == sequence


def test_a_header_may_be_keyed_as_simpleitk_does_and_padded_as_dicom_does() -> None:
    assert recognise_dicom({"0008|103E": "AX T2 FLAIR ", "0008|0060": "MR\0"}).sequence == "FLAIR"


def test_the_description_decides_before_the_protocol_the_folder_and_the_timing() -> None:
    names = {"0008,103e": "AX T2", "0018,1030": "T1_SE"}
    assert recognise_dicom(names, "flair").sequence == "T2"
    assert recognise_dicom({**names, "0008,103e": "Series 4"}, "flair").sequence == "T1"
    assert recognise_dicom({"0008,103e": "Series 4"}, "flair").sequence == "FLAIR"
    assert recognise_dicom({"0008,103e": "Series 4", **TSE_T2}, "").sequence == "T2"


@pytest.mark.parametrize("agent", ["Gadovist", "10ml DOTAREM", "Yes", "Y"])
def test_t1_with_a_contrast_tag_is_t1ce(agent: str) -> None:
    assert recognise_dicom({"0008,103e": "t1_mprage_sag", "0018,0010": agent, **MPRAGE}).sequence == "T1ce"
    assert recognise_dicom({"0018,0010": agent, **MPRAGE}).sequence == "T1ce"
    assert recognise_dicom({"0008,103e": "AX T2", "0018,0010": agent, **TSE_T2}).sequence == "T2"
    assert recognise_dicom({"0008,103e": "AX FLAIR", "0018,0010": agent, **T2_FLAIR}).sequence == "FLAIR"


@pytest.mark.parametrize(
    "agent", ["", "NO", "None", "without contrast", "0", "No IV contrast", "NONE GIVEN", "W/O", "-", "unknown"]
)
def test_a_contrast_tag_that_denies_contrast_leaves_t1(agent: str) -> None:
    assert recognise_dicom({"0008,103e": "AX T1", "0018,0010": agent}).sequence == "T1"


def test_a_description_with_contrast_needs_no_contrast_tag() -> None:
    assert recognise_dicom({"0008,103e": "AX T1 POST", **SE_T1}).sequence == "T1ce"
    assert recognise_dicom({"0008,103e": "AX T1", "0018,1030": "T1 SE GD", **SE_T1}).sequence == "T1ce"


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"0008,103e": "AX T2", **SE_T1}, "says T2.*says T1"),
        ({"0008,103e": "AX T1", **TSE_T2}, "says T1.*says T2"),
        ({"0008,103e": "AX FLAIR", **T1_FLAIR}, "says FLAIR.*says T1"),
        ({"0008,103e": "AX T2", **T2_FLAIR}, "says T2.*says FLAIR"),
        ({"0008,103e": "AX T2", **DWI}, "says T2.*echo-planar"),
        ({"0008,103e": "t2_tirm_cor_fs", **T2_FLAIR, "0018,0082": "170"}, "says FLAIR.*says STIR"),
        ({"0008,103e": "T1 pre contrast", "0018,0010": "Gadovist", **SE_T1}, "without contrast agent.*Gadovist"),
    ],
)
def test_a_header_that_contradicts_itself_is_undecided_and_both_sides_are_named(
    tags: dict[str, str], said: str
) -> None:
    recognition = recognise_dicom(tags)
    assert recognition.sequence is None
    assert re.search(said, recognition.reason), recognition.reason


def test_a_flair_whose_header_lost_the_inversion_time_is_still_one() -> None:
    assert recognise_dicom({"0008,103e": "AX FLAIR", **TSE_T2}).sequence == "FLAIR"


@pytest.mark.parametrize(
    "tags",
    [
        {"0008,103e": "T1 MPR", "0008,0008": "DERIVED\\SECONDARY\\MIP"},
        {"0008,103e": "AX T1", "0008,0008": "DERIVED\\PRIMARY\\M\\SUBTRACTION"},
        {"0008,103e": "T2", "0008,0008": "ORIGINAL\\PRIMARY\\LOCALIZER"},
        {"0008,103e": "T1", "0008,0008": "ORIGINAL\\PRIMARY\\P\\ND"},
        {"0008,103e": "T1 HEAD", "0008,0060": "CT"},
        {"0008,103e": "FLAIR", "0008,0060": "SEG"},
        {"0008,103e": "FLAIR_ROI", **T2_FLAIR},
        {"0018,1030": "ep2d_diff", **TSE_T2},
    ],
)
def test_derived_images_other_modalities_and_outlines_are_none_of_the_four(tags: dict[str, str]) -> None:
    recognition = recognise_dicom(tags)
    assert recognition.sequence is None
    assert recognition.excluded


def test_progress_never_runs_backwards_and_stops_on_request() -> None:
    events: list[Event] = []
    stop = [False]
    job = Job(events.append, lambda: stop[0])
    for fraction in (0.2, 0.1, 1.7):
        job.report("read", fraction)
    assert [event.fraction for event in events] == [0.2, 0.2, 1.0]
    stop[0] = True
    with pytest.raises(Cancelled):
        job.report("read", 1.0)
    assert len(events) == 3


def test_a_job_that_nobody_watches_goes_on() -> None:
    Job().report("read", 0.5)


def test_unusable_input_is_a_value_error_for_the_console() -> None:
    assert issubclass(UnusableInput, ValueError)

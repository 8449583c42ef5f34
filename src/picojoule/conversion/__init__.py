"""Conversion of trained analog networks into spiking ones, as passes over one graph."""

from typing import TYPE_CHECKING

from picojoule.conversion.options import ECCOptions
from picojoule.lazy import lazy

if TYPE_CHECKING:
    from picojoule.conversion.by_step import Anytime, accuracy_by_step, anytime
    from picojoule.conversion.charge import closed_form, count_mismatch
    from picojoule.conversion.choice import Choice, Try, choose
    from picojoule.conversion.diagnosis import Diagnosis, LayerDiagnosis, diagnose
    from picojoule.conversion.diffuse import quantise
    from picojoule.conversion.pipeline import Converted, ConvertedLayer, convert

__all__ = [
    "Anytime",
    "Choice",
    "Converted",
    "ConvertedLayer",
    "Diagnosis",
    "ECCOptions",
    "LayerDiagnosis",
    "Try",
    "accuracy_by_step",
    "anytime",
    "choose",
    "closed_form",
    "convert",
    "count_mismatch",
    "diagnose",
    "quantise",
]

__getattr__ = lazy(
    __name__,
    {
        "picojoule.conversion.by_step": ("Anytime", "accuracy_by_step", "anytime"),
        "picojoule.conversion.charge": ("closed_form", "count_mismatch"),
        "picojoule.conversion.choice": ("Choice", "Try", "choose"),
        "picojoule.conversion.diagnosis": ("Diagnosis", "LayerDiagnosis", "diagnose"),
        "picojoule.conversion.diffuse": ("quantise",),
        "picojoule.conversion.pipeline": ("Converted", "ConvertedLayer", "convert"),
    },
)

"""Submodular functions over the rows of a feature matrix, to be maximised by
:func:`smartdpp.greedy.maximize`."""

from smartdpp.functions.facility_location import FacilityLocation
from smartdpp.functions.graph_cut import GraphCut
from smartdpp.functions.logdet import LogDet
from smartdpp.functions.mutual_information import FLQMI, FLVMI, GCMI

__all__ = ["FLQMI", "FLVMI", "GCMI", "FacilityLocation", "GraphCut", "LogDet"]

"""Destinations: the ad APIs that take conversions, one file each."""

from kit.destinations.adroll import AdRoll as AdRoll
from kit.destinations.base import Destination as Destination
from kit.destinations.holdout import Holdout as Holdout
from kit.destinations.rockerbox import Rockerbox as Rockerbox
from kit.destinations.rokt import Rokt as Rokt
from kit.destinations.rokt import RoktAudience as RoktAudience
from kit.destinations.rokt import RoktDeletion as RoktDeletion

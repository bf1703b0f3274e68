"""Rokt's surfaces: events in their three generations, audiences, data deletion. One file each."""

from kit.destinations.rokt.audience import RoktAudience as RoktAudience
from kit.destinations.rokt.deletion import RoktDeletion as RoktDeletion
from kit.destinations.rokt.destination import Rokt as Rokt

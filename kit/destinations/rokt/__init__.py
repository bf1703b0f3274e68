"""Rokt's surfaces: events in their three generations, audiences, data deletion. One file each."""

from kit.destinations.rokt.destination import Rokt as Rokt

"""The three vendors on this machine, for tests and for a first look: they judge by their own reading of the contracts.

Nothing here imports what it judges.
"""

from kit.sandbox.adroll import AdRoll as AdRoll
from kit.sandbox.record import Event as Event
from kit.sandbox.record import Received as Received
from kit.sandbox.record import Refusal as Refusal
from kit.sandbox.rockerbox import Rockerbox as Rockerbox
from kit.sandbox.rokt import Rokt as Rokt
from kit.sandbox.server import Addresses as Addresses
from kit.sandbox.server import Credentials as Credentials
from kit.sandbox.server import Sandbox as Sandbox
from kit.sandbox.vendor import Settings as Settings
from kit.sandbox.vendor import Vendor as Vendor

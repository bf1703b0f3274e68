"""The vendors on this machine, for tests and for a first look: they judge by their own reading of the contracts.

No vendor here imports what it judges.
"""

from kit.sandbox.adroll import AdRoll as AdRoll
from kit.sandbox.credentials import Addresses as Addresses
from kit.sandbox.credentials import Credentials as Credentials
from kit.sandbox.record import Event as Event
from kit.sandbox.record import Received as Received
from kit.sandbox.record import Refusal as Refusal
from kit.sandbox.rockerbox import Rockerbox as Rockerbox
from kit.sandbox.rokt import Rokt as Rokt
from kit.sandbox.rokt_audience import RoktAudience as RoktAudience
from kit.sandbox.rokt_conversions import RoktConversions as RoktConversions
from kit.sandbox.rokt_deletions import Erasure as Erasure
from kit.sandbox.rokt_deletions import RoktDeletions as RoktDeletions
from kit.sandbox.rokt_postback import RoktPostback as RoktPostback
from kit.sandbox.rokt_token import RoktToken as RoktToken
from kit.sandbox.server import Sandbox as Sandbox
from kit.sandbox.settings import Settings as Settings
from kit.sandbox.tally import View as View
from kit.sandbox.vendor import Vendor as Vendor

"""Whether a visitor's data may be kept and sent: GPC, the shop's own rule, consent strings and consent managers.

Values in, values out.
"""

from kit.consent.gpp import Gpp as Gpp
from kit.consent.managers import Cookiebot as Cookiebot
from kit.consent.managers import Didomi as Didomi
from kit.consent.managers import OneTrust as OneTrust
from kit.consent.policy import COOKIE as COOKIE
from kit.consent.policy import ConsentPolicy as ConsentPolicy
from kit.consent.signals import ConsentRule as ConsentRule
from kit.consent.signals import Signals as Signals
from kit.consent.tcf import Tcf as Tcf
from kit.consent.us_privacy import UsPrivacy as UsPrivacy
from kit.consent.weighing import told_of as told_of
from kit.consent.weighing import weigh as weigh

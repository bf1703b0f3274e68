"""Attribution Kit: ad clicks in, reported orders out."""

from kit.capture import visitor_of as visitor_of
from kit.errors import ConfigurationError as ConfigurationError
from kit.errors import InvalidInput as InvalidInput
from kit.errors import KitError as KitError
from kit.errors import StoreFull as StoreFull
from kit.errors import StoreUnavailable as StoreUnavailable
from kit.kit import Kit as Kit
from kit.model import Conversion as Conversion
from kit.model import Item as Item
from kit.model import Reported as Reported
from kit.store.limits import Limits as Limits
from kit.store.quarantine import Quarantine as Quarantine
from kit.store.retention import Retention as Retention

from_env = Kit.from_env

__version__ = "0.1.0"

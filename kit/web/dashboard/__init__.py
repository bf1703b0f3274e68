"""The dashboard: what arrived, what was sent, what vendors said, why something was not sent, and to send it again."""

from kit.web.dashboard.app import dashboard as dashboard

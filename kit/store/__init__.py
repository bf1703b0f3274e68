"""What must outlive the process: visitors, orders, events and the outbox. SQL is known here and nowhere else."""

from kit.store.store import Store as Store

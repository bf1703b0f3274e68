"""Crawlers, by the maintained list `crawler-user-agents`. A bot gets pages like everyone, and no cookie."""

from functools import lru_cache

from crawleruseragents import is_crawler

#: What is kept of a User-Agent, and what is looked at.
LONGEST_AGENT = 512


@lru_cache(maxsize=4096)
def is_bot(user_agent: bytes) -> bool:
    """Return whether this User-Agent header is a known crawler's. Callers cut it to `LONGEST_AGENT` first."""
    return bool(is_crawler(user_agent.decode("latin-1")))

"""Runs a piece of work and prints what this process spent on it, as JSON for the benchmark that started it."""

import json
import resource
import time
from contextlib import contextmanager


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def spent(**facts):
    """Print seconds of the wall and of the processor, and the facts as they stand at the end."""
    began, before = time.perf_counter(), cpu()
    yield facts
    print(json.dumps({"wall": time.perf_counter() - began, "cpu": cpu() - before, **facts}), flush=True)

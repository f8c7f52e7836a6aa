"""Where and with what a benchmark ran: the processor, and the version of a package."""
import os, platform, re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def installed(name):
    try: return version(name)
    except PackageNotFoundError: return None


def processor():
    found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text()) if Path('/proc/cpuinfo').exists() else None
    return f'{os.cpu_count()} cores, {found[1] if found else platform.processor() or platform.machine()}'

"""Random inputs by the thousand; a skipped test fails the run unless `allowed_skips.txt` names it and says why."""
import fnmatch, os, pathlib

from hypothesis import HealthCheck, settings

ALLOWED = [line.split(': ', 1)[0].strip() for line in (pathlib.Path(__file__).parent/'allowed_skips.txt').read_text().splitlines()
           if line.strip() and not line.startswith('#')]
skipped = []
settings.register_profile('executors', deadline=None, derandomize='MTD_FUZZ' not in os.environ, suppress_health_check=list(HealthCheck),
                          max_examples=int(os.environ.get('MTD_FUZZ', 2000)), print_blob=True)
settings.load_profile('executors') # a test that says no number of its own takes this many inputs, the same ones each time unless MTD_FUZZ is set


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, 'wasxfail'): skipped.append(report.nodeid)


def pytest_collectreport(report):
    if report.skipped: skipped.append(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    surprising = [n for n in skipped if not any(fnmatch.fnmatch(n.split('::', 1)[0].rsplit('/', 1)[-1] + '::' + n.split('::', 1)[-1], a) for a in ALLOWED)]
    if surprising and exitstatus == 0:
        session.exitstatus = 1
        print('\nskipped, and tests/allowed_skips.txt does not say why:', *surprising, sep='\n  ')

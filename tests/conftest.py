"""A skipped test fails the run unless `allowed_skips.txt` names it and says why."""
import fnmatch, pathlib

ALLOWED = [line.split(':', 1)[0].strip() for line in (pathlib.Path(__file__).parent/'allowed_skips.txt').read_text().splitlines()
           if line.strip() and not line.startswith('#')]
skipped = []


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, 'wasxfail'): skipped.append(report.nodeid)


def pytest_collectreport(report):
    if report.skipped: skipped.append(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    surprising = [n for n in skipped if not any(fnmatch.fnmatch(n.split('::', 1)[0].rsplit('/', 1)[-1] + '::' + n.split('::', 1)[-1], a) for a in ALLOWED)]
    if surprising and exitstatus == 0:
        session.exitstatus = 1
        print('\nskipped, and tests/allowed_skips.txt does not say why:', *surprising, sep='\n  ')

"""The project around the package: notebooks and package in step, environments in agreement, data as its manifest says."""
import hashlib, json, os, re, shutil, subprocess, sys, zipfile
from pathlib import Path

import pytest
import yaml

from mtd.core import project_root

ROOT = project_root()
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))


def load(path): return json.loads(path.read_text(encoding='utf-8'))


def test_package_is_what_the_notebooks_export(tmp_path):
    copy = tmp_path/'project'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns('.venv', 'runs', '.git', '__pycache__', 'mtd'))
    (copy/'mtd').mkdir()
    hand = ('__init__.py', 'py.typed')
    for name in hand: shutil.copy(ROOT/'mtd'/name, copy/'mtd'/name)
    done = subprocess.run([str(Path(sys.executable).parent/'nbdev-export')], cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    def files(base): return {p.name: p.read_text() for p in (base/'mtd').glob('*') if p.is_file()}
    made, stands = files(copy), files(ROOT)
    assert set(made) == set(stands), 'a module without a notebook, or a notebook that was not exported'
    assert [n for n in made if made[n] != stands[n]] == [], 'run nbdev-export'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(path):
    nb, name = load(path), path.stem
    first = ''.join(nb['cells'][0]['source'])
    assert nb['cells'][0]['cell_type'] == 'markdown' and re.match(r'# .+\n\n> .+', first), 'a title, then a promise'
    tagged = [c for c in nb['cells'] if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1
    source = ''.join(tagged[0]['source'])
    assert re.search(r'^profile = "lab"  # ', source, flags=re.M) and 'export' not in source
    assert any('from_notebook(globals())' in ''.join(c['source']) for c in nb['cells']), 'unknown parameters would only be warned of'
    assert all(len(''.join(c['source']).splitlines()) <= 30 for c in nb['cells'] if c['cell_type'] == 'code'), 'a cell of more than 30 lines'
    assert all(c.get('id') for c in nb['cells']) and len({c['id'] for c in nb['cells']}) == len(nb['cells'])
    assert not [o for c in nb['cells'] for o in c.get('outputs', []) if o['output_type'] == 'error'] and 'widgets' not in nb['metadata']
    assert name == 'index' or any('Summary' in ''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'markdown')


def test_parameters_repeat_no_default_of_the_settings():
    from dataclasses import fields
    from mtd.settings import Settings
    keys = {f.name for f in fields(Settings)} - {'profile'}
    for path in NOTEBOOKS:
        for c in load(path)['cells']:
            if 'parameters' in c['metadata'].get('tags', []):
                names = set(re.findall(r'^(\w+)\s*(?::.*)?=', ''.join(c['source']), flags=re.M))
                assert not names & keys, f'{path.name} repeats {names & keys}'


def test_nbdev_clean_keeps_the_parameters_tag(tmp_path):
    copy = tmp_path/'project'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns('.venv', 'runs', '.git', '__pycache__'))
    done = subprocess.run([str(Path(sys.executable).parent/'nbdev-clean')], cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for path in sorted((copy/'nbs').glob('*.ipynb')):
        tags = [t for c in load(path)['cells'] for t in c['metadata'].get('tags', [])]
        assert tags.count('parameters') == 1, f'{path.name}: nbdev-clean took the tag, and papermill would run the defaults'


def constraints():
    lines = (ROOT/'constraints.txt').read_text().splitlines()
    return {re.sub(r'[-_.]+', '-', n).lower(): v for n, v in (line.split('==') for line in lines if '==' in line)}


def test_environment_installs_the_project_under_the_same_constraints():
    env = yaml.safe_load((ROOT/'environment.yml').read_text())
    pip = next(d['pip'] for d in env['dependencies'] if isinstance(d, dict))
    assert pip == ['-c constraints.txt', '-e .[dev]'] and "-c constraints.txt -e '.[dev]'" in (ROOT/'Makefile').read_text()
    python = next(d for d in env['dependencies'] if isinstance(d, str) and d.startswith('python='))
    workflow = yaml.safe_load((ROOT/'.github/workflows/test.yml').read_text())
    tested = workflow['jobs']['test']['strategy']['matrix']['python']
    declared = re.findall(r'Python :: (3\.\d+)', (ROOT/'pyproject.toml').read_text())
    assert python.split('=')[1] in tested == declared
    assert [s['run'] for s in workflow['jobs']['test']['steps'] if 'run' in s][0] == 'make test' in (ROOT/'.ci/run').read_text()
    others = [d for d in env['dependencies'] if isinstance(d, str) and not d.startswith('python=')]
    assert others == ['pip'], 'versions stand in constraints.txt alone'


def test_constraints_pin_every_dependency_and_are_what_is_installed():
    from importlib.metadata import requires, version
    from packaging.requirements import Requirement
    pinned = constraints()
    for r in map(Requirement, requires('mtd')):
        name = re.sub(r'[-_.]+', '-', r.name).lower()
        assert name in pinned, f'{name} is not pinned'
        assert r.specifier.contains(pinned[name]) and version(name).split('+')[0] == pinned[name]


def test_readme_is_the_index_notebook():
    import refresh
    text, pictures = refresh.readme()
    assert (ROOT/'README.md').read_text(encoding='utf-8') == text, 'run: python tests/refresh.py readme'
    assert pictures and all((ROOT/name).read_bytes() == data for name, data in pictures.items())
    assert {p.name for p in (ROOT/'nbs'/'images').glob('readme_*')} == {Path(name).name for name in pictures}, 'a picture that README does not show'
    for target in re.findall(r'\]\((?!http)([^)#]+)\)', text): assert (ROOT/target).exists(), f'README links to {target}, which is not there'
    for command in ('make run', 'make test', "pip install -c constraints.txt -e '.[dev]'"): assert command in text


def test_no_local_path_or_registry_in_tracked_files():
    files = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    names = [n for n in files.stdout.split('\0') if n] or [str(p.relative_to(ROOT)) for p in ROOT.rglob('*.py')]
    assert len(names) > 10
    home = re.escape(str(ROOT.parent)) if len(ROOT.parts) > 2 else '$^'
    bad = [n for n in names if (ROOT/n).is_file() and re.search(home + r'/|index-url|' + re.escape(str(Path.home())) + '/', (ROOT/n).read_text(errors='ignore'))
           and n != 'tests/test_project.py']
    assert bad == []


def test_data_is_as_its_manifest_says():
    manifest = load(ROOT/'data'/'MANIFEST.json')
    found = {str(p.relative_to(ROOT/'data')): hashlib.sha256(p.read_bytes()).hexdigest()
             for p in sorted((ROOT/'data').rglob('*')) if p.is_file() and p.name != 'MANIFEST.json'}
    assert {k: v['sha256'] for k, v in manifest.items()} == found
    assert all(v['what'] for v in manifest.values())


def test_wheel_carries_what_a_run_needs(tmp_path):
    source, site, empty = tmp_path/'source', tmp_path/'site', tmp_path/'empty'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.venv', 'runs', '.git', '__pycache__'))
    empty.mkdir()
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', str(tmp_path), str(source)], check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as wheel: wheel.extractall(site)
    shutil.rmtree(source)
    code = ('import mtd.core as c, mtd.run, mtd.settings, mtd.prompting as p; assert "site" in c.__file__; '
            'print(c.project_root(), mtd.settings.load("smoke").profile, len(mtd.run.pipeline()), len(p.demonstrations("eot")), c.find_file("data/prices.json").exists())')
    env = {k: v for k, v in os.environ.items() if k != 'MTD_DATA'} | {'PYTHONPATH': str(site)}
    done = subprocess.run([sys.executable, '-c', code], cwd=empty, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ['None', 'smoke', str(len([p for p in NOTEBOOKS if p.name[:2].isdigit()])), '9', 'True'], done.stderr
    ran = subprocess.run([sys.executable, '-m', 'mtd.cli', 'run', '--profile', 'smoke', '--notebooks', '02'], cwd=empty, env=env, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0 and (empty/'runs'/'smoke'/'notebooks'/'02_prompting.ipynb').exists(), ran.stderr[-3000:]


def test_import_is_light():
    code = 'import sys, time; t = time.perf_counter(); import mtd; t = time.perf_counter() - t; print(t, "torch" in sys.modules, "numpy" in sys.modules)'
    seconds, torch, numpy = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert (torch, numpy) == ('False', 'False')

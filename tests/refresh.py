"""Execute notebooks in place with their own defaults (the `lab` profile), write the manifest of `data/` and README.md from `nbs/index.ipynb`.

`python tests/refresh.py` does all, `python tests/refresh.py 04_equations` one notebook, `python tests/refresh.py readme` none."""
import hashlib, json, re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WHAT = {'demonstrations/': 'worked examples of a thought, written by this project', 'problems/': 'problems of our own in the schema of a benchmark',
        'prices': 'public list prices of teacher models, with the date they were read', 'recorded': 'completions of our own, in the schema of recorded ones'}


def write_manifest():
    "data/MANIFEST.json: a checksum of each file and what it is."
    found = {str(p.relative_to(ROOT/'data')): p for p in sorted((ROOT/'data').rglob('*')) if p.is_file() and p.name != 'MANIFEST.json'}
    manifest = {name: dict(sha256=hashlib.sha256(p.read_bytes()).hexdigest(), what=next(w for k, w in WHAT.items() if name.startswith(k)))
                for name, p in found.items()}
    (ROOT/'data'/'MANIFEST.json').write_text(json.dumps(manifest, indent=1) + '\n')


def refresh(path):
    "Execute one notebook in place and keep nothing in its metadata that changes between runs."
    subprocess.run([sys.executable, '-m', 'jupyter', 'nbconvert', '--to', 'notebook', '--execute', '--inplace', '--ExecutePreprocessor.timeout=7200',
                    '--ExecutePreprocessor.record_timing=False', str(path)], check=True)
    nb = json.loads(path.read_text(encoding='utf-8'))
    nb['metadata'] = dict(kernelspec=dict(display_name='python3', language='python', name='python3'), language_info=dict(name='python'))
    for cell in nb['cells']:
        cell['metadata'] = {k: v for k, v in cell['metadata'].items() if k == 'tags'}
        for out in cell.get('outputs', []): out.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
        if cell['cell_type'] == 'code':
            cell['outputs'] = [o for o in cell['outputs'] if not (o['output_type'] == 'stream' and o['name'] == 'stderr')]
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def readme():
    "README.md as text, and its pictures: `nbs/index.ipynb` with the inputs of cells tagged `hide` left out, and links that start at the project's root."
    from nbconvert import MarkdownExporter
    from traitlets.config import Config
    config = Config({'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': ['hide']}, 'ExtractOutputPreprocessor': {'output_filename_template': 'readme_{cell_index}{extension}'}})
    text, extra = MarkdownExporter(config=config).from_filename(str(ROOT/'nbs'/'index.ipynb'), {'output_files_dir': 'nbs/images'})
    text = re.sub(r'\]\((?!http|nbs/)([\w/]+\.ipynb)\)', r'](nbs/\1)', text)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', extra['outputs']


def write_readme():
    "README.md and nbs/images."
    text, pictures = readme()
    (ROOT/'README.md').write_text(text, encoding='utf-8')
    for old in (ROOT/'nbs'/'images').glob('readme_*'): old.unlink()
    for name, data in pictures.items():
        (ROOT/name).parent.mkdir(exist_ok=True)
        (ROOT/name).write_bytes(data)


if __name__ == '__main__':
    write_manifest()
    names = [n for n in sys.argv[1:] if n != 'readme']
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        if path.stem in names or len(sys.argv) == 1: refresh(path)
    write_readme()

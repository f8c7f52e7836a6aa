"""Execute every notebook in place with its own defaults (the `lab` profile) and write the manifest of `data/`. Called by `make notebooks`."""
import hashlib, json, subprocess, sys
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


if __name__ == '__main__':
    write_manifest()
    names = sys.argv[1:]
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        if not names or path.stem in names: refresh(path)

"""Keep the figures of a finished run in `benchmarks/results/<profile>.json`: `python benchmarks/save.py gsm8k [key=value ...]`.

Of a study, the newest results, in `benchmarks/results/study_<name>.json`: `python benchmarks/save.py study:data_scale`"""
import json, sys
from pathlib import Path

from mtd.core import write_atomic
from mtd.run import Run, report_data
from mtd.settings import load, parse_overrides

KEPT = ('command', 'settings', 'parameters', 'versions', 'seconds', 'summary', 'yields', 'cost', 'examples_trained', 'scores')

if __name__ == '__main__':
    if sys.argv[1].startswith('study:'):
        name = sys.argv[1].removeprefix('study:')
        results = json.loads((Path('runs')/'studies'/name/'results.json').read_text())
        print(write_atomic(Path(__file__).parent/'results'/f'study_{name}.json', json.dumps(results, separators=(',', ':')) + '\n'))
        sys.exit()
    data = report_data(Run(load(sys.argv[1], parse_overrides(sys.argv[2:]))), votes=False)
    excluded = {name: len(rows) for name, rows in data['summary']['excluded'].items()}
    leaked = {name: len(ids) for name, ids in data['summary']['leaked'].items()}
    kept = {k: data[k] for k in KEPT} | {'summary': data['summary'] | dict(excluded=excluded, leaked=leaked)}
    path = Path(__file__).parent/'results'/f'{sys.argv[1]}.json'
    write_atomic(path, json.dumps(kept, indent=1) + '\n')
    print(path)

"""The lab student, trained from nothing once for each seed and scored, written to `benchmarks/results/lab.json`: `python benchmarks/lab.py 0 1 2`.

A seed draws the first weights and the order of the batches; problems, thoughts and test stories are the profile's. What stands under `runs/` of the stages before is used, the student is trained anew.
Its seconds are the processor's, on one thread, and hold all of the stage: tokens, training, each look at the dev split, checkpoints."""
import json, os, shutil, sys, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
from mtd.core import write_atomic
from mtd.run import Run, report_data
from mtd.settings import load


KEPT = ('n', 'thoughts', 'combinations', 'oracle') # of a test set's scores

def of_seed(seed):
    "The figures of one student."
    run = Run(load('lab', dict(student_seed=seed)), newest=False)
    run.artifact('examples')
    for name in ('student', '.student.partial'): shutil.rmtree(run.folder/name, ignore_errors=True)
    for other in run.root.glob('lab-*/student'): # a student of the same recipe would be taken, and nothing measured
        if json.loads((other/'manifest.json').read_text())['digest'] == run.digest('student'): shutil.rmtree(other)
    began = time.process_time()
    record = run.read('student', 'student.json')
    seconds = time.process_time() - began
    shown = report_data(run, votes=False)
    return shown, dict(seed=seed, processor_seconds=round(seconds, 1), **{k: record[k] for k in ('steps', 'best_step', 'tokens', 'padding', 'dev_loss', 'dropped')},
                       chosen=shown['scores']['chosen'], scores={name: {k: one[k] for k in KEPT} for name, one in shown['scores']['sets'].items()})


if __name__ == '__main__':
    students = []
    for seed in map(int, sys.argv[1:] or ['0']):
        shown, found = of_seed(seed)
        students.append(found)
        print(seed, f'{found["processor_seconds"]:.0f} s', {name: {t: f'{s["accuracy"]:.1%}' for t, s in one['thoughts'].items()} for name, one in found['scores'].items()}, flush=True)
    settings = {k: v for k, v in shown['settings'].items() if k not in ('student_seed', 'data')}
    found = dict(command='python benchmarks/lab.py ' + ' '.join(sys.argv[1:]), settings=settings, parameters=shown['parameters'], examples_trained=shown['examples_trained'],
                 yields=shown['yields'], students=students, versions=shown['versions'])
    print(write_atomic(Path(__file__).parent/'results'/'lab.json', json.dumps(found, indent=1, ensure_ascii=False) + '\n'))

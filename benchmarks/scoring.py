"""Answers a second of `mtd.generation.generate` beside plain `model.generate` on 32 rows in the order of the data, written to `benchmarks/results/scoring.json`.

`python benchmarks/scoring.py STUDENT_FOLDER [n]`, a student of the `lab` profile (`runs/lab/student`), measures that student, a T5 of the table
`STUDENTS` trained on the same examples for as long as it takes to stop by itself, and on a GPU (`--device cuda`) CodeT5-base's shape with random
weights, in bf16, where every answer ends at a length drawn from a log-normal around 90 tokens, at most 256, as GSM8K's solutions have it.
On a processor the time is the processor's, one thread unless `--threads` says otherwise, since other work may go on beside it; on a GPU it is the wall's. A and B alternate; each round gives a ratio. An answer that differs is a tie where, at the first token that differs, the two tokens' logits
in a pass of the whole text alone, in fp32, are nearer than rounding moves them; all others are errors and are counted as such."""
import argparse, json, os, platform, random, statistics, tempfile, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
import torch

from mtd import core, generation
from mtd.generation import load_student, quiet_transformers
from mtd.lab import lab_stories
from mtd.prompting import student_input

from machine import installed, processor

ROUNDS = 5
NEAR = {torch.float32: 1e-4, torch.bfloat16: 3e-2} # two logits are as good as equal where they differ by less than this share of the largest


def clock(device): # seconds: of the processor where it computes, for other work may go on beside it; of the wall where a GPU does
    if device.type == 'cpu': return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class AtLength:
    "Ends each row at a length of its own: the peer's way to have answers of given lengths."
    def __init__(self, lengths, prompt): self.lengths, self.prompt = lengths, prompt
    def __call__(self, ids, scores, **_): return self.lengths <= ids.shape[1] - self.prompt


def plain(student, inputs, most, size=32, lengths=None):
    "The peer, as its documentation has it: padded on the left for a decoder-only model, batches as they come. Token ids of every answer."
    tokenizer, model, found = student.tokenizer, student.model, []
    tokenizer.padding_side = 'right' if student.encoder_decoder else 'left'
    for at in range(0, len(inputs), size):
        batch = tokenizer(inputs[at:at + size], return_tensors='pt', padding=True).to(model.device)
        batch.pop('token_type_ids', None)
        prompt = 1 if student.encoder_decoder else batch['input_ids'].shape[1]
        ends = lengths and [AtLength(torch.tensor([lengths[t] for t in inputs[at:at + size]], device=model.device), prompt)]
        written = model.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=most, pad_token_id=tokenizer.pad_token_id, stopping_criteria=ends)
        found += [clean(student, ids[:lengths[t]] if lengths else ids) for t, ids in zip(inputs[at:], written[:, prompt:].tolist())]
    return found


def clean(student, ids): # up to its end
    ends = generation._ends(student)
    return ids[:next((i + 1 for i, t in enumerate(ids) if t in ends), len(ids))]


def ours(student, inputs, most, budget, lengths=None):
    "Token ids in the order of the inputs; through `_write_all`, for texts alone would hide which token differs."
    jobs = [replace(j, room=lengths[j.text]) if lengths else j for j in generation._jobs(student, inputs, 1, most)]
    by_text = {job.text: ids for job, ids, *_ in generation._write_all(student, jobs, budget, dict(temperature=0.0, top_p=1.0, seed=0))}
    return [by_text[t] for t in inputs]


def is_tie(student, text, a, b, near):
    "Are the two tokens at which `a` and `b` part as good as equally likely?"
    model, n = student.model, next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
    if n is None: return False # one ends where the other goes on: no token to compare
    before, ids = torch.tensor([a[:n]], device=model.device, dtype=torch.long), student.tokenizer(text, return_tensors='pt')['input_ids'].to(model.device)
    with torch.inference_mode():
        if student.encoder_decoder:
            start = torch.full((1, 1), model.config.decoder_start_token_id, device=model.device)
            logits = model(input_ids=ids, decoder_input_ids=torch.cat([start, before], 1)).logits[0, -1]
        else: logits = model(torch.cat([ids, before], 1)).logits[0, -1]
    return abs(logits[a[n]] - logits[b[n]]).item() < near * logits.abs().max().item()


def measure(name, student, inputs, most, budget, lengths=None, rounds=ROUNDS):
    "One row: medians over the rounds, `low` and `high` the smallest and largest ratio of one."
    device, times, answers = student.model.device, {'peer': [], 'ours': []}, {}
    ways = dict(peer=lambda: plain(student, inputs, most, lengths=lengths), ours=lambda: ours(student, inputs, most, budget, lengths))
    with torch.inference_mode(), quiet_transformers():
        plain(student, inputs[:32], 8); ours(student, inputs[:32], 8, budget) # nothing is loaded late
        for _ in range(rounds):
            for way, run in ways.items():
                began = clock(device)
                found = run()
                times[way].append(clock(device) - began)
                answers[way] = found
    exact = load_student(student.path, device, 'fp32') if student.model.dtype != torch.float32 else student
    differ = [(t, a, b) for t, a, b in zip(inputs, answers['peer'], answers['ours']) if a != b]
    ties = sum(is_tie(exact, t, a, b, NEAR[student.model.dtype]) for t, a, b in differ)
    tokens, median = sum(map(len, answers['ours'])), {k: statistics.median(v) for k, v in times.items()}
    ratios = [p / o for p, o in zip(times['peer'], times['ours'])]
    row = dict(student=name, device=where(device), n=len(inputs), parameters=student.model.num_parameters(), precision=str(student.model.dtype).removeprefix('torch.'),
               max_new_tokens=most, tokens_per_batch=budget, prompt_tokens=sum(map(len, student.tokenizer(inputs)['input_ids'])), tokens=tokens,
               longest=max(map(len, answers['ours'])), peer=len(inputs) / median['peer'], ours=len(inputs) / median['ours'],
               peer_tokens_a_second=tokens / median['peer'], ours_tokens_a_second=tokens / median['ours'],
               ratio=median['peer'] / median['ours'], low=min(ratios), high=max(ratios), rounds=rounds, differ=len(differ), ties=ties)
    row = {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
    print(json.dumps(row), flush=True)
    return row


def where(device): return torch.cuda.get_device_name(device) if device.type == 'cuda' else f'CPU, {torch.get_num_threads()} thread' + 's' * (torch.get_num_threads() > 1)


def steps(student, inputs, most, budget):
    "Where the time goes: the same inputs, one thing after the other."
    order = sorted(inputs, key=lambda t: len(student.tokenizer(t)['input_ids']))
    ways = {'in the order of the data, 32 rows': lambda: plain(student, inputs, most), 'like length, 32 rows': lambda: plain(student, order, most),
            'like length, 256 rows': lambda: plain(student, order, most, 256),
            'our loop, 32 rows of the longest': lambda: ours(student, inputs, most, 32 * (max(map(len, student.tokenizer(inputs)['input_ids'])) + most)),
            'our loop, the whole budget': lambda: ours(student, inputs, most, budget)}
    found = {name: [] for name in ways}
    with torch.inference_mode(), quiet_transformers():
        for _ in range(3):
            for name, way in ways.items():
                began = clock(student.model.device)
                way()
                found[name].append(clock(student.model.device) - began)
    rates = {name: round(len(inputs) / statistics.median(times), 2) for name, times in found.items()}
    print(json.dumps(rates), flush=True)
    return rates


def lab_inputs(n):
    "Questions of all kinds of test story in all thoughts, in the order in which a run scores them."
    stories = [s for kind in ('numbers', 'sequences', 'longer') for s in lab_stories(kind, n // 9, seed=7)]
    return [student_input(thought, s.problem.question) for thought in ('cot', 'pot', 'eot') for s in stories]


def tiny_t5(folder, inputs):
    "A T5 that has learned when to stop."
    from datasets import Dataset, DatasetDict
    from mtd.finetuning import Watching, train_student
    rows = [dict(id=f'{s.problem.id}/{t}', input=student_input(t, s.problem.question), target=text) for s in lab_stories('train', 1500) for t, text in s.gold.items()]
    train_student(DatasetDict(train=Dataset.from_list(rows)), folder, model='scratch-t5', max_steps=400, eval_every=400, warmup=50, learning_rate=5e-3,
                  optimizer='muon', vocab_size=600, tokens_per_batch=3000, watch=Watching(progress=False))
    return folder


def codet5(folder, device, inputs, tokenizer):
    "CodeT5-base's shape with random weights, and a length for each answer: it would never stop by itself."
    from transformers import T5Config, T5ForConditionalGeneration
    config = T5Config(vocab_size=32100, d_model=768, d_ff=3072, d_kv=64, num_layers=12, num_heads=12, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder); tokenizer.save_pretrained(folder)
    student, rng = load_student(folder, device), random.Random(0)
    student.model.generation_config.eos_token_id = [config.vocab_size] # none of the tokens
    lengths = {t: min(256, max(10, round(rng.lognormvariate(4.5, 0.45)))) for t in inputs}
    return measure("CodeT5-base's shape", student, inputs, 256, 1_000_000, lengths)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('student', help="a trained student's folder"); parser.add_argument('n', nargs='?', type=int, default=900)
    parser.add_argument('--device', default='cpu'); parser.add_argument('--threads', type=int, default=1); parser.add_argument('--t5', help='a folder for the T5, kept')
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    path, inputs, rows = Path(__file__).parent/'results'/'scoring.json', lab_inputs(given.n), []
    found = json.loads(path.read_text()) if path.exists() else {}
    student = load_student(given.student, given.device)
    rows.append(measure('lab student', student, inputs, 256, 100_000))
    shares = steps(student, inputs[::4], 256, 100_000)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(given.t5 or home)/'t5'
        if not (folder/'student.json').exists(): tiny_t5(folder, inputs)
        rows.append(measure('T5 of the table', load_student(folder, given.device), inputs, 256, 100_000))
        if given.device.startswith('cuda'): rows.append(codet5(Path(home)/'codet5', given.device, inputs, load_student(folder, 'cpu').tokenizer))
    kept = [r for r in found.get('rows', []) if (r['student'], r['device']) not in {(r['student'], r['device']) for r in rows}]
    found = dict(rows=kept + rows, steps=found.get('steps', {}) | {where(student.model.device): shares}, near={str(k).removeprefix('torch.'): v for k, v in NEAR.items()},
                 command=f'python benchmarks/scoring.py STUDENT_FOLDER {given.n}' + (f' --device {given.device}' if given.device != 'cpu' else ''), machine=processor(),
                 versions={'python': platform.python_version()} | {n: installed(n) for n in ('mtd', 'torch', 'transformers')})
    core.write_atomic(path, json.dumps(found, indent=1) + '\n')
    print(path)


if __name__ == '__main__': main()

"""Real (unpadded) tokens a second of `mtd.finetuning` beside `Seq2SeqTrainer` as it comes, written to `benchmarks/results/finetuning.json`.

`python benchmarks/finetuning.py` measures the lab student and CodeT5-small's shape on a processor; `--device cuda` CodeT5-base's and -large's in bf16 on a GPU, and the gain of
`torch.compile`. The peer pads each batch to its longest row, takes examples in random order, and logs nothing; `group` is the peer with `train_sampling_strategy="group_by_length"`.
Model, data, precision and optimiser are the same, and the peer's batch has as many examples as ours have on average. The three alternate within each repetition, in this process;
a repetition gives a ratio, and the median of them is reported with the lowest and the highest. On a processor time is the processor's, for other work may go on beside it.
`--curves` trains all three for 300 steps under three seeds each, on the lab's stories, and compares their dev losses."""
import argparse, json, os, platform, statistics, sys, tempfile, time
from functools import partial
from pathlib import Path

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
import torch
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from mtd import finetuning as ft
from mtd.batches import batch_cost, lengths_of, plan_batches
from mtd.core import write_atomic
from mtd.devices import in_bf16, matrix_rate
from mtd.lab import lab_stories
from mtd.prompting import student_input
from mtd.settings import fields_of, load
from mtd.tokens import encode, tokenizer_of

from machine import installed, processor

CODET5 = {'small': dict(d_model=512, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8), 'base': dict(d_model=768, d_ff=3072, num_layers=12, num_decoder_layers=12, num_heads=12),
          'large': dict(d_model=1024, d_ff=4096, num_layers=24, num_decoder_layers=24, num_heads=16)}
WARM = 2 # steps that are not timed

def shape(name): # model of STUDENTS, its sizes, examples a batch of the peer has at least, tokens a batch of ours
    if name == 'lab student': return 'scratch-lfm2', fields_of(load('lab').student_config, 'student_config', 'hidden_size:256'), 1000
    return 'scratch-t5', CODET5[name.removeprefix('CodeT5-')] | dict(d_kv=64, vocab_size=32100), 1000 if name.endswith('small') else 16000

def clock(device):
    if device == 'cpu': return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()

class Timer(TrainerCallback):
    "From the end of the warm-up to the last step."
    def __init__(self, device): self.device, self.began, self.ended = device, 0, 0
    def on_step_end(self, args, state, control, **kw):
        if state.global_step == WARM: self.began = clock(self.device)
        if state.global_step == state.max_steps: self.ended = clock(self.device)

class Counted: # a collator that keeps the real and computed tokens of its batches
    def __init__(self, collator): self.collator, self.batches = collator, []
    def __call__(self, rows):
        batch = self.collator(rows)
        labels, ids = batch['labels'], batch['input_ids']
        if 'decoder_input_ids' in batch: real, computed = int(batch['attention_mask'].sum() + (labels != -100).sum()), ids.numel() + labels.numel()
        else: real, computed = int(batch['attention_mask'].sum()), ids.numel()
        self.batches.append((real, computed))
        return batch

# ---- the two ways

def net_of(name, tokenizer, seed=0):
    model, sizes, _ = shape(name)
    net = ft.new_student(model, tokenizer, {k: v for k, v in sizes.items() if k != 'vocab_size'}, seed)
    if 'vocab_size' in sizes: net.resize_token_embeddings(sizes['vocab_size'], mean_resizing=False)
    return net

def ours(name, pairs, tokenizer, folder, args, steps, compile=False, seed=0):
    recipe = dict(learning_rate=args.rate, warmup=10, tokens_per_batch=shape(name)[2], eval_every=10**6, accumulation=1, seed=seed, optimizer='adamw', weight_decay=0.01, loss_mean='tokens', precision='auto',
                  patience=0, compile=compile, gradient_checkpointing=False, fsdp=False, lora_rank=0)
    arguments = ft._arguments(folder, recipe, False)
    arguments.max_steps, arguments.save_strategy = steps, 'no'
    trainer = ft._trainer(net_of(name, tokenizer, seed), tokenizer, folder, recipe, dict(train=ft._Split(pairs)), arguments)
    timer = Timer(args.device)
    trainer.add_callback(timer)
    with ft.quiet_transformers(): trainer.train()
    counts = [trainer.stream.tokens(b) for b, _ in zip(trainer.stream, range(steps))]
    return trainer, timer.ended - timer.began, counts[WARM:]

def theirs(name, pairs, tokenizer, folder, args, steps, sampling='random', seed=0):
    net, size = net_of(name, tokenizer, seed), peer_size(name, pairs)
    double = net.config.is_encoder_decoder
    rows = [dict(input_ids=s.tolist(), labels=t.tolist()) if double else dict(input_ids=[*s.tolist(), *t.tolist()], labels=[-100] * len(s) + t.tolist()) for s, t in pairs]
    collator = Counted(DataCollatorForSeq2Seq(tokenizer, net if double else None))
    arguments = Seq2SeqTrainingArguments(str(folder), max_steps=steps, per_device_train_batch_size=size, learning_rate=args.rate, warmup_steps=10, lr_scheduler_type='linear', weight_decay=0.01,
        adam_beta2=0.98, max_grad_norm=1.0, seed=seed, logging_strategy='no', save_strategy='no', eval_strategy='no', report_to='none', disable_tqdm=True,
        use_cpu=args.device == 'cpu', bf16=in_bf16('auto'), train_sampling_strategy=sampling)
    timer = Timer(args.device)
    trainer = Seq2SeqTrainer(net, arguments, train_dataset=rows, data_collator=collator, callbacks=[timer])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer, timer.ended - timer.began, collator.batches[WARM:steps]

def peer_size(name, pairs): # examples in a batch of the peer: as many as ours have on average
    lengths = lengths_of(pairs, shape(name)[0] == 'scratch-t5')
    return round(len(pairs) / len(plan_batches(lengths, shape(name)[2])))

# ---- what is reported

def speed(result):
    _, seconds, counts = result
    real, computed = map(sum, zip(*counts))
    return real / seconds, 1 - real / computed

def measure(name, pairs, tokenizer, args, steps):
    ways = dict(ours=lambda d: ours(name, pairs, tokenizer, d, args, steps), theirs=lambda d: theirs(name, pairs, tokenizer, d, args, steps),
                group=lambda d: theirs(name, pairs, tokenizer, d, args, steps, 'group_by_length'))
    if args.compile: ways['compiled'] = lambda d: ours(name, pairs, tokenizer, d, args, steps, compile=True)
    found = {k: [] for k in ways}
    flops = 0
    for _ in range(args.repetitions):
        for k, way in ways.items():
            with tempfile.TemporaryDirectory() as d: result = way(Path(d))
            if k == 'ours': flops = result[0].meter.speeds.args[0]
            found[k].append(speed(result))
            print(name, k, f'{found[k][-1][0]:,.0f} real tokens/s, {found[k][-1][1]:.1%} padding', file=sys.stderr, flush=True)
    middle = {k: statistics.median(s for s, _ in v) for k, v in found.items()}
    ratios = lambda k: [a / b for (a, _), (b, _) in zip(found['ours'], found[k])]
    used = 3 * flops * middle['ours'] / matrix_rate(args.device, in_bf16('auto'))
    return dict(shape=name, parameters=net_of(name, tokenizer).num_parameters(), steps=steps, examples_a_batch=peer_size(name, pairs), tokens_per_batch=shape(name)[2],
                ours=middle['ours'], theirs=middle['theirs'], group_by_length=middle['group'], ratio=statistics.median(ratios('theirs')), low=min(ratios('theirs')), high=max(ratios('theirs')),
                ratio_to_group_by_length=statistics.median(ratios('group')), padding_ours=statistics.mean(p for _, p in found['ours']), padding_theirs=statistics.mean(p for _, p in found['theirs']),
                padding_group=statistics.mean(p for _, p in found['group']), utilisation=used,
                **(dict(compiled=statistics.median(a / b for (a, _), (b, _) in zip(found['compiled'], found['ours']))) if args.compile else {}))

def dev_loss(net, pairs, tokenizer): # per taught token
    head, total, tokens = ft._Head(net.eval()), 0.0, 0
    with torch.no_grad():
        for batch in plan_batches(lengths_of(pairs, False), 4000):
            rows = ft.taught_only(ft.collate([pairs[i] for i in batch], tokenizer.pad_token_id), True)
            total += ft._forward(net, head, {k: v.to(net.device) for k, v in rows.items()}).item()
            tokens += len(rows['labels']) - 1
    return total / tokens

def curves(pairs, dev, tokenizer, args, steps=300, seeds=3):
    ways = dict(ours=ours, theirs=theirs, group=partial(theirs, sampling='group_by_length'))
    found = {k: [] for k in ways}
    for seed in range(seeds):
        for k, way in ways.items():
            with tempfile.TemporaryDirectory() as d: trainer, _, counts = way('lab student', pairs, tokenizer, Path(d), args, steps, seed=seed)
            found[k].append(dict(seed=seed, dev_loss=dev_loss(trainer.model, dev, tokenizer), tokens=sum(r for r, _ in counts)))
            print(k, found[k][-1], file=sys.stderr, flush=True)
    return dict(steps=steps, **found)

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--shapes', nargs='+', default=None, help="e.g. 'lab student' CodeT5-base")
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--rate', type=float, default=1e-3)
    parser.add_argument('--compile', action='store_true', help='measure torch.compile too')
    parser.add_argument('--curves', action='store_true')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    if args.device == 'cpu': torch.set_num_threads(args.threads)
    rows = [dict(id=f'{s.problem.id}/{t}', input=student_input(t, s.problem.question), target=text) for s in lab_stories('train', 3000) for t, text in s.gold.items()]
    tokenizer = tokenizer_of(dict(train=rows), 1000, 60)
    pairs = encode(rows, tokenizer)[0]
    where = Path(__file__).parent/'results'/'finetuning.json'
    old = json.loads(where.read_text()) if where.exists() else {}
    names = args.shapes or (['lab student', 'CodeT5-small'] if args.device == 'cpu' else ['lab student', 'CodeT5-base', 'CodeT5-large'])
    device = f'{processor()}, {args.threads} thread' if args.device == 'cpu' else torch.cuda.get_device_name(0)
    made = [measure(n, pairs, tokenizer, args, WARM + (5 if n == 'CodeT5-small' else 30 if args.device == 'cpu' else 100)) for n in names]
    kept = [r for r in old.get('rows', []) if (r['shape'], r['device']) not in {(n, device) for n in names}]
    result = dict(command='python benchmarks/finetuning.py ' + ' '.join(sys.argv[1:]), device=device, precision='bf16' if in_bf16('auto') else 'fp32', repetitions=args.repetitions,
                  matrix_rate=matrix_rate(args.device, in_bf16('auto')), versions={'python': platform.python_version()} | {p: installed(p) for p in ('torch', 'transformers', 'accelerate')},
                  rows=kept + [r | dict(device=device) for r in made], curves=old.get('curves'))
    if args.curves:
        dev = encode([dict(id=f'{s.problem.id}/{t}', input=student_input(t, s.problem.question), target=text) for s in lab_stories('dev', 100) for t, text in s.gold.items()], tokenizer)[0]
        result['curves'] = curves(pairs, dev, tokenizer, args)
    print(write_atomic(where, json.dumps(result, indent=1) + '\n'))

if __name__ == '__main__': main()

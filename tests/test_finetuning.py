"""Training a student: what a lesson has no room for."""
import itertools, json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mtd import finetuning as ft
from mtd.generation import chat_template, load_student

SMALL = dict(model='scratch-llama', sizes=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2), vocab_size=300, warmup=4,
             learning_rate=5e-3, tokens_per_batch=600, max_steps=12, eval_every=4, progress=False)
SMALL_T5 = SMALL | dict(model='scratch-t5', sizes=dict(d_model=32, d_ff=64, d_kv=8))

def rows(n, seed=0, words=6):
    rng = random.Random(seed)
    made = []
    for i in range(n):
        a, b, tail = rng.randint(1, 99), rng.randint(1, 99), ' and so on' * rng.randint(0, words)
        made.append(dict(id=f'{seed}/{i}', input=f'Question: {a} and {b}{tail}?\nsum\n', target=f'x = {a}\nans = x + {b}'))
    return made

@pytest.fixture(scope='module')
def examples():
    from datasets import Dataset, DatasetDict
    return DatasetDict(train=Dataset.from_list(rows(80)), dev=Dataset.from_list(rows(16, seed=1)))

@pytest.fixture(scope='module')
def trained(examples, tmp_path_factory):
    return ft.train_student(examples, tmp_path_factory.mktemp('student')/'one', **SMALL)

def weights(folder): return (Path(folder)/'model.safetensors').read_bytes()

# ---- batches

lengths_strategy = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=120)

@given(lengths_strategy, st.integers(20, 400), st.integers(0, 5), st.booleans())
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_plan_holds_every_example_once_and_keeps_its_budget(lengths, budget, epoch, flat):
    plan = ft.plan_batches(lengths, budget, seed=3, epoch=epoch, flat=flat, pool=4)
    assert sorted(i for b in plan for i in b) == list(range(len(lengths)))
    for b in plan: assert len(b) == 1 or ft.batch_cost([lengths[i] for i in b], flat) <= budget
    assert plan == ft.plan_batches(lengths, budget, seed=3, epoch=epoch, flat=flat, pool=4)

def test_epochs_differ_and_processes_share_one_stream():
    lengths = [(0, n) for n in random.Random(0).choices(range(5, 90), k=200)]
    assert ft.plan_batches(lengths, 300, epoch=0) != ft.plan_batches(lengths, 300, epoch=1)
    take = lambda n, **kw: list(itertools.islice(ft.BatchStream(lengths, 300, **kw), n))
    alone = take(90)
    shared = [take(30, rank=r, world=3) for r in range(3)]
    assert [b for step in zip(*shared) for b in step] == alone

def test_like_lengths_waste_less_than_half_of_what_chance_wastes():
    lengths = [(0, n) for n in random.Random(0).choices(range(20, 300), k=1000)]
    waste = lambda plan: 1 - sum(sum(x) for x in lengths) / sum(ft.batch_cost([lengths[i] for i in b], False) for b in plan)
    chance = random.Random(1).sample(range(1000), 1000)
    assert waste(ft.plan_batches(lengths, 3000)) < 0.5 * waste([chance[i:i + 16] for i in range(0, 1000, 16)])

# ---- tokenizer and encoding

@given(st.text(max_size=200))
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_tokenizer_loses_nothing(tokenizer_of_the_tests, text):
    text = text.replace('<pad>', '').replace('</s>', '')
    ids = tokenizer_of_the_tests(text)['input_ids']
    assert tokenizer_of_the_tests.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text.encode('utf-8', 'replace').decode()

@pytest.fixture(scope='module')
def tokenizer_of_the_tests(): return ft.build_tokenizer([r['input'] + r['target'] for r in rows(50)], 300)

def test_the_tokenizer_is_the_same_every_time_and_splits_digits(tokenizer_of_the_tests):
    again = ft.build_tokenizer([r['input'] + r['target'] for r in rows(50)], 300)
    assert again.get_vocab() == tokenizer_of_the_tests.get_vocab()
    assert [t.strip('Ġ') for t in again.tokenize('x = 1234')][-4:] == list('1234')

def test_a_target_that_holds_a_special_token_is_found_before_training(examples, tmp_path):
    from datasets import Dataset, DatasetDict
    bad = DatasetDict(train=Dataset.from_list(rows(3) + [dict(id='bad', input='q', target='ans = </s> 3')]))
    with pytest.raises(ValueError, match='changes target 3'): ft.train_student(bad, tmp_path/'s', **SMALL)

def test_long_examples_are_dropped_by_name_and_never_cut(examples, tmp_path):
    tokenizer = ft.build_tokenizer([r['input'] + r['target'] for split in ('dev', 'train') for r in examples[split]], SMALL['vocab_size'])
    lengths = {r['id']: len(tokenizer(r['input'])['input_ids']) + len(tokenizer(r['target'])['input_ids']) + 1 for r in examples['train']}
    limit = sorted(lengths.values())[60]
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(max_tokens=limit, max_steps=2)))
    assert result.dropped['train'] == [i for i in lengths if lengths[i] > limit] != []
    with pytest.raises(ValueError, match='every example of train'): ft.train_student(examples, tmp_path/'t', **(SMALL | dict(max_tokens=5)))

# ---- the loss

@pytest.mark.parametrize('model', ['scratch-llama', 'scratch-t5'])
def test_one_batch_of_32_equals_4_accumulated_batches_of_8(model, tokenizer_of_the_tests, tmp_path):
    tokenizer, double = tokenizer_of_the_tests, model == 'scratch-t5'
    from datasets import Dataset
    encoded, _ = ft.encode(Dataset.from_list(rows(200)), tokenizer, double)
    longest = max(len(e['labels']) for e in encoded)
    encoded = sorted(encoded, key=lambda e: len(e['labels']))[:16] + sorted(encoded, key=lambda e: -len(e['labels']))[:16] # unequal on purpose
    seen = {}
    for accumulation in (1, 4):
        settings = dict(SMALL if not double else SMALL_T5, max_steps=1, eval_every=1, accumulation=accumulation)
        recipe = {k: settings.get(k, d) for k, d in dict(SMALL, accumulation=1, seed=0, optimizer='adamw', schedule='linear', weight_decay=.0, adam_beta2=.98, precision='fp32', flat=False, patience=0).items()}
        net = ft.new_student(model, tokenizer, recipe['sizes'])
        args = ft._arguments(tmp_path/f'{model}{accumulation}', recipe, False)
        trainer = ft._trainer(net, tokenizer, tmp_path, recipe, dict(train=encoded), args, False)
        trainer.stream = [list(range(32))] if accumulation == 1 else [list(range(i, i + 8)) for i in range(0, 32, 8)]
        trainer.args.max_steps = 1
        trainer.train()
        seen[accumulation] = [trainer.state.log_history[0][k] for k in ('loss', 'grad_norm')]
    assert seen[1] == pytest.approx(seen[4], rel=1e-4), seen

def test_end_to_end_rows_have_the_loss_and_gradient_of_padded_ones(tokenizer_of_the_tests):
    import torch
    from datasets import Dataset
    encoded, _ = ft.encode(Dataset.from_list(rows(9)), tokenizer_of_the_tests, False)
    found = []
    for flat in (False, True):
        net = ft.new_student('scratch-llama', tokenizer_of_the_tests, dict(hidden_size=32, intermediate_size=64))
        batch = ft.collate(encoded, 0, flat=flat)
        labels = batch.pop('labels')
        loss = ft.summed_loss(net(**batch).logits, labels, True)
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in net.parameters()])))
        if flat: assert batch['input_ids'].shape == (1, sum(len(e['input_ids']) for e in encoded))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-3, rtol=1e-3)

def test_a_run_end_to_end_learns_as_well(examples, tmp_path):
    flat = ft.train_student(examples, tmp_path/'flat', **(SMALL | dict(flat=True, max_steps=24)))
    assert flat.padding == 0 and flat.log[-1]['dev_loss'] < flat.log[0]['dev_loss'] - 0.3
    with pytest.raises(ValueError, match='end to end'): ft.train_student(examples, tmp_path/'t5', **(SMALL_T5 | dict(flat=True)))

def test_a_student_with_convolutions_and_muon_resumes_and_pads_like_any_other(examples, tokenizer_of_the_tests, tmp_path):
    import torch
    settings = SMALL | dict(model='scratch-lfm2', optimizer='muon', sizes=dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2))
    whole = ft.train_student(examples, tmp_path/'whole', **settings)
    assert whole.log[-1]['dev_loss'] < whole.log[0]['dev_loss']
    with pytest.raises(ValueError, match='convolutions'): ft.train_student(examples, tmp_path/'flat', **(settings | dict(flat=True)))
    net, optimiser = ft.new_student('scratch-lfm2', tokenizer_of_the_tests, settings['sizes']), None
    optimiser = ft._muon(net, dict(learning_rate=1e-3, adam_beta2=.98, weight_decay=.01))
    assert sorted(len(g['params']) for g in optimiser.param_groups)[0] > 0 and sum(len(g['params']) for g in optimiser.param_groups) == len(list(net.parameters()))
    encoded, _ = ft.encode(examples['dev'], tokenizer_of_the_tests, False)
    together, alone = ft.collate(encoded, 0), [ft.collate([e], 0) for e in encoded]
    with torch.no_grad(): sums = [ft.summed_loss(net(input_ids=b['input_ids']).logits, b['labels'], True).item() for b in (together, *alone)]
    assert sums[0] == pytest.approx(sum(sums[1:]), rel=1e-4)

# ---- a run

def test_the_same_seed_gives_the_same_weights_and_another_seed_others(examples, trained, tmp_path):
    again = ft.train_student(examples, tmp_path/'again', **SMALL)
    other = ft.train_student(examples, tmp_path/'other', **(SMALL | dict(seed=1)))
    assert weights(again.folder) == weights(trained.folder) != weights(other.folder)

def test_a_finished_run_returns_at_once_and_another_recipe_is_refused(examples, trained):
    before = (trained.folder/'model.safetensors').stat().st_mtime_ns
    again = ft.train_student(examples, trained.folder, **SMALL)
    assert again == trained and (trained.folder/'model.safetensors').stat().st_mtime_ns == before
    with pytest.raises(ValueError, match='learning_rate was 0.005 and is now 0.1'):
        ft.train_student(examples, trained.folder, **(SMALL | dict(learning_rate=0.1)))

def test_the_log_is_a_learning_curve(trained):
    assert [r['step'] for r in trained.log] == [4, 8, 12]
    assert all({'tokens', 'seconds', 'train_loss', 'dev_loss'} <= set(r) for r in trained.log)
    assert [r['tokens'] for r in trained.log] == sorted(r['tokens'] for r in trained.log) and trained.tokens == trained.log[-1]['tokens']
    assert trained.log == [json.loads(line) for line in (trained.folder/'log.jsonl').read_text().splitlines()]

def test_epochs_are_counted_in_steps(examples, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(max_steps=0, epochs=2, eval_every=50)))
    tokens = sum(len(e['input_ids']) for e in ft.encode(examples['train'], load_student(result.folder).tokenizer, False)[0])
    assert result.tokens == pytest.approx(2 * tokens, rel=0.1)

def test_early_stopping_keeps_the_best_weights(examples, tmp_path):
    from datasets import Dataset, DatasetDict
    against = DatasetDict(train=examples['train'], dev=Dataset.from_list([r | dict(target='no no no no') for r in rows(8)]))
    result = ft.train_student(against, tmp_path/'s', **(SMALL | dict(max_steps=60, patience=2, learning_rate=2e-2)))
    scored = {r['step']: r['dev_loss'] for r in result.log}
    assert result.steps == result.best_step + 8 < 60, 'two evaluations without a lower loss, then the end'
    assert result.dev_loss == min(scored.values()) == scored[result.best_step]
    with pytest.raises(ValueError, match='dev split'):
        ft.train_student(DatasetDict(train=examples['train']), tmp_path/'t', **(SMALL | dict(patience=1)))

def test_without_a_dev_split_the_last_weights_are_kept(examples, tmp_path):
    from datasets import DatasetDict
    result = ft.train_student(DatasetDict(train=examples['train']), tmp_path/'s', **(SMALL | dict(max_steps=3)))
    assert result.best_step == result.steps == 3 and result.dev_loss is None and load_student(result.folder).model.num_parameters() == result.parameters

def test_an_encoder_decoder_trains_by_the_same_call(examples, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL_T5 | dict(max_steps=24)))
    assert result.log[-1]['dev_loss'] < result.log[0]['dev_loss'] and load_student(result.folder).encoder_decoder

def test_a_student_moves_answers_and_is_trained_further(examples, trained, tmp_path):
    import torch
    moved = shutil.copytree(trained.folder, tmp_path/'moved')
    student = load_student(moved)
    assert student.tokenizer.chat_template == chat_template(student.tokenizer), 'a server would not give it its plain input'
    batch = student.tokenizer([examples['dev'][0]['input']], return_tensors='pt')
    with torch.inference_mode(): a, b = (s.model.generate(**batch, max_new_tokens=8) for s in (student, load_student(trained.folder)))
    assert torch.equal(a, b)
    further = ft.train_student(examples, tmp_path/'further', **(SMALL | dict(model=str(moved), sizes=None)))
    assert further.log[0]['dev_loss'] < trained.log[0]['dev_loss']
    with pytest.raises(ValueError, match='cannot be given'): ft.train_student(examples, tmp_path/'x', **(SMALL | dict(model=str(moved))))

@pytest.mark.parametrize('wrong, message', [
    (dict(tokens_per_batch=0), 'tokens_per_batch is 0'), (dict(max_steps=0, epochs=0), 'neither max_steps nor epochs'), (dict(precision='fp8'), 'fp8'),
    (dict(sizes=dict(hidden=3)), 'no size of'), (dict(vocab_size=100), 'need 258')])
def test_impossible_settings_say_what_to_change(examples, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message): ft.train_student(examples, tmp_path/'s', **(SMALL | wrong))

# ---- crashes

def script(tmp_path, examples, folder, settings):
    examples.save_to_disk(tmp_path/'examples')
    path = tmp_path/'train.py'
    path.write_text('import datasets, sys\nfrom mtd.finetuning import train_student\n'
                    f'train_student(datasets.load_from_disk({str(tmp_path/"examples")!r}), {str(folder)!r}, **{settings!r})\n')
    return path

def kill_when(process, ready):
    while process.poll() is None and not ready(): time.sleep(0.01)
    assert process.poll() is None, 'the run ended before it could be killed'
    process.send_signal(signal.SIGKILL); process.wait()

def test_a_killed_run_ends_with_the_same_weights(examples, tmp_path):
    import torch
    settings = SMALL | dict(max_steps=150, eval_every=15, warmup=20, optimizer='muon')
    run = subprocess.Popen([sys.executable, script(tmp_path, examples, tmp_path/'killed', settings)], stderr=subprocess.DEVNULL,
                           env=os.environ | {'OMP_NUM_THREADS': str(torch.get_num_threads())})
    kill_when(run, lambda: ft.last_checkpoint(tmp_path/'killed'/'checkpoints'))
    good = ft.last_checkpoint(tmp_path/'killed'/'checkpoints')
    for broken, name in ((9001, 'optimizer.pt'), (9002, 'model.safetensors'), (9003, 'trainer_state.json')): # as if killed while writing
        torn = shutil.copytree(good, good.with_name(f'checkpoint-{broken}'))
        state = json.loads((torn/'trainer_state.json').read_text()) | dict(global_step=broken)
        (torn/'trainer_state.json').write_text(json.dumps(state))
        (torn/name).write_bytes((torn/name).read_bytes()[:-100])
    assert ft.last_checkpoint(tmp_path/'killed'/'checkpoints') == good
    resumed = ft.train_student(examples, tmp_path/'killed', **settings) # in this process, with other random states
    whole = ft.train_student(examples, tmp_path/'whole', **settings)
    assert weights(resumed.folder) == weights(whole.folder)
    drop_time = lambda log: [{k: v for k, v in r.items() if k != 'seconds'} for r in log]
    assert drop_time(resumed.log) == drop_time(whole.log)

def test_a_run_killed_after_its_last_step_is_only_finished(examples, trained, tmp_path, monkeypatch):
    def die(*a): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(ft, '_finish', die)
        with pytest.raises(KeyboardInterrupt): ft.train_student(examples, tmp_path/'s', **SMALL)
    with pytest.raises(FileNotFoundError, match='not finished'): load_student(tmp_path/'s')
    result = ft.train_student(examples, tmp_path/'s', **SMALL)
    assert result.steps == 12 and weights(result.folder) == weights(trained.folder)

# ---- around it

def test_the_wait_policy_is_set_before_torch_is_there():
    code = "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); import mtd.finetuning; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.split() == ['False', 'passive']

def test_the_card_and_the_upload(trained, tmp_path, monkeypatch):
    import huggingface_hub
    folder = shutil.copytree(trained.folder, tmp_path/'s')
    card = ft.write_model_card(folder, 'Mine', data='Sums.', results='| a |').read_text()
    head = card.split('---')[1]
    assert 'library_name: transformers' in head and 'license:' in head and '# Mine' in card and 'Sums.' in card and '"learning_rate": 0.005' in card
    calls = []
    class Api:
        def __init__(self, token=None): calls.append(token)
        def create_repo(self, repo_id, private, exist_ok): calls.append((repo_id, private, exist_ok))
        def upload_folder(self, repo_id, folder_path, ignore_patterns, commit_message): calls.append((repo_id, Path(folder_path), ignore_patterns)); return 'https://hub/commit'
    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    assert ft.push_to_hub(folder, 'me/student', token='t') == 'https://hub/commit'
    assert calls == ['t', ('me/student', True, True), ('me/student', folder, ['checkpoints/*'])]
    with pytest.raises(FileNotFoundError, match='no finished student'): ft.push_to_hub(tmp_path, 'me/student')

@pytest.mark.full
def test_two_processes_train_one_student(examples, tmp_path):
    settings = SMALL | dict(max_steps=20, eval_every=10)
    path = script(tmp_path, examples, tmp_path/'two', settings)
    path.write_text("""import os, torch, torch.distributed as dist
from mtd import finetuning
run = finetuning._run
def run_and_compare(trainer, *more):
    run(trainer, *more)
    mine = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    both = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(both, mine)
    os.write(1, f'processes {dist.get_world_size()} equal {torch.equal(*both)}\\n'.encode()) # at once, since two processes write
finetuning._run = run_and_compare
""" + path.read_text() + 'dist.destroy_process_group()\n')
    run = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '29617', str(path)],
                         capture_output=True, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=300)
    assert run.returncode == 0 and run.stdout.count('processes 2 equal True') == 2, run.stderr[-3000:]
    record = json.loads((tmp_path/'two'/'student.json').read_text())
    assert record['processes'] == 2
    import torch
    one = load_student(ft.train_student(examples, tmp_path/'one', **(settings | dict(accumulation=2))).folder, device='cpu').model.state_dict()
    two = load_student(tmp_path/'two', device='cpu').model.state_dict()
    assert all(torch.allclose(one[k], two[k], atol=2e-3) for k in one), 'two processes do not do what one with twice the batches does'

"""Training a student: what a lesson has no room for."""
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

from mtd import batches, devices, finetuning as ft, tokens
from mtd.checkpoints import last_checkpoint
from mtd.generation import chat_template, load_student
from mtd.muon import muon

SMALL = dict(model='scratch-llama', sizes=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2), vocab_size=300, warmup=4,
             learning_rate=5e-3, tokens_per_batch=600, max_steps=12, eval_every=4, watch=ft.Watching(progress=False))
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

def test_long_examples_are_dropped_by_name_and_never_cut(examples, tmp_path):
    tokenizer = tokens.tokenizer_of(examples, SMALL['vocab_size'])
    lengths = {r['id']: len(tokenizer(r['input'])['input_ids']) + len(tokenizer(r['target'])['input_ids']) + 1 for r in examples['train']}
    limit = sorted(lengths.values())[60]
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(max_tokens=limit, max_steps=2)))
    assert result.dropped['train'] == [i for i in lengths if lengths[i] > limit] != []
    with pytest.raises(ValueError, match='every example of train'): ft.train_student(examples, tmp_path/'t', **(SMALL | dict(max_tokens=5)))

def test_a_target_that_holds_a_special_token_is_found_before_training(tmp_path):
    from datasets import Dataset, DatasetDict
    bad = DatasetDict(train=Dataset.from_list(rows(3) + [dict(id='bad', input='q', target='ans = </s> 3')]))
    with pytest.raises(ValueError, match='changes target 3'): ft.train_student(bad, tmp_path/'s', **SMALL)

# ---- the loss

RECIPE = dict(learning_rate=5e-3, warmup=4, tokens_per_batch=10**6, eval_every=1, accumulation=1, seed=0, optimizer='adamw', weight_decay=.0, loss_mean='tokens', precision='fp32', patience=0,
              compile=False, gradient_checkpointing=False, fsdp=False, lora_rank=0)

@pytest.fixture(scope='module')
def tokenizer(): return tokens.build_tokenizer([r['input'] + r['target'] for r in rows(50)], 300)

def unequal(tokenizer): # sixteen short and sixteen long targets
    from datasets import Dataset
    pairs = sorted(tokens.encode(Dataset.from_list(rows(200)), tokenizer)[0], key=lambda p: len(p[1]))
    return pairs[:16] + pairs[-16:]

def first_step(model, tokenizer, folder, batches, **change):
    "Loss, gradient norm and weights after one step of the trainer on these batches of `unequal`."
    import torch
    recipe = RECIPE | dict(accumulation=len(batches)) | change
    net = ft.new_student(model, tokenizer, (SMALL_T5 if model == 'scratch-t5' else SMALL)['sizes'])
    if recipe['gradient_checkpointing']: net.activation_checkpointing_enable(dict(use_reentrant=False))
    args = ft._arguments(folder, recipe, False)
    trainer = ft._trainer(net, tokenizer, folder, recipe, dict(train=ft._Split(unequal(tokenizer))), args)
    trainer.stream, trainer.args.max_steps = batches, 1
    trainer.train()
    return [trainer.state.log_history[0][k] for k in ('loss', 'grad_norm')], torch.cat([p.detach().flatten() for p in net.parameters()])

@pytest.mark.parametrize('mean', ['tokens', 'examples'])
@pytest.mark.parametrize('model', ['scratch-llama', 'scratch-lfm2', 'scratch-t5'])
def test_one_batch_of_32_equals_4_accumulated_batches_of_8(model, mean, tokenizer, tmp_path):
    whole, _ = first_step(model, tokenizer, tmp_path/'1', [list(range(32))], loss_mean=mean)
    parts, _ = first_step(model, tokenizer, tmp_path/'4', [list(range(i, i + 8)) for i in range(0, 32, 8)], loss_mean=mean)
    assert whole == pytest.approx(parts, rel=1e-4)

@pytest.mark.parametrize('model', ['scratch-lfm2', 'scratch-t5'])
def test_the_mean_over_examples_is_the_mean_of_each_ones_own(model, tokenizer, tmp_path):
    (found, _), _ = first_step(model, tokenizer, tmp_path/'all', [list(range(32))], loss_mean='examples')
    alone = [first_step(model, tokenizer, tmp_path/str(i), [[i]])[0][0] for i in range(0, 32, 5)]
    few, _ = first_step(model, tokenizer, tmp_path/'few', [list(range(0, 32, 5))], loss_mean='examples')
    assert few[0] == pytest.approx(sum(alone) / len(alone), rel=1e-4) and found != pytest.approx(few[0], rel=1e-6)
    by_token, _ = first_step(model, tokenizer, tmp_path/'tokens', [list(range(0, 32, 5))])
    assert by_token[0] != pytest.approx(few[0], rel=1e-4)

def two_tasks(n, seed=0):
    from datasets import Dataset
    made = []
    for r in rows(n, seed): made += [r | dict(problem_id=r['id'], thought='eot', id=r['id'] + '/eot'), r | dict(problem_id=r['id'], thought='pot', id=r['id'] + '/pot', target=r['target'].split('\n')[0])]
    return Dataset.from_list(made)

@pytest.mark.parametrize('share', [0.25, 1.0])
def test_the_multi_task_loss_is_the_weighted_sum_of_the_tasks_own(share, tokenizer, tmp_path):
    import torch
    split, mean = two_tasks(6), dict(pot=share, eot=1 - share)
    recipe, net = RECIPE | dict(loss_mean=mean, tokens_per_batch=10**6), ft.new_student('scratch-llama', tokenizer, SMALL['sizes'])
    pairs = tokens.encode(split, tokenizer)[0]
    with torch.no_grad(): own = {t: sum(net(**batches.collate([p], 0)).loss.item() for p, r in zip(pairs, split) if r['thought'] == t) / 6 for t in mean}
    weights, groups = ft._tasks(split, set(), mean)
    args = ft._arguments(tmp_path, recipe, False)
    args.max_steps, args.save_strategy = 1, 'no'
    trainer = ft._trainer(net, tokenizer, tmp_path, recipe, dict(train=ft._Split(pairs, weights, groups)), args)
    trainer.train()
    assert trainer.state.log_history[0]['loss'] == pytest.approx(sum(mean[t] * own[t] for t in mean), rel=1e-4)
    assert own['pot'] != pytest.approx(own['eot'], rel=1e-3) and sorted(map(tuple, groups)) == [(2 * i, 2 * i + 1) for i in range(6)]

def test_a_student_learns_the_task_that_has_the_weight(tmp_path):
    from datasets import DatasetDict
    both = DatasetDict(train=two_tasks(60), dev=two_tasks(10, seed=1))
    found = [ft.train_student(both, tmp_path/f'{share}', **(SMALL | dict(max_steps=60, eval_every=20, tokens_per_batch=1500, loss_mean=dict(pot=share, eot=1 - share)))) for share in (1.0, 0.0)]
    wrote = [load_student(r.folder, device='cpu') for r in found]
    from mtd.generation import generate
    lines = [[text.count('\n') for text in generate(s, [r['input'] for r in both['dev']], max_new_tokens=40, progress=False)] for s in wrote]
    assert max(lines[0]) == 0 < min(lines[1]), 'one line for the first task, two for the other'
    with pytest.raises(ValueError, match='loss_mean was'): ft.train_student(both, tmp_path/'1.0', **(SMALL | dict(max_steps=60, eval_every=20, tokens_per_batch=1500, loss_mean=dict(pot=.9, eot=.1))))

@pytest.mark.parametrize('mean, says', [(dict(pot=1.0), 'eot'), (dict(pot=1.0, eot=-1.0), '0 or more'), (dict(pot=0.0, eot=0.0), 'more than 0'), (dict(pot=float('nan'), eot=1.0), '0 or more')])
def test_weights_that_mean_nothing_are_refused(mean, says, examples, tmp_path):
    from datasets import DatasetDict
    with pytest.raises(ValueError, match=says): ft.train_student(DatasetDict(train=two_tasks(4)), tmp_path/'s', **(SMALL | dict(loss_mean=mean)))
    with pytest.raises(ValueError, match='lacks the columns'): ft.train_student(examples, tmp_path/'s', **(SMALL | dict(loss_mean=mean)))

@pytest.mark.parametrize('model', ['scratch-llama', 'scratch-t5'])
def test_activations_computed_twice_give_the_same_step(model, tokenizer, tmp_path):
    kept, a = first_step(model, tokenizer, tmp_path/'kept', [list(range(32))])
    again, b = first_step(model, tokenizer, tmp_path/'again', [list(range(32))], gradient_checkpointing=True)
    assert kept == pytest.approx(again, rel=1e-5) and (a - b).abs().max() < 1e-5

@pytest.mark.parametrize('model', ['scratch-llama', 'scratch-lfm2', 'scratch-t5'])
def test_only_taught_positions_reach_the_output_layer_and_the_gradient_is_the_same(model, tokenizer):
    import torch
    double, found, widths = model == 'scratch-t5', [], []
    for ours in (True, False):
        net = ft.new_student(model, tokenizer, (SMALL_T5 if double else SMALL)['sizes'])
        batch = batches.collate(unequal(tokenizer), 0, 0 if double else None)
        head = ft._Head(net)
        net.get_output_embeddings().register_forward_hook(lambda m, args, out: widths.append(out.numel() // out.shape[-1]))
        loss = ft._forward(net, head, ft.taught_only(batch, not double)) if ours else net(**batch).loss * (batch['labels'] != -100).sum()
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in net.parameters()])))
    assert widths[0] == (batch['labels'] != -100).sum() < widths[1] == batch['labels'].numel()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) and torch.allclose(found[0][1], found[1][1], atol=2e-3, rtol=2e-3)

def test_a_student_with_convolutions_and_muon_resumes_and_pads_like_any_other(examples, tokenizer, tmp_path):
    import torch
    settings = SMALL | dict(model='scratch-lfm2', optimizer='muon', sizes=dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2))
    whole = ft.train_student(examples, tmp_path/'whole', **settings)
    assert whole.log[-1]['dev_loss'] < dev_losses(whole)[0]
    net = ft.new_student('scratch-lfm2', tokenizer, settings['sizes'])
    optimiser = muon(net, 1e-3)
    assert [len(g['params']) > 0 for g in optimiser.param_groups] == [True] * 3 and sum(len(g['params']) for g in optimiser.param_groups) == len(list(net.parameters()))
    pairs, head = tokens.encode(examples['dev'], tokenizer)[0], ft._Head(net)
    with torch.no_grad(): sums = [ft._forward(net, head, ft.taught_only(batches.collate(b, 0), True)).item() for b in (pairs, *([p] for p in pairs))]
    assert sums[0] == pytest.approx(sum(sums[1:]), rel=1e-4)

def dev_losses(result): return [r['dev_loss'] for r in result.log if 'dev_loss' in r]

# ---- a run

def test_dropout_is_drawn_from_the_seed_whatever_the_process_did_before(examples, tmp_path):
    how = SMALL_T5 | dict(max_steps=3, sizes=SMALL_T5['sizes'] | dict(dropout_rate=0.2))
    devices.matrix_rate.cache_clear()
    first, second = (ft.train_student(examples, tmp_path/n, **how) for n in '12')
    assert weights(first.folder) == weights(second.folder)

def test_the_callers_tokenizer_stays_as_it_is(examples, tmp_path):
    from datasets import Dataset, DatasetDict
    mine = tokens.build_tokenizer(['abc def = 0123456789 ans x'], 300)
    lossy = DatasetDict(train=Dataset.from_list([r | dict(target=r['target'] + '\t' + 'x  y') for r in rows(20)]))
    how = SMALL | dict(tokenizer=mine, max_steps=2)
    before = mine.get_vocab()
    ft.train_student(lossy, tmp_path/'s', **how)
    assert mine.get_vocab() == before and ft.train_student(lossy, tmp_path/'s', **how).steps == 2

def test_gradient_checkpointing_computes_layers_twice_and_learns_the_same(examples, trained, tmp_path, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP
    counts, forward = [], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, 'forward', lambda self, x: counts.append(self.training) or forward(self, x))
    for on in (False, True): result = ft.train_student(examples, tmp_path/str(on), **(SMALL | dict(gradient_checkpointing=on, max_steps=4))); counts.append('end')
    plain, twice = counts[:counts.index('end')].count(True), counts[counts.index('end'):].count(True)
    assert twice - plain >= 2 * 4 and dev_losses(result)[0] == pytest.approx(dev_losses(trained)[0], rel=1e-3)

def test_rows_of_steps_that_were_never_kept_do_not_stand_twice_and_a_torn_one_stops_nothing(examples, tmp_path):
    folder = tmp_path/'s'
    with pytest.MonkeyPatch.context() as m:
        m.setattr(ft, '_finish', lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        m.setattr(ft, '_save', lambda *args: None)
        with pytest.raises(KeyboardInterrupt): ft.train_student(examples, folder, **(SMALL | dict(max_steps=3)))
    (folder/'steps.jsonl').write_text((folder/'steps.jsonl').read_text() + '{"step": 4, "sec')
    ft.train_student(examples, folder, **(SMALL | dict(max_steps=3)))
    assert [json.loads(line)['step'] for line in (folder/'steps.jsonl').read_text().splitlines()] == [1, 2, 3]

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
    assert [r['step'] for r in trained.log] == list(range(1, 13)) and [r['step'] for r in trained.log if 'dev_loss' in r] == [4, 8, 12]
    assert all({'tokens', 'seconds', 'train_loss', 'tokens_per_second', 'utilisation', 'memory'} <= set(r) for r in trained.log)
    steps = [json.loads(line) for line in (trained.folder/'steps.jsonl').read_text().splitlines()]
    assert [r['step'] for r in steps] == list(range(1, 13)) and all(r['tokens_per_second'] > 0 and 0 < r['utilisation'] < 1.5 and r['memory'] > 10**7 for r in steps)
    assert [r['tokens'] for r in trained.log] == sorted(r['tokens'] for r in trained.log) and trained.tokens == trained.log[-1]['tokens']
    assert trained.log == [json.loads(line) for line in (trained.folder/'log.jsonl').read_text().splitlines()]

def test_epochs_are_counted_in_steps(examples, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(max_steps=0, epochs=2, eval_every=50)))
    real = sum(len(s) + len(t) for s, t in tokens.encode(examples['train'], load_student(result.folder).tokenizer)[0])
    assert result.tokens == pytest.approx(2 * real, rel=0.1)

def test_early_stopping_keeps_the_best_weights(examples, tmp_path):
    from datasets import Dataset, DatasetDict
    against = DatasetDict(train=examples['train'], dev=Dataset.from_list([r | dict(target='no no no no') for r in rows(8)]))
    result = ft.train_student(against, tmp_path/'s', **(SMALL | dict(max_steps=60, patience=2, learning_rate=2e-2, watch=ft.Watching(progress=False, keep_checkpoints=True))))
    scored = {r['step']: r['dev_loss'] for r in result.log if 'dev_loss' in r}
    assert result.steps == result.best_step + 8 < 60, 'two evaluations without a lower loss, then the end'
    assert result.dev_loss == min(scored.values()) == scored[result.best_step]
    best, last = (weights(result.folder/'checkpoints'/f'checkpoint-{n}') for n in (result.best_step, result.steps))
    assert weights(result.folder) == best != last
    with pytest.raises(ValueError, match='dev split'):
        ft.train_student(DatasetDict(train=examples['train']), tmp_path/'t', **(SMALL | dict(patience=1)))

def test_without_a_dev_split_the_last_weights_are_kept(examples, tmp_path):
    from datasets import DatasetDict
    result = ft.train_student(DatasetDict(train=examples['train']), tmp_path/'s', **(SMALL | dict(max_steps=3)))
    assert result.best_step == result.steps == 3 and result.dev_loss is None and load_student(result.folder).model.num_parameters() == result.parameters

def test_an_encoder_decoder_trains_by_the_same_call(examples, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL_T5 | dict(max_steps=24)))
    assert dev_losses(result)[-1] < dev_losses(result)[0] and load_student(result.folder).encoder_decoder

def test_a_student_moves_answers_and_is_trained_further(examples, trained, tmp_path):
    import torch
    moved = shutil.copytree(trained.folder, tmp_path/'moved')
    student = load_student(moved)
    assert student.tokenizer.chat_template == chat_template(student.tokenizer), 'a server would not give it its plain input'
    batch = student.tokenizer([examples['dev'][0]['input']], return_tensors='pt')
    with torch.inference_mode(): a, b = (s.model.generate(**batch, max_new_tokens=8) for s in (student, load_student(trained.folder)))
    assert torch.equal(a, b)
    further = ft.train_student(examples, tmp_path/'further', **(SMALL | dict(model=str(moved), sizes=None)))
    assert dev_losses(further)[0] < dev_losses(trained)[0]
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
    path.write_text('import datasets, sys\nfrom mtd.finetuning import Watching, train_student\n'
                    f'train_student(datasets.load_from_disk({str(tmp_path/"examples")!r}), {str(folder)!r}, **{settings!r})\n')
    return path

def kill_when(process, ready, said):
    while process.poll() is None and not ready(): time.sleep(0.01)
    assert process.poll() is None, f'the run ended before it could be killed: {said.read_text()[-2000:]}'
    process.send_signal(signal.SIGKILL); process.wait()

def test_a_killed_run_ends_with_the_same_weights(examples, tmp_path):
    import torch
    settings = SMALL | dict(max_steps=150, eval_every=15, warmup=20, optimizer='muon')
    run = subprocess.Popen([sys.executable, script(tmp_path, examples, tmp_path/'killed', settings)], stderr=open(tmp_path/'said', 'w'),
                           env=os.environ | {'OMP_NUM_THREADS': str(torch.get_num_threads())})
    kill_when(run, lambda: last_checkpoint(tmp_path/'killed'/'checkpoints'), tmp_path/'said')
    good = last_checkpoint(tmp_path/'killed'/'checkpoints')
    torn = shutil.copytree(good, good.with_name('checkpoint-9001')) # as if killed while writing
    (torn/'sealed.json').unlink()
    resumed = ft.train_student(examples, tmp_path/'killed', **settings) # in this process, with other random states
    whole = ft.train_student(examples, tmp_path/'whole', **settings)
    assert weights(resumed.folder) == weights(whole.folder)
    drop_time = lambda log: [{k: r[k] for k in ('step', 'tokens', 'train_loss', 'dev_loss', 'learning_rate', 'grad_norm') if k in r} for r in log]
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

# ---- what a device can bear, and what goes wrong

def test_a_batch_that_does_not_fit_is_refused_before_the_first_step(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(ft, 'memory_at_hand', lambda device: 2 * 2**20)
    with pytest.raises(ValueError, match='tokens_per_batch to .* and accumulation .* times as high, or set gradient_checkpointing'): ft.train_student(examples, tmp_path/'s', **SMALL)
    monkeypatch.setattr(ft, 'memory_at_hand', lambda device: 10**5)
    with pytest.raises(ValueError, match='smaller student_model'): ft.train_student(examples, tmp_path/'s', **SMALL)
    monkeypatch.undo()
    assert ft.train_student(examples, tmp_path/'s', **SMALL).steps == 12, 'the refusal left something behind'

def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(examples, tmp_path):
    good = ft.train_student(examples, tmp_path/'good', **(SMALL | dict(watch=ft.Watching(progress=False, keep_checkpoints=True))))
    with pytest.raises(ValueError, match='not a number any more at step .*lower learning_rate.*No checkpoint was written'):
        ft.train_student(examples, tmp_path/'bad', **(SMALL | dict(learning_rate=1e18)))
    assert not list((tmp_path/'bad').glob('checkpoints/*/sealed.json')) and not (tmp_path/'bad'/'model.safetensors').exists() and good.dev_loss > 0

def test_a_full_disk_is_an_error_and_the_run_goes_on_when_there_is_room(examples, trained, tmp_path):
    path = script(tmp_path, examples, tmp_path/'s', SMALL)
    limited = 'import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n' + path.read_text()
    (tmp_path/'limited.py').write_text(limited) # no file of more than 150 kB: weights fit, the optimiser's averages do not
    full = subprocess.run([sys.executable, tmp_path/'limited.py'], capture_output=True, text=True)
    assert full.returncode and 'OSError: checkpoint-4 could not be written' in full.stderr and 'make room' in full.stderr, full.stderr[-1500:]
    assert weights(ft.train_student(examples, tmp_path/'s', **SMALL).folder) == weights(trained.folder)

def test_damaged_checkpoints_are_told_and_the_older_one_is_gone_on_from(examples, tmp_path, monkeypatch, capsys):
    kept = SMALL | dict(watch=ft.Watching(progress=False, keep_checkpoints=True))
    with monkeypatch.context() as m:
        def die(*a): raise KeyboardInterrupt
        m.setattr(ft, '_finish', die)
        with pytest.raises(KeyboardInterrupt): ft.train_student(examples, tmp_path/'s', **kept)
    stand = sorted((tmp_path/'s'/'checkpoints').glob('checkpoint-*'), key=lambda p: int(p.name.split('-')[1]))
    assert len(stand) == 2
    (stand[1]/'model.safetensors').write_bytes(b'?' + (stand[1]/'model.safetensors').read_bytes()[1:])
    result = ft.train_student(examples, tmp_path/'s', **kept)
    assert 'damaged: model.safetensors' in capsys.readouterr().err and result.steps == 12 and weights(result.folder) == weights(ft.train_student(examples, tmp_path/'again', **SMALL).folder)
    (tmp_path/'s'/'student.json').unlink()
    for c in (tmp_path/'s'/'checkpoints').glob('checkpoint-*'): (c/'optimizer.pt').unlink()
    (tmp_path/'s'/'recipe.json').write_text(json.dumps(json.loads((tmp_path/'again'/'student.json').read_text())['recipe']))
    with pytest.raises(ValueError, match='no good checkpoint.*optimizer.pt is gone'): ft.train_student(examples, tmp_path/'s', **kept)

def test_a_checkpoint_comes_with_the_minutes_too(examples, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(eval_every=12, watch=ft.Watching(progress=False, checkpoint_minutes=0, keep_checkpoints=True))))
    assert {p.name for p in (result.folder/'checkpoints').glob('*')} >= {'checkpoint-11', 'checkpoint-12'}

def test_the_accuracy_of_answers_is_logged_and_changes_no_weight(examples, trained, tmp_path):
    seen = []
    def accuracy(student):
        seen.append(student.model.training)
        return dict(a=.25, b=.75)
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(watch=ft.Watching(progress=False, accuracy=accuracy))))
    assert seen == [False] * 3 and weights(result.folder) == weights(trained.folder) and result.dev_accuracy == .5
    assert [(r['dev_accuracy'], r['dev_accuracy_b']) for r in result.log if 'dev_loss' in r] == [(.5, .75)] * 3

def test_tensorboard_sees_the_run(examples, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    monkeypatch.setenv('TENSORBOARD_LOGGING_DIR', str(tmp_path/'board'))
    ft.train_student(examples, tmp_path/'s', **(SMALL | dict(watch=ft.Watching(progress=False, report_to=('tensorboard',)))))
    board = EventAccumulator(str(tmp_path/'board')); board.Reload()
    assert {'train/loss', 'eval/loss', 'train/tokens_per_second', 'train/utilisation'} <= set(board.Tags()['scalars'])
    assert [e.step for e in board.Scalars('eval/loss')] == [4, 8, 12]

@pytest.mark.full
def test_a_compiled_student_takes_the_same_steps(examples, trained, tmp_path):
    result = ft.train_student(examples, tmp_path/'s', **(SMALL | dict(compile=True)))
    assert dev_losses(result) == pytest.approx(dev_losses(trained), rel=1e-3)

def test_low_rank_additions_are_merged_into_the_student(examples, trained, tmp_path):
    import torch
    settings = SMALL | dict(model=str(trained.folder), sizes=None, lora_rank=4)
    result = ft.train_student(examples, tmp_path/'s', **settings)
    assert dev_losses(result)[-1] < dev_losses(trained)[-1]
    before, after = (load_student(r.folder, device='cpu').model.state_dict() for r in (trained, result))
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert set(before) == set(after) and any('q_proj' in k for k in changed) and not any('embed' in k or 'norm' in k for k in changed)
    with pytest.raises(ValueError, match='lora_rank'): ft.train_student(examples, tmp_path/'t', **(SMALL | dict(lora_rank=4)))

@pytest.mark.parametrize('wrong, message', [(dict(fsdp=True), 'torchrun'), (dict(fsdp=True, optimizer='muon'), 'whole matrices'), (dict(max_tokens=5000), '1024 positions'), (dict(loss_mean='rows'), 'tokens, examples or')])
def test_what_cannot_be_together_is_refused(examples, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message): ft.train_student(examples, tmp_path/'s', **(SMALL | wrong))

# ---- several processes

@pytest.mark.full
@pytest.mark.parametrize('fsdp', [False, True])
def test_two_processes_take_the_steps_of_one_with_twice_the_batches(examples, tmp_path, fsdp):
    import torch
    how = {k: v for k, v in SMALL.items() if k != 'watch'} | dict(max_steps=20, eval_every=10, tokens_per_batch=300) # three batches of dev, for two
    with pytest.MonkeyPatch.context() as m:
        m.setenv('OMP_NUM_THREADS', '1')
        two = ft.train_apart(2, examples, tmp_path/'two', how | dict(fsdp=fsdp), dict(progress=False))
    assert json.loads((two.folder/'student.json').read_text())['processes'] == 2 and not (two.folder/'job.json').exists()
    one = ft.train_student(examples, tmp_path/'one', **(how | dict(accumulation=2)), watch=ft.Watching(progress=False))
    assert two.tokens == one.tokens and dev_losses(two) == pytest.approx(dev_losses(one), rel=1e-3)
    for key in ('train_loss', 'grad_norm'): assert [r[key] for r in two.log] == pytest.approx([r[key] for r in one.log], rel=2e-2), key
    a, b = (load_student(r.folder, device='cpu').model.state_dict() for r in (one, two))
    assert all(torch.allclose(a[k], b[k], atol=2e-3) for k in a), 'two processes do not do what one with twice the batches does'

@pytest.mark.full
def test_two_killed_processes_go_on_and_an_error_in_one_is_told(examples, tmp_path):
    how = {k: v for k, v in SMALL.items() if k != 'watch'} | dict(max_steps=60, eval_every=10)
    with pytest.MonkeyPatch.context() as m:
        m.setenv('OMP_NUM_THREADS', '1')
        with pytest.raises(ValueError, match='neither max_steps nor epochs'): ft.train_apart(2, examples, tmp_path/'wrong', how | dict(max_steps=0, epochs=0), dict(progress=False))
        whole = ft.train_apart(2, examples, tmp_path/'whole', how, dict(progress=False))
        job = dict(examples=str(tmp_path/'examples'), folder=str(tmp_path/'killed'), how=how, watch=dict(progress=False), answered=0)
        examples.save_to_disk(job['examples'])
        (tmp_path/'job.json').write_text(json.dumps(job))
        run = subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'mtd.finetuning', str(tmp_path/'job.json')],
                               stderr=open(tmp_path/'said', 'w'), start_new_session=True)
        while run.poll() is None and not list((tmp_path/'killed').glob('checkpoints/*/sealed.json')): time.sleep(0.01)
        assert run.poll() is None, (tmp_path/'said').read_text()[-2000:]
        os.killpg(run.pid, signal.SIGKILL); run.wait()
        with pytest.raises(ValueError, match='2 processes wrote it'): ft.train_student(examples, tmp_path/'killed', **how)
        resumed = ft.train_apart(2, examples, tmp_path/'killed', how, dict(progress=False))
    assert weights(resumed.folder) == weights(whole.folder)

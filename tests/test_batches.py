"""Batches: every example once, within a budget, the same order for the same seed."""
import itertools, random

from hypothesis import given, settings as hypothesis_settings, strategies as st

from mtd.batches import BatchStream, batch_cost, collate, plan_batches

lengths_strategy = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=120)

@given(lengths_strategy, st.integers(20, 400), st.integers(0, 5))
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_plan_holds_every_example_once_and_keeps_its_budget(lengths, budget, epoch):
    plan = plan_batches(lengths, budget, seed=3, epoch=epoch, pool=4)
    assert sorted(i for b in plan for i in b) == list(range(len(lengths)))
    for b in plan: assert len(b) == 1 or batch_cost([lengths[i] for i in b]) <= budget
    assert plan == plan_batches(lengths, budget, seed=3, epoch=epoch, pool=4)

@given(lengths_strategy, st.integers(20, 400), st.randoms())
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_belongs_together_stays_together(lengths, budget, rng):
    owners = [rng.randrange(1 + len(lengths) // 3) for _ in lengths]
    groups = [[i for i, o in enumerate(owners) if o == owner] for owner in sorted(set(owners))]
    plan = plan_batches(lengths, budget, seed=3, pool=4, groups=groups)
    assert sorted(i for b in plan for i in b) == list(range(len(lengths)))
    for b in plan:
        held = {owners[i] for i in b}
        assert len(b) == sum(owners[i] in held for i in range(len(lengths))) and (len(held) == 1 or batch_cost([lengths[i] for i in b]) <= budget)
    assert plan_batches(lengths, budget, groups=[[i] for i in range(len(lengths))]) == plan_batches(lengths, budget)

def test_epochs_differ_and_processes_share_one_stream():
    lengths = [(0, n) for n in random.Random(0).choices(range(5, 90), k=200)]
    assert plan_batches(lengths, 300, epoch=0) != plan_batches(lengths, 300, epoch=1)
    take = lambda n, **kw: list(itertools.islice(BatchStream(lengths, 300, **kw), n))
    alone = take(90)
    shared = [take(30, rank=r, world=3) for r in range(3)]
    assert [b for step in zip(*shared) for b in step] == alone

def test_like_lengths_waste_less_than_half_of_what_chance_wastes():
    lengths = [(0, n) for n in random.Random(0).choices(range(20, 300), k=1000)]
    waste = lambda plan: 1 - sum(sum(x) for x in lengths) / sum(batch_cost([lengths[i] for i in b]) for b in plan)
    chance = random.Random(1).sample(range(1000), 1000)
    assert waste(plan_batches(lengths, 3000)) < 0.5 * waste([chance[i:i + 16] for i in range(0, 1000, 16)])

@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=6))
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_batch_holds_its_rows_and_its_cost_is_its_area(sizes):
    pairs = [(list(range(3, 3 + s)), list(range(40, 40 + t))) for s, t in sizes]
    one, two = collate(pairs, 0), collate(pairs, 0, start=1)
    assert one['input_ids'].numel() == batch_cost([(0, s + t) for s, t in sizes]) and two['input_ids'].numel() + two['labels'].numel() == batch_cost(sizes)
    assert all(side % 8 == 0 for v in (*one.values(), *two.values()) for side in v.shape[1:])
    for k, (s, t) in enumerate(pairs):
        assert one['input_ids'][k][:len(s) + len(t)].tolist() == s + t and one['labels'][k][one['labels'][k] != -100].tolist() == t
        assert two['input_ids'][k][two['attention_mask'][k] == 1].tolist() == s and two['decoder_input_ids'][k][:len(t)].tolist() == [1] + t[:-1]

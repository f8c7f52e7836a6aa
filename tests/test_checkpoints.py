"""Checkpoints: what is torn, damaged or foreign is told apart; nothing good is removed."""
import pytest

from mtd.checkpoints import check_room, fault, last_checkpoint, rotate, seal, sweep, unseal

def written(folder, step, sealed=True, world=1):
    checkpoint = folder/f'checkpoint-{step}'
    (checkpoint/'deep').mkdir(parents=True)
    for name in ('model.safetensors', 'optimizer.pt', 'deep/rng_state.pth'): (checkpoint/name).write_bytes(f'{name} {step}'.encode() * 100)
    if sealed: seal(checkpoint, world)
    return checkpoint

@pytest.mark.parametrize('hurt', ['gone', 'shorter', 'flipped', 'seal', 'a key of the seal'])
def test_damage_of_any_kind_is_seen_and_an_older_checkpoint_is_taken(tmp_path, hurt, capsys):
    good, bad = written(tmp_path, 10), written(tmp_path, 200)
    file = bad/('sealed.json' if 'seal' in hurt else 'deep/rng_state.pth')
    if hurt == 'gone': file.unlink()
    elif hurt == 'a key of the seal': file.write_text(file.read_text().replace('files', 'fiLes'))
    elif hurt == 'flipped': file.write_bytes(b'X' + file.read_bytes()[1:])
    else: file.write_bytes(file.read_bytes()[:-5])
    assert last_checkpoint(tmp_path) == good and 'damaged' in capsys.readouterr().err
    sweep(tmp_path)
    assert bad.exists(), 'what is damaged is for a human to look at'

def test_the_newest_is_by_number_and_a_torn_one_is_passed_over(tmp_path, capsys):
    written(tmp_path, 90); newest = written(tmp_path, 100); torn = written(tmp_path, 1000, sealed=False)
    (tmp_path/'checkpoint-x').mkdir()
    assert last_checkpoint(tmp_path) == newest and capsys.readouterr().err == ''
    sweep(tmp_path)
    assert not torn.exists() and newest.exists()
    unseal(newest)
    assert fault(newest) == 'torn'

def test_only_damaged_or_foreign_ones_are_an_error_that_says_what_to_do(tmp_path):
    assert last_checkpoint(tmp_path) is None and last_checkpoint(tmp_path/'nowhere') is None
    bad = written(tmp_path, 10)
    (bad/'optimizer.pt').unlink()
    written(tmp_path, 20, world=2)
    with pytest.raises(ValueError, match='optimizer.pt is gone.*2 processes wrote it.*bring back a copy|2 processes wrote it.*optimizer.pt is gone'): last_checkpoint(tmp_path)
    assert last_checkpoint(tmp_path, world=2).name == 'checkpoint-20'

def test_room_counts_what_stands(tmp_path):
    import shutil
    free = shutil.disk_usage(tmp_path).free
    check_room(tmp_path, free // 4)
    with pytest.raises(OSError, match='make room'): check_room(tmp_path, free // 2)

def test_the_best_the_newest_and_the_one_just_sealed_stay(tmp_path):
    for step in (10, 20, 30, 40): written(tmp_path, step)
    torn = written(tmp_path, 50, sealed=False)
    rotate(tmp_path, 40, best=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['checkpoint-10', 'checkpoint-40', torn.name]
    (tmp_path/'checkpoint-40'/'optimizer.pt').unlink() # the newest is damaged, and the run went on from an older one
    written(tmp_path, 15)
    rotate(tmp_path, 15)
    assert last_checkpoint(tmp_path).name == 'checkpoint-15' and (tmp_path/'checkpoint-40').exists() and not (tmp_path/'checkpoint-10').exists()

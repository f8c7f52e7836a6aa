"""The teacher's client, store on, beside the official asynchronous client as it comes under `asyncio.gather`; alternating, medians.

`python benchmarks/teacher.py` prints the figures and writes benchmarks/results/teacher.json."""
import asyncio, json, os, platform, statistics, sys, tempfile, time
from importlib.metadata import version
from pathlib import Path

from mtd.core import write_atomic
from mtd.lab import lab_stories
from mtd.lab_server import LabTeacher
from mtd.teacher import Pace, Store, complete, make_requests

REQUESTS, IN_FLIGHT, ROUNDS = 600, 128, 7


async def official(url, requests, transport=None, bound=None):
    "What its documentation shows: one client, all requests under `asyncio.gather`."
    from openai import AsyncOpenAI
    async with AsyncOpenAI(base_url=url, api_key='none', http_client=transport and transport()) as client:
        places = asyncio.Semaphore(bound or len(requests))
        async def one(r):
            async with places: return await client.chat.completions.create(**r.body())
        return [a.choices[0].message.content for a in await asyncio.gather(*map(one, requests))]


def ours(url, requests):
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)/'s.sqlite') as store:
        answers = complete(requests, store, url, 'none', endpoint='benchmark', pace=Pace(concurrency=IN_FLIGHT), progress=False)
        assert len(store) == len(requests)
        return [c.text for c in answers]


def main():
    from openai import DefaultAioHttpClient
    requests = make_requests([s.problem for s in lab_stories('train', REQUESTS // 3)], ('cot', 'pot', 'eot'), 'lab-teacher-1', shots=2)
    with LabTeacher() as teacher:
        url = teacher.base_url
        ways = {'mtd, store on': lambda: ours(url, requests),
                'official client, gather': lambda: asyncio.run(official(url, requests)),
                f'official client, gather, {IN_FLIGHT} at a time': lambda: asyncio.run(official(url, requests, bound=IN_FLIGHT)),
                f'official client on aiohttp, gather, {IN_FLIGHT} at a time': lambda: asyncio.run(official(url, requests, DefaultAioHttpClient, IN_FLIGHT))}
        said, took = {}, {name: [] for name in ways}
        for r in range(ROUNDS + 1): # the first one warms up
            for name, way in ways.items():
                start = time.perf_counter()
                said[name] = way()
                if r: took[name].append(time.perf_counter() - start)
    assert len({tuple(t.strip() for t in texts) for texts in said.values()}) == 1, 'all got the same answers'
    median = {name: statistics.median(t) for name, t in took.items()}
    rate = {name: dict(median=round(REQUESTS / median[name]), lowest=round(REQUESTS / max(t)), highest=round(REQUESTS / min(t))) for name, t in took.items()}
    ratio = {name: round(median[name] / median['mtd, store on'], 2) for name in ways if name != 'mtd, store on'}
    return dict(command='python benchmarks/teacher.py', requests=REQUESTS, in_flight=IN_FLIGHT, rounds=ROUNDS, requests_per_second=rate, times_as_fast_as=ratio,
                versions={'python': platform.python_version()} | {p: version(p) for p in ('openai', 'aiohttp', 'httpx2')}, machine=f'{os.cpu_count()} CPU cores, {sys.platform}')


if __name__ == '__main__':
    found = main()
    print(json.dumps(found, indent=1))
    write_atomic(Path(__file__).parent/'results'/'teacher.json', json.dumps(found, indent=1) + '\n')

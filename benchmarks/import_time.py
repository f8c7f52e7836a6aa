"""Seconds that `import mtd` adds to a bare interpreter, beside an import of sympy: medians of alternating runs. `python benchmarks/import_time.py`"""
import json, statistics, subprocess, sys

CODE = "import sys, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module): return float(subprocess.run([sys.executable, '-c', CODE.format(module)], capture_output=True, text=True, check=True).stdout)


if __name__ == '__main__':
    runs = [(seconds('mtd'), seconds('sympy')) for _ in range(11)]
    mtd, sympy = (statistics.median(r[i] for r in runs) for i in (0, 1))
    print(json.dumps(dict(import_mtd=round(mtd, 4), import_sympy=round(sympy, 4), ratio=round(mtd / sympy, 4), n=len(runs), python=sys.version.split()[0])))

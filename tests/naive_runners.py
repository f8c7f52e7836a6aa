"""Runners of programs as they are written in a hurry; test_attacks.py shows on them that its attacks are attacks.

`python -I naive_runners.py` reads from its standard input, as JSON, a runner's name, programs, a folder, an environment and how long and how large it may get; starts that runner
under rlimits that spare the machine, ends whatever it leaves behind, and says as JSON what happened. Linux only.
"""
import ast, ctypes, importlib, json, os, pickle, re, resource, select, signal, subprocess, sys, time

# The runners: each a function of a program

def answer_of(space): return space.get('ans')

def plain(program): # in the runner's own process
    space = {'__name__': '__main__'}
    exec(program, space)
    return answer_of(space)

_EASY = '''abs all any bool bytes callable chr complex dict dir divmod enumerate filter float format frozenset hash hex int isinstance issubclass iter len
list map max min next object oct ord pow print property range repr reversed round set slice sorted staticmethod str sum super tuple type zip
__build_class__ ArithmeticError BaseException Exception KeyError NameError StopIteration TypeError ValueError ZeroDivisionError'''.split()
_MODULES = '''collections datetime decimal fractions functools gc inspect itertools logging math operator random re statistics string sympy timeit
typing'''.split()

def no_dangerous_builtins(program): # without open, eval, getattr, and with a list of modules
    def chosen(name, *rest):
        if name not in _MODULES: raise ImportError(name)
        return __import__(name, *rest)
    inner = {name: getattr(sys.modules['builtins'], name) for name in _EASY}
    space = {'__name__': '__main__', '__builtins__': {**inner, '__import__': chosen}}
    exec(program, space)
    return answer_of(space)

def no_underscores(program): # the same, and no name or attribute that begins with an underscore
    for node in ast.walk(ast.parse(program)):
        if any(getattr(node, field, '').startswith('_') for field in ('id', 'attr')): raise NameError('an underscore')
    return no_dangerous_builtins(program)

def listed_words(program): # a regular expression knows what is dangerous
    if re.search(r'\b(open|import|eval|exec|compile|os|posix|sys|subprocess)\b', re.sub('#.*', '', program)): raise NameError('a dangerous word')
    return plain(program.encode())

def last_line(program): # a child prints its answer; the last line that looks like one is believed
    lines = [line for line in _forked(_print_answer, program).decode(errors='replace').splitlines() if line.startswith('{"answer"')]
    return json.loads(lines[-1])['answer']

def unpickled(program): # a child that can open nothing sends its answer pickled
    answer = pickle.loads(_forked(_pickle_answer, program))
    return answer if isinstance(answer, int) else None

def _forked(work, program):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        os.closerange(3, 20)
        try: work(program)
        except Exception: pass
        sys.exit()
    os.close(writing)
    with os.fdopen(reading, 'rb') as pipe: return pipe.read()

def _print_answer(program):
    answer = plain(program)
    print(json.dumps({'answer': answer}))

def _pickle_answer(program):
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    answer = plain(program)
    os.write(1, pickle.dumps(answer))

def run(runner, programs):
    answers = []
    for program in programs:
        if runner == 'analysed': ast.unparse(ast.parse(program)) # to see what is in it, before it runs
        try: answer = globals()['plain' if runner == 'analysed' else runner](program)
        except Exception as e: answer = f'{type(e).__name__}: {e}'
        answers.append(answer if isinstance(answer, int) else str(answer))
    print(json.dumps(answers), flush=True)

# The cell

LIMIT, CAP = 1 << 30, 5_000_000 # bytes of address space; of output that is read

def children():
    return [int(c) for c in open(f'/proc/self/task/{os.getpid()}/children').read().split()]

def resident(pid):
    try: return int(open(f'/proc/{pid}/statm').read().split()[1]) * resource.getpagesize()
    except OSError: return 0

def cell(runner, programs, folder, environment, seconds, memory):
    prctl = ctypes.CDLL(None).prctl
    prctl(36, 1) # PR_SET_CHILD_SUBREAPER: what is orphaned in this cell comes to it
    def confine():
        prctl(1, 9) # PR_SET_PDEATHSIG
        for name, most in (('AS', LIMIT), ('CORE', 0), ('CPU', 20), ('FSIZE', 50_000_000), ('STACK', 8 << 20)): resource.setrlimit(getattr(resource, f'RLIMIT_{name}'), (most, most))
    process = subprocess.Popen([sys.executable, '-I', __file__, runner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               cwd=folder, env=environment, start_new_session=True, preexec_fn=confine)
    process.stdin.write(json.dumps(programs).encode() + b'\n')
    process.stdin.flush() # and it stays open
    end, output, ended = time.monotonic() + seconds, b'', 0
    while time.monotonic() < end and len(output) < CAP:
        if select.select([process.stdout], [], [], 0 if ended else 0.02)[0]:
            chunk = os.read(process.stdout.fileno(), 1 << 20)
            if not chunk and ended: break
            if not chunk: time.sleep(0.02) # closed, and still at work
            output += chunk
        elif ended: break
        if not ended and resident(process.pid) > memory: break
        if not ended: ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not ended:
        os.kill(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    survivors = [c for c in children() if open(f'/proc/{c}/stat').read().rpartition(')')[2].split()[0] != 'Z']
    while left := children():
        for each in left: os.kill(each, signal.SIGKILL)
        for each in left: os.waitpid(each, 0)
    try: answers = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError): answers = None
    print(json.dumps(dict(answers=answers, status=status, busy=time.monotonic() > end, memory=usage.ru_maxrss << 10, output=len(output), survivors=len(survivors))))

if __name__ == '__main__':
    sys.set_int_max_str_digits(4300)
    if len(sys.argv) > 1: run(sys.argv[1], json.loads(sys.stdin.readline()))
    else: cell(**json.loads(sys.stdin.readline()))

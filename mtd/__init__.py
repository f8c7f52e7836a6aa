"""Mix Thoughts Distillation: a teacher's chains, programs and equations, executed, filtered, mixed, and taught to a small student."""

__version__ = "0.1.0"


def __getattr__(name):
    "`mtd.execute`, resolved on first use so that `import mtd` stays light."
    if name == "execute":
        from mtd.prompting import execute
        return execute
    raise AttributeError(f"module 'mtd' has no attribute {name!r}")

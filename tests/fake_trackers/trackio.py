"""A stand-in for trackio."""

from fake import heard


class Run:
    def __init__(self, name):
        self.name = name

    def log(self, values, step):
        heard("trackio", "log", run=self.name, values=values, step=step)

    def finish(self):
        heard("trackio", "finish", run=self.name)


def init(**given):
    heard("trackio", "start", **given)
    return Run(given["name"])

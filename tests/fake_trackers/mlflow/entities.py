"""Values of the stand-in for MLflow."""


def Param(name, value):
    return name, value


def Metric(name, value, timestamp, step):
    return name, value, timestamp, step

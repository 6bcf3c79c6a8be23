"""The answer of a recommendation as a sentence. Pure; nothing is read."""

from collections.abc import Iterable, Sequence

from peftbench.console import bytes_text, seconds_text
from peftbench.outlook import Outlook, Verdict
from peftbench.stats import CONFIDENCE, Interval


def answer_of(
    outlooks: Sequence[Outlook],
    verdict: Verdict | None,
    *,
    model: str,
    device: str,
    hours: float | None,
    remedy: str | None,
    base: Outlook | None = None,
    making: str = "",
) -> str:
    """The answer as one sentence.

    `remedy` is what would let a method fit where none does, `making` the options of `grid run subset` that make
    records where there are none.
    """
    able = [each for each in outlooks if each.possible]
    if not able:
        return _none_possible(outlooks, device, hours, remedy)
    compared = [each for each in able if each.performance is not None]
    others = [each.method for each in able if each.performance is None]
    if not any(each.seeds for each in outlooks):
        return (
            f"cannot tell, because there are no records of scores for {model}; `peftbench grid run "
            f"subset{making}` makes them, to be given by --records, and `peftbench plan` in place of `grid run` "
            "says what that costs; "
            f"{_fitting(able, device, hours)}"
        )
    if not compared:
        return (
            f"cannot tell, because none of the methods that can be run has records of every dataset; "
            f"{_fitting(able, device, hours)}"
        )
    by_name = {each.method: each for each in compared}
    if len(compared) == 1:
        [only] = compared
        if others:
            text = (
                f"cannot tell, because only {_scored(only)} has records of every dataset, and {_and(others)} "
                f"could be run as well; {cheapest(able)}"
            )
        else:
            where = _under(device, hours)
            text = f"{_scored(only)}, the only method that can be run {where}; {cheapest(compared)}"
        return text + _beyond(outlooks, only, hours) + _caveats([only], hours, verdict, base)
    if verdict is None:
        return (
            f"cannot tell {_and(by_name)} apart, because there is nothing to resample: no dataset has two test "
            f"rows; {cheapest(compared)}"
        )
    leaders = [by_name[name] for name in verdict.leaders]
    first = leaders[0]
    share = percent(verdict.shares[first.method])
    if len(leaders) == 1:
        text = f"{_scored(first)}, the best in {share} of the resamples; {cheapest(leaders)}"
    else:
        text = (
            f"cannot tell {_and(verdict.leaders)} apart ({first.method}, {_scored(first, name=False)}, is the "
            f"best in {share} of the resamples); of these {cheapest(leaders)}"
        )
    if others:
        text += f"; {_and(others)} could be run as well, but {_lack(others)} records of some dataset"
    return text + _beyond(outlooks, first, hours) + _caveats(leaders, hours, verdict, base)


def cheapest(methods: Sequence[Outlook]) -> str:
    """Which takes the least time and which the least memory; times are compared by the middle of their ranges."""
    timed = [(each.seconds.middle, each) for each in methods if each.seconds is not None]
    sized = [(each.peak_memory_bytes, each) for each in methods if each.peak_memory_bytes is not None]
    quick = min(timed, key=lambda pair: pair[0])[1] if timed else None
    lean = min(sized, key=lambda pair: pair[0])[1] if sized else None
    time = seconds_text(quick.seconds) if quick else "a time that is not known"
    size = bytes_text(lean.peak_memory_bytes) if lean else "memory that is not known"
    if len(methods) == 1:
        return f"it takes {time} and {size}"
    if quick is None or lean is None or quick is lean:
        return f"{(quick or lean or methods[0]).method} takes the least time and memory ({time}, {size})"
    return f"{quick.method} takes the least time ({time}) and {lean.method} the least memory ({size})"


def percent(share: float) -> str:
    """A share in per cent; what is not quite nothing or all is not called so."""
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def ends(interval: Interval | None) -> str | None:
    """Both ends of an interval; None where it has none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return f"{interval.low:.1f} to {interval.high:.1f}"


def _none_possible(outlooks: Sequence[Outlook], device: str, hours: float | None, remedy: str | None) -> str:
    late = [each for each in outlooks if not each.why and each.seconds is not None]
    if late:
        quick = min(late, key=lambda each: each.seconds.low if each.seconds else 0)
        assert quick.seconds is not None
        return (
            f"none, because none of the methods that fit is done within {hours:g} h; {quick.method} needs "
            f"{seconds_text(quick.seconds)}, so give more --hours, a faster device or less work, such as --set "
            "training.epochs=3"
        )
    return f"none, because no method can be run on {device}" + ("" if remedy is None else f"; {remedy}")


def _beyond(outlooks: Sequence[Outlook], first: Outlook, hours: float | None) -> str:
    """What scored more and is out of reach: whoever can get a larger device or more hours wants to know."""
    scored = [(each.performance.estimate, each) for each in outlooks if each.performance and not each.possible]
    best = max(scored, key=lambda pair: pair[0], default=None)
    if best is None or first.performance is None or best[0] <= first.performance.estimate:
        return ""
    why = "cannot be run there" if best[1].why else f"takes longer than {hours:g} h"
    return f"; {best[1].method} scored {best[0]:.1f}, but {why}"


def _caveats(
    leaders: Sequence[Outlook], hours: float | None, verdict: Verdict | None, base: Outlook | None
) -> str:
    text = _late(leaders, hours)
    above = None if verdict is None else verdict.above_base
    if base is not None and base.performance is not None and above is not None and above < CONFIDENCE:
        text += (
            f"; {leaders[0].method} scores above the base model ({base.performance.estimate:.1f}), which needs no "
            f"training, in only {percent(above)} of the resamples"
        )
    if all(each.seeds == 1 for each in leaders):
        text += "; records are of one seed, so that this says nothing of how much seeds differ"
    return text


def _scored(method: Outlook, *, name: bool = True) -> str:
    assert method.performance is not None
    interval = ends(method.performance)
    score = f"{method.performance.estimate:.1f}" + ("" if interval is None else f" with 95 % interval {interval}")
    return f"{method.method} ({score})" if name else score


def _fitting(able: Sequence[Outlook], device: str, hours: float | None) -> str:
    names, where = _and(each.method for each in able), _under(device, hours)
    which = "; " if len(able) == 1 else ", of which "
    return f"{names} can be run {where}{which}{cheapest(able)}{_late(able, hours)}"


def _late(methods: Sequence[Outlook], hours: float | None) -> str:
    late = [each.method for each in methods if each.within_hours == "perhaps"]
    if hours is None or not late:
        return ""
    return f"; {_and(late) if len(methods) > 1 else 'it'} may take more than the {hours:g} h"


def _under(device: str, hours: float | None) -> str:
    return f"on {device}" if hours is None else f"on {device} within {hours:g} h"


def _lack(names: Sequence[str]) -> str:
    return "lacks" if len(names) == 1 else "lack"


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last

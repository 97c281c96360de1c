"""A simulation as a page: the loop beside the first model, day by day, and what was done at night."""

from __future__ import annotations

from typing import Any

from pipelines.page import Html, Line, badge, cards, element, figure, lines, page, section, table
from pipelines.page.drawing import percent


def simulation_page(result: dict[str, Any]) -> str:
    """One HTML document, complete in itself."""
    plan, lead = result["plan"], result["lead"]
    days = [str(each["day"]) for each in result["by_day"]]
    clear = lead["low"] > 0
    told = element(
        "p",
        f"Of what it showed, the loop had {result['ctr']['loop']:.2%} clicked and the first model "
        f"{result['ctr']['frozen']:.2%}: {lead['value'] * 100:+.2f} points "
        f"[{lead['low'] * 100:+.2f}, {lead['high'] * 100:+.2f}].",
    )
    head = cards(
        [
            ("clicks, beside the first model", f"{lead['relative']:+.1%}"),
            ("visits", f"{result['visits']:,}"),
            ("trained anew", result["retrained"]),
            ("promoted", result["promoted"]),
        ]
    )
    clicks = lines(
        "Clicks by shown items, a day",
        days,
        [Line(name, [each[name] for each in result["by_day"]]) for name in ("loop", "frozen")],
        format_=percent,
    )
    truth = lines(
        "True click rate of what was shown, a day",
        days,
        [Line(name, [each["true"][name] for each in result["by_day"]]) for name in ("loop", "frozen")],
        format_=percent,
    )
    drift = lines(
        "Features that have drifted",
        days,
        [Line("features", [float(len(night["drifted"])) for night in result["nights"]])],
    )
    versions = lines(
        "The champion's version",
        days,
        [Line("version", [float(night["champion"] or 0) for night in result["nights"]])],
    )
    charts = element(
        "div",
        figure("Clicks", clicks, note="What readers did; half of the holdout each."),
        figure("In truth", truth, note="What the simulation knows, and no publisher does."),
        figure("Drift", drift),
        figure("Champion", versions),
        class_="charts",
    )
    intro = (
        f"{plan['days']} days of a {plan['size']} newsroom whose readers' taste moves, after {plan['warm_up']} days of "
        f"a publisher's own policy. Half of {plan['holdout']:.0%} of the readers saw the first model for ever, the "
        "other half whatever the loop made of it. Intervals are over users."
    )
    verdict = badge("the loop is better" if clear else "no measurable difference", "good" if clear else "plain")
    return page(
        "Simulation",
        intro,
        [
            section("The loop", verdict, told, head, charts),
            section("Nights", *_nights(result)),
            *([_spoilt(result["spoilt"])] if result["spoilt"] else []),
            section(
                "Versions",
                table(["version", "state", "why"], [[e["version"], e["state"], e["why"]] for e in result["history"]]),
            ),
        ],
    )


def _nights(result: dict[str, Any]) -> list[Html]:
    found: list[Html] = []
    for night in result["nights"]:
        happened = [f"{each['rule']} {each['state']}: {each['reason']}" for each in night["fired"]]
        if night["retrained"]:
            happened.append(f"trained anew: {night['retrained']['why']}")
        happened += [
            f"{each['name']}: {each['verdict']}. {each['why']} {each['done']}"
            for each in night["experiments"]
            if each["name"] != "holdout"
        ]
        if happened:
            found.append(element("h3", f"After day {night['day']}, champion {night['champion']}"))
            found.append(element("ul", *(element("li", each) for each in happened)))
    return found


def _spoilt(spoilt: dict[str, Any]) -> Any:
    told = (
        f"Version {spoilt['version']}, which learned nothing, was put past the gate. It answered "
        f"{spoilt['visits']:,} visits, at most {spoilt['largest_share_of_a_day']:.1%} of a day's, and was out after "
        f"{spoilt['looks']} {'look' if spoilt['looks'] == 1 else 'looks'}: {spoilt['why']}"
    )
    return section("A bad candidate", element("p", told))

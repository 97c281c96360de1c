"""The console in a real browser: what somebody does there, by mouse and by keyboard, and what axe-core finds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.events import Store
from serving.events.keys import SCOPES, create_key
from tests.serving.console.conftest import exposures, photograph

Visit = Callable[..., Any]
Keep = Callable[[Any, str], None]
# By page, what is there when it has loaded.
READY = {
    "/": "#feed .card img",
    "/console/compare": "#b-category_share",
    "/console/articles": "#found li",
    "/console/live": "#windows figure svg",
    "/console/experiments": "#experiments .panel figure",
    "/console/models": "#versions tbody tr",
}


def declare(room: Any, name: str, layer: str, treatment: dict[str, Any], **more: Any) -> None:
    variants = {"control": {"share": 0.5}, "wide": {"share": 0.5, "treatment": treatment}}
    content = {"name": name, "variants": variants, "layer": layer, "planned_users": 2_000} | more
    answer = room.http.post("/v1/experiments", json=content)
    assert answer.status_code == 201, answer.text


def texts(page: Any, selector: str) -> list[str]:
    return [each.strip() for each in page.locator(selector).all_inner_texts()]


@pytest.fixture(scope="module")
def shown(room: Any) -> Any:
    """The newsroom with an experiment that has evidence, and one that is over."""
    declare(room, "earlier", "one", {"live_items": 8})
    room.http.post("/v1/experiments/earlier/stop", json={"why": "the summer is over"})
    declare(room, "wider", "one", {"live_items": 32})
    exposures(room.where, "wider", time.time_ns() // 1000)
    seen = room.http.post("/v1/experiments/wider/look").json()
    assert seen["verdict"] == "won", seen
    return room


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(visit: Visit, shown: Any, keep_screenshot: Keep, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    for path, ready in READY.items():
        name = path.rpartition("/")[2] or "feed"
        page = visit(path, scheme=scheme)
        page.locator(ready).first.wait_for()
        if name == "compare":
            page.locator("#user").fill("reader-00")  # offered a moment later, and asked for
            page.get_by_role("button", name="Compare").click()
            page.locator("#feeds li img").first.wait_for()
        if name == "live":
            page.get_by_text("Figures of CTR", exact=False).first.click()
        keep_screenshot(page, f"{name}-{scheme}")
        for width in (1280, 360) if scheme == "light" else (1280,):
            page.set_viewport_size({"width": width, "height": 800})
            found = axe.run(page)
            assert found.violations_count == 0, f"{path}, {scheme}, {width}: {found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than {width}"
        if scheme == "light":
            keep_screenshot(page, f"{name}-phone")
        page.close()


def test_a_click_changes_the_feed(visit: Visit, room: Any, keep_screenshot: Keep) -> None:
    page = visit("/?user=reader-00")
    cards = page.locator("#feed .card")
    cards.first.wait_for()
    titles, history = texts(page, "#feed h3"), page.locator("#history li").count()
    assert len(titles) == 9
    assert all("score" in each for each in texts(page, "#feed .meta"))
    assert "You read about sport" in texts(page, "#feed .reason")[0]
    assert page.locator("#facts").inner_text().startswith("by feed, version 2")
    weather = page.locator(".card", has_text="weather").first
    clicked = weather.locator("h3").inner_text()
    weather.get_by_role("button").click()
    page.locator("#told", has_text="has read").wait_for()
    assert page.locator("#history li").count() == history + 1
    assert clicked in texts(page, "#history .title")[0]
    after = texts(page, "#feed h3")
    assert clicked not in after
    assert after != titles
    assert page.locator(".card.fresh").count() == len(set(after) - set(titles))
    assert page.evaluate("document.activeElement.id") == "feed-title"
    keep_screenshot(page, "feed-after-a-click")
    # On disk, with the request that it came from.
    events = room.http.get("/v1/users/reader-00").json()["history"]
    assert events[0]["item"]["title"] == clicked


def test_a_feed_by_keyboard_alone(visit: Visit) -> None:
    page = visit("/")
    page.locator("#feed .card").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "user"
    page.keyboard.press("Control+A")
    page.keyboard.type("somebody new")
    page.keyboard.press("Enter")
    page.locator("#feed-title", has_text="somebody new").wait_for()
    assert page.locator("#read").inner_text() == "Nothing is known of this user yet."
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open":
            break
    page.keyboard.press("Enter")
    page.locator("#history li").first.wait_for()
    page.go_back()
    page.locator("#feed-title", has_text="reader-").wait_for()


def test_titles_are_text_whatever_is_in_them(visit: Visit, room: Any) -> None:
    title = "<img src=x onerror=alert(1)> & <b>bold</b>"
    assert room.http.put("/v1/items/odd%2Fid%3F", json={"title": title}).status_code == 200
    room.http.post("/v1/events", json={"event_id": "odd", "user_id": "a b/c?d", "item_id": "odd/id?", "kind": "click"})
    page = visit("/?user=a%20b%2Fc%3Fd")
    page.locator("#history li").first.wait_for()
    assert texts(page, "#history .title") == [title]
    room.http.delete("/v1/items/odd%2Fid%3F")


def test_an_article_is_added_found_and_given_to_its_readers(
    visit: Visit, room: Any, tmp_path: Path, keep_screenshot: Keep
) -> None:
    page = visit("/console/articles")
    page.locator("#found li").first.wait_for()
    picture = tmp_path / "lake.jpg"
    picture.write_bytes(photograph(99))
    page.get_by_label("Title", exact=True).fill(
        "The lake that football forgot: a long read on a small club by the water"
    )
    page.get_by_label("Text", exact=True).fill("Once a year the pitch is under water.")
    page.get_by_label("Category").fill("sport")
    page.get_by_label("Language").fill("en")
    page.get_by_label("Tags").fill("lake, football")
    page.get_by_label("Picture").set_input_files(picture)
    page.get_by_role("button", name="Add article").click()
    page.locator("#readers tbody tr").first.wait_for()
    assert page.evaluate("document.activeElement.id") == "readers-title"
    assert "Football" not in page.locator("#readers-told").inner_text()
    told = page.locator("#readers-told").inner_text()
    assert re.search(r"is in the first 10 of \d+ of the \d+ users", told)
    page.get_by_label("In the title or id").fill("football forgot")
    page.get_by_role("button", name="Find").click()
    page.locator("#found-told", has_text="1 found").wait_for()
    page.locator("#found li img").wait_for()
    assert "lake, football" in page.locator("#found .meta").inner_text()
    keep_screenshot(page, "articles-after-adding")
    item_id = page.locator("#found .meta").inner_text().split(" · ")[0]
    assert room.http.get(f"/v1/items/{item_id}/image").content == picture.read_bytes()
    reader = page.locator("#readers tbody th a").first
    name = reader.inner_text()
    reader.click()
    page.locator("#feed-title", has_text=name).wait_for()
    assert page.locator("#feed .card", has_text="football forgot").count() == 1
    page.goto("/console/articles")
    page.get_by_label("In the title or id").fill("football forgot")
    page.get_by_role("button", name="Find").click()
    page.locator("#found-told", has_text="1 found").wait_for()
    page.get_by_role("button", name="Take The lake").click()
    page.get_by_role("dialog").get_by_role("button", name="Take off offer").click()
    page.locator("#found .badge", has_text="off offer").wait_for()


def test_variants_are_compared(visit: Visit) -> None:
    page = visit("/console/compare")
    page.locator("#user").fill("reader-01")
    page.locator("#b-category_share").fill("0.25")
    page.get_by_role("button", name="Compare").click()
    page.locator("#feeds .alone").first.wait_for()
    columns = [texts(page, f"#side-{name} ~ ol .title") for name in "AB"]
    assert [len(each) for each in columns] == [8, 8]
    assert page.locator("#feeds .alone").count() > 0
    assert "are not in B" in page.locator("#differences").inner_text()
    # The canary's version, which no experiment asks for.
    page.locator("#b-category_share").fill("")
    page.locator("#b-label").fill("canary")
    page.get_by_role("button", name="Compare").click()
    page.locator("#feeds .note", has_text="version 3").wait_for()
    assert page.locator("#differences").inner_text() == "Both variants give the same feed."


def test_a_label_that_is_not_there_is_told(visit: Visit) -> None:
    page = visit("/console/compare", expected="404")
    page.locator("#user").fill("reader-01")
    page.locator("#b-label").fill("nobody")
    page.get_by_role("button", name="Compare").click()
    page.locator("#problem", has_text="No version of feed has the label nobody.").wait_for()


def test_an_experiment_is_stopped(visit: Visit, room: Any, keep_screenshot: Keep) -> None:
    declare(room, "mix", "two", {"category_share": 0.3}, ramp=0.5)
    page = visit("/console/experiments")
    panel = page.locator(".panel", has=page.get_by_role("heading", name="mix"))
    panel.get_by_role("button", name="Look at mix now").click()
    panel.get_by_text("has 0 users of 100", exact=False).wait_for()
    panel.get_by_label("Ramp in %").fill("80")
    panel.get_by_role("button", name="Set the ramp of mix").click()
    panel.get_by_text("ramp 80 %").wait_for()
    panel.get_by_role("button", name="Stop mix").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    assert room.http.get("/v1/experiments/mix").json()["state"] == "running"
    panel.get_by_role("button", name="Stop mix").click()
    keep_screenshot(page, "experiments-stopping")
    dialog.get_by_role("button", name="Stop it").click()  # a reason is asked for
    assert dialog.is_visible()
    dialog.get_by_label("Why").fill("readers complained")
    dialog.get_by_role("button", name="Stop it").click()
    panel.get_by_text("Why it ended: readers complained").wait_for()
    found = room.http.get("/v1/experiments/mix").json()
    assert (found["state"], found["why"], found["experiment"]["ramp"]) == ("stopped", "readers complained", 0.8)
    assert panel.get_by_role("button").count() == 0


def test_a_model_is_promoted_and_rolled_back(visit: Visit, room: Any, keep_screenshot: Keep) -> None:
    page = visit("/console/models")
    page.get_by_role("button", name="Promote version 3").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("the canary was better")
    dialog.get_by_role("button", name="Promote").click()
    page.locator("#asked", has_text="version 3 answers here.").wait_for()
    page.get_by_role("button", name="Roll back to version 2").click()
    dialog.get_by_label("Why").fill("complaints")
    keep_screenshot(page, "models-rolling-back")
    dialog.get_by_role("button", name="Roll back").click()
    page.locator("#asked", has_text="version 2 answers here.").wait_for()
    assert room.registry.model("feed").holder("champion") == 2
    assert room.http.post("/v1/recommendations", json={"user_id": "u"}).json()["model"]["version"] == 2
    assert "rolled back from version 3: complaints" in page.locator("#history").inner_text()


def test_charts_follow_the_traffic(visit: Visit, room: Any) -> None:
    page = visit("/console/live")
    page.locator("#minutes figure").nth(3).wait_for()

    def feeds() -> int:
        tile = page.locator("#tiles div", has_text="Feeds since start").locator("dd").inner_text()
        return int(tile.replace(",", ""))

    before = feeds()
    for number in range(5):
        feed = room.http.post("/v1/recommendations", json={"user_id": f"live{number}"}).json()
        event = {"event_id": f"live{number}", "user_id": f"live{number}", "item_id": feed["items"][0]["item_id"]}
        room.http.post("/v1/events", json=event | {"kind": "click", "request_id": feed["request_id"]})
    page.wait_for_function(
        "before => [...document.querySelectorAll('#tiles div')].some(each => each.textContent.startsWith('Feeds since')"
        " && Number(each.querySelector('dd').textContent.replace(',', '')) >= before + 5)",
        arg=before,
    )
    charts = {each.split(":")[0]: each for each in texts(page, "#minutes figcaption")}
    assert charts.keys() == {"CTR", "Latency", "Feeds a minute", "Cache hits"}
    assert re.search(r"CTR: [\d.]+ %", charts["CTR"])
    assert re.search(r"median [\d.]+ ms", charts["Latency"])
    assert texts(page, "#raised .badge") == []
    assert "clicks-fall" in page.locator("#alerts").inner_text()
    page.get_by_role("button", name="Pause").click()
    assert page.get_by_role("button", name="Go on").get_attribute("aria-pressed") == "true"


def test_a_wrong_key_is_refused_and_a_right_one_is_kept(
    visit: Visit, open_newsroom: Callable[[], Any], wait_for: Callable[..., None], keep_screenshot: Keep
) -> None:
    keyed = open_newsroom()
    with Store(keyed.where) as store:
        _, few = create_key(store, "reader", ["recommend"])
        _, key = create_key(store, "console", SCOPES)
    bearer = {"authorization": f"Bearer {key}"}
    wait_for(lambda: keyed.http.get("/v1/users", headers=bearer).status_code == 200)
    wait_for(lambda: keyed.http.get("/v1/users").status_code == 401)
    refused = visit("/?user=reader-00", of=keyed, expected="status of 40[13]")
    refused.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    refused.locator("#problem", has_text="Send a key that counts").wait_for()
    assert refused.get_by_role("dialog").count() == 0  # though more than one call was refused
    page = visit("/?user=reader-00", of=keyed, expected="status of 40[13]")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("API key").fill("belfry_000000000000_wrong")
    dialog.get_by_role("button", name="Use key").click()
    page.locator("#key-told", has_text="does not know this key").wait_for()
    keep_screenshot(page, "key-refused")
    assert page.locator("#feed .card").count() == 0
    dialog.get_by_label("API key").fill(few)
    dialog.get_by_role("button", name="Use key").click()
    page.locator("#problem", has_text="This key is not for users.").wait_for()
    page.get_by_role("button", name="Key", exact=True).click()
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Use key").click()
    page.locator("#feed .card img").first.wait_for()  # pictures too come with the key
    page.get_by_role("link", name="Models").click()
    page.locator("#versions tbody tr").first.wait_for()
    assert key not in page.content()
    assert key not in page.url
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("localStorage.length") == 0

"""The console in a real browser, as each kind of user meets it."""

import re

import pytest

pytestmark = pytest.mark.system

SOON_MS = 8_000
"""Longest wait for something to appear; the time that it takes is measured elsewhere."""


def shown(page, selector, text):
    page.locator(selector).filter(has_text=re.compile(text)).first.wait_for(timeout=SOON_MS)


def test_a_wrong_token_is_refused_and_the_right_one_lets_in(stage, browser):
    page = browser.new_page()
    page.goto(f"{stage.url}/cluster")
    assert page.url.endswith("/login")
    page.fill("[name=token]", "wrong")
    page.click("button[type=submit]")
    shown(page, "[role=alert]", "not accepted|n'est pas accepté")
    page.fill("[name=token]", "operator-token")
    page.click("button[type=submit]")
    shown(page, ".viewer", "luc")
    page.close()


def test_leaving_ends_the_session(open_page, stage):
    page = open_page()
    page.click("#leave")
    page.wait_for_url("**/login")
    page.goto(f"{stage.url}/models")
    assert page.url.endswith("/login")


def test_every_view_says_that_the_devices_are_simulated(open_page):
    page = open_page()
    for view in ("./", "models", "cluster"):
        page.goto(page.url.rsplit("/", 1)[0] + "/" + view.removeprefix("./"))
        shown(page, ".b-simulated", "SIMULATED")


def test_real_devices_carry_no_such_banner(open_page, stage):
    stage.tell(calm=True)
    page = open_page("cluster")
    assert page.locator(".b-simulated").count() == 0


def test_an_old_picture_is_called_stale(open_page, stage):
    page = open_page("cluster")
    assert page.locator(".b-stale:visible").count() == 0
    stage.tell(stale_ms=42_000)
    shown(page, ".b-stale", "STALE.*4[0-9] s old")


def test_a_silent_control_plane_is_said_and_the_last_picture_stays(open_page, stage):
    page = open_page("cluster")
    stage.tell(silent=True)
    shown(page, ".b-trouble", "does not answer")
    assert page.locator(".gpu").count() == 32
    stage.tell(silent=False)
    page.locator(".b-trouble").wait_for(state="detached", timeout=SOON_MS)


def test_a_cut_line_is_said_by_the_browser_itself(open_page):
    page = open_page("cluster")
    page.evaluate("window.socket && window.socket.disconnect()")
    shown(page, "#cut", "CONNECTION LOST")


def test_a_crisis_names_its_end_and_the_two_who_approved(open_page):
    shown(open_page(), ".b-mode", "MODE CRISIS.*2 h.*ana, luc.*flood")


def test_a_tenant_sees_its_own_claims_and_no_cluster(open_page):
    page = open_page(token="justice-key")
    shown(page, "#at-claims", "doc-watch")
    assert "defence" not in page.content()
    assert page.locator("nav a", has_text="Cluster").count() == 0


def test_a_waiting_claim_says_why_when_and_what_would_change_it(open_page):
    page = open_page()
    row = page.locator("tr", has_text="triage")
    assert "waiting for others to leave" in row.inner_text()
    assert re.search(r"in \d+ s", row.inner_text())
    row.locator("summary").click()
    assert "1 more GPU of nominal quota would admit it" in row.inner_text()


def test_an_open_detail_stays_open_while_the_page_is_drawn_again(open_page, stage):
    page = open_page()
    page.locator("tr", has_text="triage").locator("summary").click()
    stage.tell(calm=True)
    page.locator(".b-mode").wait_for(state="detached", timeout=SOON_MS)
    assert page.locator("tr", has_text="triage").locator("details").get_attribute("open") is not None


def test_searching_narrows_the_claims(open_page):
    page = open_page()
    page.fill("#claims-search", "brief")
    shown(page, ".count", "1 of 5")
    assert page.evaluate("document.activeElement.id") == "claims-search"


def test_capacity_is_asked_for_after_its_offer_was_shown(open_page, stage):
    page = open_page(token="justice-key")
    assert page.locator("#ask-submit").count() == 0
    page.fill("#ask-name", "night-run")
    page.click("#ask button[type=submit]")
    shown(page, "#at-offer", "1 replica now")
    page.click("#ask-submit")
    shown(page, ".notice", "civil/justice:night-run is asked for")
    assert stage.tell(ping=True) == [
        ["offer", "civil/justice:night-run"],
        ["submit", "civil/justice:night-run", "", "1"],
    ]


def test_an_offer_that_cannot_be_served_cannot_be_submitted(open_page):
    page = open_page(token="justice-key")
    page.fill("#ask-name", "much")
    page.fill("#ask-max", "50")
    page.click("#ask button[type=submit]")
    shown(page, "#at-offer", "never be served")
    assert page.locator("#ask-submit").count() == 0


def test_a_new_key_is_shown_once(open_page):
    page = open_page(token="justice-key")
    page.click("#key-make")
    shown(page, ".secret", "pk-shown-once-only")
    page.reload()
    page.wait_for_selector("#at-keys h2")
    assert page.locator(".secret").count() == 0


def test_a_refusal_is_told_in_the_words_of_the_control_plane(open_page):
    page = open_page(token="justice-key")
    page.click("[data-do=revoke]")
    page.click("#dialog-go")
    shown(page, ".notice", "Refused: this key was made by somebody else")


def test_a_node_is_drained_only_with_a_reason_and_after_the_question(open_page, stage):
    page = open_page("cluster")
    page.click("#cordon-n1")
    page.click("#dialog-go")
    assert page.locator("#dialog").is_visible()
    page.fill("#dialog-reason", "fan replacement")
    page.click("#dialog-go")
    shown(page, ".notice", "n1 is being emptied")
    assert ["cordon", "n1", "fan replacement"] in stage.tell(ping=True)


def test_a_second_person_approves(open_page, stage):
    page = open_page("cluster")
    page.click("#approve-p-7")
    page.click("#dialog-go")
    shown(page, ".notice", "Approved")
    assert ["approve", "p-7"] in stage.tell(ping=True)


def test_a_mode_is_proposed_with_its_time_and_reason(open_page, stage):
    page = open_page("cluster")
    page.click("#mode-crisis")
    page.fill("#dialog-hours", "9")
    page.fill("#dialog-reason", "storm")
    page.click("#dialog-go")
    shown(page, ".notice", "second person")
    assert ["mode", "crisis", "9", "storm"] in stage.tell(ping=True)


def test_the_map_is_walked_with_the_keyboard_alone(open_page):
    page = open_page("cluster")
    page.locator(".gpu").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") == "gpu-GPU-n0-5"
    page.keyboard.press("Enter")
    shown(page, "#at-detail", "GPU-n0-5")
    assert page.evaluate("document.activeElement.id") == "gpu-GPU-n0-5"


def test_escape_closes_the_question_and_gives_the_focus_back(open_page):
    page = open_page("cluster")
    page.focus("#cordon-n0")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "cordon-n0"


def test_the_slider_says_where_it_stands_and_is_sent_once_when_it_rests(open_page, stage):
    page = open_page("models")
    slider = page.locator("[data-slide=weigh]")
    slider.wait_for(timeout=SOON_MS)
    assert slider.get_attribute("aria-valuetext") == "15 % to the canary, 85 % to the claim"
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "18 % to the canary, 82 % to the claim"
    assert page.locator(".slider output").inner_text() == "18 %"
    shown(page, ".notice", "answers 18 % of its requests")
    assert stage.tell(ping=True) == [["weigh", "civil/justice:chat", 18]]
    assert page.evaluate("document.activeElement.dataset.slide") == "weigh", "it keeps the focus when it is drawn again"


def test_both_variants_stand_side_by_side_and_one_is_promoted_only_after_a_question(open_page, stage):
    page = open_page("models", token="justice-key")
    rows = page.locator(".trial tbody tr")
    assert [re.split(r"\s+", text)[:3] for text in rows.all_inner_texts()] == [
        ["fp8", "civil/justice:chat", "85"],
        ["int4", "civil/justice:chat-canary", "15"],
    ]
    page.click("[data-do=promote]")
    assert page.locator("#dialog").is_visible()
    page.click("#dialog-go")
    shown(page, ".notice", "given the canary's variant")
    page.click("[data-do=end]")
    page.click("#dialog-go")
    shown(page, ".notice", "drains and stops")
    assert stage.tell(ping=True) == [["promote", "civil/justice:chat"], ["end", "civil/justice:chat"]]


def test_a_trial_is_started_with_a_part_of_the_requests_and_stays_open_while_it_is_chosen(open_page, stage):
    page = open_page("models")
    page.locator(".trial + details summary").click()
    page.get_by_role("button", name="Try int4 for defence/cyber:triage").click()
    page.fill("#dialog-weight", "2")
    page.click("#dialog-go")
    shown(page, ".notice", "int4 is asked for as a canary of defence/cyber:triage")
    assert stage.tell(ping=True) == [["try", "defence/cyber:triage", "int4", 2]]
    assert page.locator(".trial + details").get_attribute("open") is not None


def test_every_device_says_in_words_what_its_colour_says(open_page):
    page = open_page("cluster")
    said = page.locator(".gpu").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert any("being scrubbed" in each for each in said)
    assert any("not seen" in each for each in said)
    assert all(re.search("Defence|civil|free", each) for each in said)


def test_a_device_without_a_reading_shows_a_question_mark_and_never_zero(open_page):
    page = open_page("cluster")
    assert page.locator("#gpu-GPU-n3-6 span").inner_text() == "?"


def test_a_load_that_changes_is_written_into_its_tile_and_said_in_words(open_page, stage):
    page = open_page("cluster")
    tile = page.locator("#gpu-GPU-n0-1")
    tile.filter(has_text="37 %").wait_for(timeout=SOON_MS)
    assert tile.get_attribute("aria-label").endswith("load 37 %")
    stage.tell(loads=91)
    tile.filter(has_text="91 %").wait_for(timeout=SOON_MS)
    assert (
        page.evaluate("getComputedStyle(document.getElementById('gpu-GPU-n0-1')).getPropertyValue('--load')") == "91%"
    )
    tile.click()
    page.wait_for_selector("#gpu-GPU-n0-1[aria-pressed=true]")
    assert tile.inner_text().endswith("91 %")


def test_what_is_painted_first_gives_way_to_the_page(open_page):
    page = open_page("cluster")
    assert page.locator("#shell").count() == 0
    painted = page.request.get(page.url).text()
    assert 'id="shell" inert' in painted
    assert "SIMULATED" in painted


def test_the_language_is_chosen_and_remembered(open_page):
    page = open_page("cluster")
    with page.expect_navigation():
        page.select_option("#choose-lang", "fr")
    shown(page, "h2", "Nœuds et GPU")
    page.reload()
    shown(page, "h2", "Décisions et événements")
    assert page.evaluate("document.documentElement.lang") == "fr"


def test_the_browsers_language_is_taken_when_none_was_chosen(open_page):
    shown(open_page(locale="de-DE"), "h2", "Anspruch")


def test_light_and_dark_are_chosen_and_remembered(open_page):
    page = open_page()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.select_option("#choose-theme", "dark")
    page.wait_for_function("c => getComputedStyle(document.body).backgroundColor !== c", arg=light)
    page.reload()
    page.wait_for_selector("#at-bar nav")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("view", ["", "models", "cluster"])
def test_nothing_is_wider_than_the_screen(open_page, view, width):
    page = open_page(view, viewport={"width": width, "height": 844})
    for summary in page.locator("#models-others > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "models", "cluster"])
def test_axe_finds_no_barrier(open_page, view, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(f"{view}?theme={theme}")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"][:160] for node in each["nodes"]][:3]) for each in found] == []


def test_nothing_is_fetched_from_anywhere_else(open_page, stage):
    page = open_page("cluster")
    fetched = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert [name for name in fetched if not name.startswith((stage.url, "data:", "blob:"))] == []


def test_what_people_typed_is_never_markup(open_page, stage):
    stage.tell(entry="<img src=x onerror=window.broken=1>")
    page = open_page("cluster")
    shown(page, "#at-timeline", "<img src=x")
    assert page.evaluate("window.broken") is None

"""The page in a real browser."""

import re

import pytest
import pytest_asyncio

from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from gateway.upstream import Upstream
from tests.cli import recorded
from tests.gateway.browser import expect, open_tab
from tests.gateway.conftest import MODEL, serving
from tests.gateway.scripted import MARKUP, Say, ScriptedClient
from tests.stack import generate
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab():
    async with open_tab() as tab:
        yield tab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service():
    """Gives recorded answers; with the URL of its gateway."""
    client = ScriptedClient()
    async with serving(Upstream(client, (MODEL,))) as address:
        client.url = f"http://{address}"
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def page(tab, service):
    page = await tab.open(service.url)
    await expect(page.locator("#model")).to_have_text(MODEL)
    return page


async def ask(page, text):
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


async def rows(page):
    """The texts of the cells of each row of the rounds."""
    return [
        [each.strip() for each in await row.locator("th, td").all_inner_texts()]
        for row in await page.locator("tbody tr").all()
    ]


def shown(text):
    return text.replace(" ", "·")


async def test_a_chat_is_sent_and_the_rounds_of_the_answer_appear(tab, url, stack):
    params = GenerationParams(12, temperature=1, seed=5, num_speculative_tokens=3)
    request = GenerationRequest([ChatMessage("user", "abc")], params, include_steps=True)
    expected = await generate(stack.client, request)
    page = await tab.open(url)
    for name, value in (("Seed", 5), ("Temperature", 1), ("Most tokens", 12), ("(K)", 3)):
        await page.get_by_label(name).fill(str(value))
    await ask(page, "abc")
    await expect(page.locator(".assistant p")).to_have_text(expected.text)
    await expect(page.get_by_role("status")).to_contain_text(
        f"{len(expected.token_ids)} tokens in {len(expected.steps)} rounds"
    )
    await expect(page.locator("tbody")).to_have_count(len(expected.steps))
    drafted = await page.locator("td.text").all_inner_texts()
    assert drafted == [shown(each.text) for step in expected.steps for each in step.drafted]
    assert drafted


async def test_a_round_shows_draft_probability_target_probability_and_verdict(page):
    await ask(page, "hello")
    await expect(page.locator("tbody")).to_have_count(3)
    assert await rows(page) == [
        ["Round 0 · 40.0 ms"],
        ["nothing drafted", "plain The TP 0.250"],
        ["Round 1 · drafted by model · 50.0 ms"],
        ["·quick", "0.500", "0.750", "accepted"],
        ["·red", "0.250", "0.031", "rejected\ncorrection ·brown TP 0.438"],
        ["·fox", "1.000", "3e-5", "dropped"],
        ["Round 2 · drafted by suffix · 45.0 ms"],
        ["·fox", "0.875", "0.938", "accepted"],
        ["", "bonus ↵ TP 1.000"],
    ]


async def test_each_token_of_the_answer_has_the_colour_of_its_origin(page):
    await ask(page, "hello")
    tokens = page.locator(".assistant .token")
    await expect(tokens).to_have_text([each.text for each in recorded.TOKENS])
    kinds = ["plain", "accepted", "corrected", "looked-up", "bonus"]
    await expect(tokens).to_have_class([f"token {each}" for each in kinds])
    await tokens.nth(2).click()
    await expect(page.locator("tbody.chosen th")).to_contain_text("Round 1")


async def test_the_numbers_of_an_answer_are_shown(page):
    await ask(page, "hello")
    numbers = page.get_by_role("region", name="Numbers of this answer")
    # By the service's clock: four tokens behind the first in 110 ms.
    await expect(numbers).to_contain_text("with speculation 36.4", use_inner_text=True)
    for part in ("50 %, 2 of 4", "2 of 3", "50 ms", "100 %, 2 of 2", "0 %, 0 of 1"):
        await expect(numbers).to_contain_text(part)
    # Behind the first round: 95 of 110 ms were spent on verification, in two rounds.
    await expect(numbers).to_contain_text("47.50 ms, 86 %")
    await expect(numbers).to_contain_text("7.47 ms, 14 %")


async def test_an_answer_without_drafts_says_why(page):
    await ask(page, Say.NO_BREAKS)
    await expect(page.locator("#places")).to_contain_text("drafts do not pay")


async def test_speed_without_speculation_is_measured_with_the_same_request(page, service):
    await ask(page, "hello")
    await expect(page.locator("#rates")).to_contain_text("not measured")
    await page.get_by_role("button", name="Measure without speculation").click()
    await expect(page.locator("#rates")).to_contain_text("36.4, 1.00 times")
    first, again = service.requests[-2:]
    assert again.prompt == first.prompt
    assert again.params.seed == first.params.seed
    assert (first.params.num_speculative_tokens, again.params.num_speculative_tokens) == (None, 0)
    await expect(page.locator(".assistant")).to_have_count(1)


async def test_stop_ends_the_generation_and_keeps_what_there_is(page, service):
    service.has_ended.clear()
    await ask(page, Say.ENDLESS)
    await expect(page.locator(".assistant p")).to_have_text("The")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("status")).to_have_text("Stopped.")
    await until(service.has_ended.is_set)
    await expect(page.locator(".assistant p")).to_have_text("The")
    await expect(page.locator(".assistant .note")).to_contain_text("Stopped after 1 token, seed")
    await ask(page, "again")
    await expect(page.locator(".assistant p").nth(1)).to_have_text(recorded.TEXT)


async def test_a_conversation_goes_on_until_a_new_chat_is_begun(page, service):
    await ask(page, "first")
    await expect(page.locator(".assistant p")).to_have_text(recorded.TEXT)
    await ask(page, "second")
    await expect(page.locator(".assistant p").nth(1)).to_have_text(recorded.TEXT)
    assert [each.content for each in service.requests[-1].prompt] == [
        "first",
        recorded.TEXT,
        "second",
    ]
    await page.get_by_role("button", name="New chat").click()
    await expect(page.locator("#messages li")).to_have_count(0)
    await expect(page.locator("tbody")).to_have_count(0)
    await ask(page, "third")
    await expect(page.locator(".assistant p")).to_have_text(recorded.TEXT)
    assert [each.content for each in service.requests[-1].prompt] == ["third"]


async def test_the_rounds_of_an_earlier_answer_can_be_shown_again(page):
    await ask(page, "hello")
    await expect(page.locator("tbody")).to_have_count(3)
    await ask(page, Say.MARKUP)
    await expect(page.locator("tbody")).to_have_count(1)
    await page.get_by_role("button", name="Show its rounds").first.click()
    await expect(page.locator("tbody")).to_have_count(3)


async def test_all_is_done_with_the_keyboard_alone(page, service):
    service.has_ended.clear()
    await expect(page.get_by_label("Message")).to_be_focused()
    await page.keyboard.type(Say.ENDLESS)
    await page.keyboard.press("Enter")
    await expect(page.locator(".assistant p")).to_have_text("The")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("status")).to_have_text("Stopped.")
    await until(service.has_ended.is_set)
    await page.keyboard.type("two lines,")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("one message")
    await page.keyboard.press("Enter")
    await expect(page.locator(".assistant p").nth(1)).to_have_text(recorded.TEXT)
    assert service.requests[-1].prompt[-1].content == "two lines,\none message"


async def test_tab_passes_each_control_visibly_and_leaves_the_page(page):
    await ask(page, "hello")
    await expect(page.locator(".assistant")).to_have_attribute("aria-busy", "false")
    await page.locator("h1").evaluate("h1 => { h1.tabIndex = -1; h1.focus(); }")
    passed = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        found = await page.evaluate(
            """() => {
              const at = document.activeElement, style = getComputedStyle(at);
              const box = at.getBoundingClientRect();
              return at === document.body ? null : {
                name: at.id || at.textContent.trim(),
                isSeen: style.outlineStyle === "solid" && box.width > 0 && box.height > 0,
              };
            }"""
        )
        if found is None or (passed and found["name"] == passed[0]):
            break
        assert found["isSeen"], found
        passed.append(found["name"])
    controls = ("new-chat", "conversation", "Show its rounds", "message", "send", "stop")
    settings = ("temperature", "seed", "num_speculative_tokens", "verification_mode", "max_tokens")
    assert passed == [*controls, "Settings", *settings, "rounds-scroll", "compare"]


async def test_each_control_has_a_name(page):
    for control in await page.locator("button, input, select, textarea").all():
        if await control.is_visible():
            await expect(control).to_have_accessible_name(re.compile(r"\w"))


async def test_a_field_that_is_wrong_is_named_and_focused(page):
    await ask(page, "hello")
    await expect(page.locator("tbody")).to_have_count(3)
    await page.get_by_label("Temperature").fill("999")
    await ask(page, Say.REFUSED)
    await expect(page.get_by_role("alert")).to_contain_text("temperature: is no")
    await expect(page.get_by_label("Temperature")).to_be_focused()
    await expect(page.get_by_label("Temperature")).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("Message")).to_have_value(Say.REFUSED)
    await expect(page.locator("#messages li")).to_have_count(2)
    await expect(page.locator("tbody")).to_have_count(3)
    await page.get_by_label("Temperature").fill("1")
    await expect(page.get_by_label("Temperature")).not_to_have_attribute("aria-invalid", "true")
    await ask(page, "hello")
    await expect(page.get_by_role("alert")).to_be_empty()


async def test_a_number_that_is_none_is_not_sent(page, service):
    before = len(service.requests)
    await page.get_by_label("(K)").fill("2.5")
    await ask(page, "hello")
    await expect(page.get_by_role("alert")).to_contain_text(
        "num_speculative_tokens: must be a whole number"
    )
    await expect(page.get_by_label("(K)")).to_be_focused()
    assert len(service.requests) == before


async def test_a_service_that_is_gone_is_told_and_the_message_is_kept(page):
    await page.context.set_offline(True)
    await ask(page, "hello")
    await expect(page.get_by_role("alert")).to_contain_text("The service does not answer.")
    await expect(page.get_by_label("Message")).to_have_value("hello")
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".assistant p")).to_have_text(recorded.TEXT)
    await expect(page.get_by_role("alert")).to_be_empty()


async def test_an_answer_that_breaks_off_keeps_what_came(page):
    await ask(page, Say.BROKEN_OFF)
    await expect(page.get_by_role("alert")).to_contain_text("the orchestrator is shutting down")
    await expect(page.locator(".assistant p")).to_have_text("The")
    await expect(page.locator(".assistant .note")).to_contain_text("Broke off after 1 token, seed")


async def test_an_api_key_is_asked_for_and_stays_in_the_tab(tab):
    client = ScriptedClient()
    async with serving(Upstream(client, (MODEL,), "fk-of-the-gateway")) as address:
        page = await tab.open(f"http://{address}")
        await expect(page.get_by_role("alert")).to_contain_text("an API key is missing")
        await expect(page.get_by_label("API key", exact=True)).to_be_focused()
        await page.keyboard.type("fk-mine")
        async with page.expect_request("**/v1/models") as asked:
            await page.keyboard.press("Enter")
        headers = await (await asked.value).all_headers()
        assert headers["authorization"] == "Bearer fk-mine"
        await expect(page.locator("#model")).to_have_text(MODEL)
        await expect(page.get_by_label("API key", exact=True)).to_be_hidden()
        await ask(page, "hello")
        await expect(page.locator(".assistant p")).to_have_text(recorded.TEXT)
        assert await page.evaluate("Object.values(sessionStorage)") == ["fk-mine"]
        assert await page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        await page.get_by_role("button", name="Forget the API key").click()
        assert await page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("say", [Say.MARKUP, Say.REFUSED])
async def test_what_looks_like_markup_is_shown_as_text(page, say):
    await ask(page, say)
    await expect(page.locator("main")).to_contain_text(MARKUP)
    assert await page.locator("img, main script").count() == 0
    assert await page.title() == "Forethought"


async def test_a_model_without_conversations_continues_the_text(tab):
    client = ScriptedClient(chat_template="")
    async with serving(Upstream(client, (MODEL,))) as address:
        page = await tab.open(f"http://{address}")
        await expect(page.locator("#model")).to_have_text(MODEL)
        await ask(page, "Once upon")
        await expect(page.locator(".assistant p")).to_have_text(recorded.TEXT)
        await expect(page.locator("tbody")).to_have_count(3)
    assert client.requests[-1].prompt == "Once upon"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_all_without_scrolling_sideways(tab, service, scheme):
    page = await tab.open(service.url, width=360, scheme=scheme)
    await page.get_by_text("Settings").click()
    for say in ("hello", Say.NO_BREAKS):
        await ask(page, say)
        await expect(page.get_by_role("status")).to_contain_text("Answered")
        for part in ("document.documentElement", "document.getElementById('rounds-scroll')"):
            assert await page.evaluate(f"{part}.scrollWidth <= {part}.clientWidth"), part
    await expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_in_light_and_dark(tab, service, scheme):
    page = await tab.open(service.url, scheme=scheme)
    await ask(page, "hello")
    await expect(page.locator("tbody")).to_have_count(3)
    colours = await page.evaluate(
        """() => ["body", "#keys", ".user p", "dt", "tr.dropped td", "tr.accepted .verdict span",
                  "tr.rejected .verdict span", "#send"].map((where) => {
          const at = document.querySelector(where);
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          const over = [];
          for (let each = at; each; each = each.parentElement) over.unshift(each);
          const paint = (colour) => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          for (const each of over) paint(getComputedStyle(each).backgroundColor);
          const back = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          return [where, back, paint(getComputedStyle(at).color)];
        })"""
    )
    assert (sum(colours[0][1]) < 300) is (scheme == "dark")
    for where, back, ink in colours:
        light, dark = sorted((luminance(back), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, where  # WCAG 2.2, 1.4.3


def luminance(rgb):
    """WCAG's relative luminance."""
    parts = [each / 255 for each in rgb]
    r, g, b = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(
    ("motion", "animations"),
    [("reduce", ("none", "none")), ("no-preference", ("appear", "undecided"))],
)
async def test_the_steps_of_a_round_appear_in_turn_unless_motion_is_unwanted(
    page, motion, animations
):
    await page.emulate_media(reduced_motion=motion)
    await ask(page, "hello")
    for where, animation in zip(
        (".accepted .verdict", ".dropped .text *"), animations, strict=True
    ):
        found = page.locator(f"#rounds-table {where}").first
        await expect(found).to_have_css("animation-name", animation)

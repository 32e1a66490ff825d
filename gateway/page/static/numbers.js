// The numbers that matter, of one answer.

import { byId, element, percent } from "./dom.js";

const TIMES = [
  ["draft", "Draft"],
  ["verification", "Verification"],
  ["rejection", "Rejection sampling"],
  ["rest", "Rest"],
];

const WHY_NOTHING = {
  not_asked: "K is 0",
  not_configured: "there is no draft",
  did_not_pay: "drafts do not pay",
  refused: "the draft is refused",
  down: "the draft tier is down",
  late: "drafts come too late",
  nothing_found: "nobody had a guess",
  too_short: "the answer ended before the second round",
};

/** Shows the numbers of an answer; of none where there is none. */
export function showNumbers(answer) {
  rates(answer);
  facts(answer);
  places(answer);
  times(answer);
}

function rates(answer) {
  const rate = { [answer?.speculates ?? true]: answer?.rate, [!(answer?.speculates ?? true)]: answer?.compared };
  const most = Math.max(rate.true ?? 0, rate.false ?? 0);
  const gain = rate.true && rate.false ? `, ${(rate.true / rate.false).toFixed(2)} times` : "";
  byId("rates").replaceChildren(
    ...bar("with speculation", rate.true / most, written(rate.true) + gain, "with"),
    ...bar("without", rate.false / most, written(rate.false), "without"),
  );
  byId("compare").textContent =
    answer && !answer.speculates ? "Measure with speculation" : "Measure without speculation";
}

const written = (rate) => (rate ? rate.toFixed(1) : "not measured");

function facts(answer) {
  const drafts = answer?.steps.filter((step) => step.drafted.length) ?? [];
  const drafted = drafts.reduce((sum, step) => sum + step.drafted.length, 0);
  const accepted = answer?.places.reduce((sum, place) => sum + place.accepted, 0) ?? 0;
  const rounds = answer?.steps.length ?? 0;
  const first = answer?.metrics?.time_to_first_token_ms;
  byId("facts").replaceChildren(
    ...fact("Accepted", drafted ? `${percent(accepted / drafted)}, ${accepted} of ${drafted}` : "–"),
    ...fact("Tokens a round", rounds ? (1 + accepted / rounds).toFixed(2) : "–"),
    ...fact("Rounds with a draft", rounds ? `${drafts.length} of ${rounds}` : "–"),
    ...fact("First token after", first ? `${first.toFixed(0)} ms` : "–"),
  );
}

function places(answer) {
  const shown = answer?.places ?? [];
  const rows = shown.flatMap(({ drafted, accepted }, place) =>
    bar(`${place + 1}`, accepted / drafted, `${percent(accepted / drafted)}, ${accepted} of ${drafted}`, "with"),
  );
  const why = WHY_NOTHING[answer?.metrics?.speculative_decoding.no_draft_reason];
  const nothing = why ? fact("Nothing drafted", why) : fact("Nothing drafted yet", "");
  byId("places").replaceChildren(...(rows.length ? rows : nothing));
}

function times(answer) {
  const found = answer?.times ?? {};
  const known = TIMES.filter(([name]) => name in found);
  const total = known.reduce((sum, [name]) => sum + found[name], 0);
  const parts = known.map(([name]) => {
    const part = element("span", { class: name });
    part.style.setProperty("--share", found[name] / total);
    return part;
  });
  byId("time-bar").replaceChildren(...parts);
  const rows = known.flatMap(([name, title]) =>
    fact(title, `${found[name].toFixed(2)} ms, ${percent(found[name] / total)}`, name),
  );
  byId("times").replaceChildren(...(rows.length ? rows : fact("No round yet", "")));
}

function fact(name, value, kind = "") {
  return [element("dt", kind ? { class: kind } : {}, name), element("dd", {}, value)];
}

function bar(name, share, value, kind) {
  const line = element("dd", { class: kind }, value);
  line.style.setProperty("--share", share || 0);
  return [element("dt", {}, name), line];
}

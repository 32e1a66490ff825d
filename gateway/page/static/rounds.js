// The three steps of each round as a table that grows round by round.

import { byId, element, follow, probability, visible } from "./dom.js";

const STEP_3 = {
  block: "3 Block verification",
  coupled: "3 Choice by shared noise",
};
const table = byId("rounds-table");
follow(byId("rounds-scroll"), table);

/** Shows the rounds of an answer, and no others. */
export function showRounds(answer) {
  for (const body of [...table.tBodies]) body.remove();
  byId("step-3").textContent = STEP_3[answer?.request.verification_mode] ?? "3 Rejection sampling";
  table.append(...(answer?.steps ?? []).map(round));
  byId("no-rounds").hidden = Boolean(answer);
}

/** Adds rounds that have just ended; their three steps appear one after the other. */
export function addRounds(steps) {
  for (const step of steps) {
    const body = round(step);
    body.classList.add("new");
    table.append(body);
  }
}

/** Brings a round into view and marks it. */
export function pointAt(step) {
  for (const body of table.tBodies) {
    const isIt = body.dataset.round === String(step.round);
    body.classList.toggle("chosen", isIt);
    if (isIt) body.scrollIntoView({ block: "center" });
  }
}

function round(step) {
  const total_ms = (step.speculation_ns + step.verification_ns + step.rejection_ns) / 1e6;
  const facts = [`Round ${step.round}`, `${total_ms.toFixed(1)} ms`];
  if (step.drafted.length) facts.splice(1, 0, `drafted by ${step.proposer}`);
  if (step.lookahead === "hit") facts.push("drafted ahead");
  const title = element("th", { scope: "rowgroup", colspan: 4 }, facts.join(" · "));
  const body = element("tbody", { "data-round": step.round }, element("tr", {}, title));
  for (const drafted of step.drafted) body.append(judged(drafted, step));
  if (step.final_origin === "bonus") body.append(ended(step));
  return body;
}

function judged(drafted, step) {
  const verdict = element("td", { class: "verdict" }, element("span", {}, drafted.verdict));
  if (drafted.verdict === "rejected") verdict.append(...final("correction", "corrected", step));
  return element(
    "tr",
    { class: drafted.verdict },
    element("td", { class: "text" }, shown(drafted, "drafted")),
    share(drafted.draft_prob, "dp"),
    share(drafted.target_prob, "tp"),
    verdict,
  );
}

function ended(step) {
  const isPlain = !step.drafted.length;
  const nothing = element("td", { class: "nothing", colspan: 3 }, isPlain ? "nothing drafted" : "");
  const [name, kind] = isPlain ? ["plain", "plain"] : ["bonus", "bonus"];
  const verdict = element("td", { class: "verdict" }, ...final(name, kind, step));
  return element("tr", { class: kind }, nothing, verdict);
}

/** The token that ends a round. */
function final(name, kind, step) {
  const token = { text: step.final_text, token_id: step.final_token_id };
  const prob = element("span", { class: "prob" }, `TP ${probability(step.final_target_prob)}`);
  return [element("div", { class: "final" }, `${name} `, shown(token, kind), " ", prob)];
}

function shown(token, kind) {
  const text = token.text ? visible(token.text) : `token ${token.token_id}`;
  return element("bdi", { class: `token ${kind}` }, text);
}

/** A probability, with a bar as wide as it is large. A coupled draft has none. */
function share(value, kind) {
  if (value === null) return element("td", { class: "share" }, "–");
  const cell = element("td", { class: `share ${kind}` }, probability(value));
  cell.style.setProperty("--share", value);
  return cell;
}

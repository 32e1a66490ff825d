// What the page does: asks, shows what comes, stops, measures.

import { Answer } from "./answer.js";
import { apiKey, get, stream } from "./api.js";
import { AnswerView, clear, showQuestion } from "./conversation.js";
import { byId } from "./dom.js";
import { blame, blameNone, readFields } from "./fields.js";
import { showNumbers } from "./numbers.js";
import { addRounds, pointAt, showRounds } from "./rounds.js";

const CONNECT_MS = 2000;
const message = byId("message");

let said = []; // the conversation, as the API takes it
let shown = null; // the answer whose rounds and numbers are shown
let running = null; // what stops the request under way
let knowsChat = true; // whether the model takes conversations, and not only text
let isDrawn = true;

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(message.value);
});
byId("examples").addEventListener("click", (event) => {
  if (event.target.matches("button")) send(event.target.textContent);
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send(message.value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
byId("stop").addEventListener("click", stop);
byId("compare").addEventListener("click", compare);
byId("new-chat").addEventListener("click", begin);
byId("fields").addEventListener("input", blameNone);
byId("fields").addEventListener("submit", (event) => event.preventDefault());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey.set(byId("api-key").value.trim());
  byId("api-key").value = "";
  showProblem(null);
  connect();
  message.focus();
});
byId("forget-key").addEventListener("click", () => {
  apiKey.forget();
  showProblem(null);
  message.focus();
});

byId("settings").open = matchMedia("(min-width: 60rem)").matches;
begin();
connect();

/** Finds out what is served, and tries again until somebody says so. */
async function connect() {
  try {
    const [model] = (await get("/v1/models")).data;
    knowsChat = Boolean((await get("/tokenizer_info")).chat_template);
    byId("model").textContent = model.id;
    byId("model").title = model.id;
    showProblem(null);
  } catch (error) {
    byId("model").textContent = "not connected";
    showProblem(error);
    if (error.status !== 401) setTimeout(connect, CONNECT_MS);
  }
}

function begin() {
  stop();
  running = null;
  said = [];
  clear();
  choose(null, null);
  byId("status").textContent = "";
  message.focus();
}

async function send(text) {
  if (running || !text.trim()) return;
  blameNone();
  let request;
  try {
    request = asked(text);
  } catch (error) {
    showProblem(error);
    return;
  }
  showProblem(null);
  message.value = "";
  const takeBack = showQuestion(text);
  const answer = new Answer(request);
  const view = new AnswerView(answer, choose);
  const earlier = shown;
  choose(answer, null);
  const before = said;
  const error = await run("Answering.", async (signal) => {
    for await (const event of stream(path(), { ...request, include_steps: true }, signal)) {
      const { steps, tokens } = answer.take(event);
      view.add(tokens);
      if (shown !== answer) continue;
      addRounds(steps);
      drawSoon();
    }
  });
  if (said !== before) return; // another chat was begun
  if (error) showProblem(error);
  view.end(howItEnded(answer, error));
  if (answer.tokens.length) {
    said = [...said, { role: "user", content: text }, { role: "assistant", content: answer.text }];
  } else if (error || !answer.metrics) {
    takeBack();
    view.remove();
    if (shown === answer) choose(earlier, null);
    message.value ||= text;
  }
  showNumbers(shown);
  allow();
}

/** The body of a request. Throws FieldError. */
function asked(text) {
  const fields = { seed: crypto.getRandomValues(new Uint32Array(1))[0], ...readFields() };
  if (!knowsChat) return { prompt: text, ...fields };
  return { messages: [...said, { role: "user", content: text }], ...fields };
}

const path = () => (knowsChat ? "/v1/chat/completions" : "/v1/completions");

/** Asks the same again with speculation where there was none, or without, for its tokens a second. */
async function compare() {
  const answer = shown;
  if (running || !answer?.metrics) return;
  showProblem(null);
  const { num_speculative_tokens: _, ...request } = answer.request;
  if (answer.speculates) request.num_speculative_tokens = 0;
  const how = answer.speculates ? "without" : "with";
  const again = new Answer(request);
  const error = await run(`Measuring the same ${how} speculation.`, async (signal) => {
    for await (const event of stream(path(), request, signal)) again.take(event);
  });
  if (error) showProblem(error);
  answer.compared = again.metrics?.tokens_per_second ?? null;
  if (answer.compared) byId("status").textContent = `Measured ${how} speculation.`;
  showNumbers(shown);
}

/** Does what can be stopped. Returns what went wrong; null where it ended well or was stopped. */
async function run(status, work) {
  const controller = new AbortController();
  running = controller;
  byId("status").textContent = status;
  allow();
  let problem = null;
  try {
    await work(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) problem = error;
  }
  if (running === controller) {
    running = null;
    byId("status").textContent = controller.signal.aborted ? "Stopped." : "";
    allow();
  }
  return problem;
}

function stop() {
  running?.abort();
}

function howItEnded(answer, error) {
  const count = counted(answer.tokens.length, "token");
  const tokens = `${count}, seed ${answer.request.seed}`;
  if (error) return `Broke off after ${tokens}`;
  if (!answer.metrics) return `Stopped after ${tokens}`;
  byId("status").textContent = `Answered with ${count} in ${counted(answer.steps.length, "round")}.`;
  return answer.finishReason === "length" ? `${tokens}; no more were asked for` : tokens;
}

const counted = (number, name) => `${number} ${name}${number === 1 ? "" : "s"}`;

/** Shows the rounds and numbers of an answer, and where one is given, a round. */
function choose(answer, step) {
  if (answer !== shown || !answer) {
    shown = answer;
    showRounds(answer);
    showNumbers(answer);
    allow();
  }
  if (step) pointAt(step);
}

function drawSoon() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    showNumbers(shown);
  });
}

/** Buttons that do nothing now keep their place, so that nobody's focus is lost. */
function allow() {
  const may = { send: !running, stop: running, compare: !running && shown?.metrics };
  for (const [id, isAllowed] of Object.entries(may)) {
    byId(id).setAttribute("aria-disabled", String(!isAllowed));
  }
}

function showProblem(error) {
  const text = error?.message ?? "";
  if (byId("problem").textContent !== text) byId("problem").textContent = text;
  byId("key-form").hidden = error?.status !== 401;
  byId("forget-key").hidden = !apiKey.get();
  if (error?.status === 401) byId("api-key").focus();
  if (error?.param) blame(error.param);
}

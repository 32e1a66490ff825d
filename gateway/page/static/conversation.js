// The chat: what was said, each token of an answer in the colour of its origin.

import { byId, element, follow, probability } from "./dom.js";

const messages = byId("messages");
follow(byId("conversation"), messages);

/** Shows what the user says. Returns what takes it away again. */
export function showQuestion(text) {
  const item = element("li", { class: "user" }, element("p", { dir: "auto" }, text));
  byId("welcome").hidden = true;
  messages.append(item);
  return () => item.remove();
}

/** Forgets all that was said. */
export function clear() {
  messages.replaceChildren();
  byId("welcome").hidden = false;
}

/** One answer of the model, as it grows. */
export class AnswerView {
  /**
   * @param answer what is shown
   * @param choose called with it, and with the step of a token where one is clicked
   */
  constructor(answer, choose) {
    this.answer = answer;
    this.text = element("p", { dir: "auto" });
    this.note = element("span", { class: "note" });
    this.rounds = element("button", { type: "button", class: "quiet" }, "Show its rounds");
    const footer = element("footer", {}, this.note, this.rounds);
    this.item = element("li", { class: "assistant", "aria-busy": "true" }, this.text, footer);
    this.rounds.addEventListener("click", () => choose(answer, null));
    this.text.addEventListener("click", (event) => {
      const token = answer.tokens[event.target.dataset.index];
      if (token) choose(answer, token.step);
    });
    messages.append(this.item);
  }

  /** Adds tokens. */
  add(tokens) {
    for (const token of tokens) {
      if (token.text) this.text.append(this.#shown(token));
    }
  }

  /** Says how it ended. */
  end(note) {
    this.item.setAttribute("aria-busy", "false");
    this.note.textContent = note;
  }

  remove() {
    this.item.remove();
  }

  #shown(token) {
    const probs = [token.kind, `round ${token.step.round}`];
    if (token.draft_prob !== null) probs.push(`DP ${probability(token.draft_prob)}`);
    probs.push(`TP ${probability(token.target_prob)}`);
    const title = probs.join(", ");
    const shown = { class: `token ${token.kind}`, title, "data-index": token.index };
    return element("span", shown, token.text);
  }
}

// One answer: its tokens, the rounds that made them, and what both come to.

const LOOKUPS = new Set(["ngram", "suffix", "counts", "prediction"]);

/** The kind of a token of the answer: its origin, and who drafted it. */
function kindOf(token, step) {
  if (token.origin === "accepted") return LOOKUPS.has(step.proposer) ? "looked-up" : "accepted";
  if (token.origin === "recovered") return "corrected";
  return step.drafted.length ? "bonus" : "plain";
}

const numAccepted = (step) => step.drafted.filter((each) => each.verdict === "accepted").length;

export class Answer {
  /** @param request the body that it was asked with */
  constructor(request) {
    this.request = request;
    this.text = "";
    this.tokens = []; // as the service tells them, each with its `kind` and its `step`
    this.steps = [];
    this.metrics = null; // once it is complete
    this.finishReason = null;
    this.compared = null; // the same with speculation the other way round
  }

  /** Whether drafts were allowed. */
  get speculates() {
    return this.request.num_speculative_tokens !== 0;
  }

  /** Takes an event of the stream. Returns what it brought. */
  take(event) {
    const [choice] = event.choices;
    this.metrics = event.metrics ?? this.metrics;
    this.finishReason = choice?.finish_reason ?? this.finishReason;
    const steps = choice?.steps ?? [];
    this.steps.push(...steps);
    const tokens = (choice?.tokens ?? []).map((token) => this.#placed(token));
    for (const token of tokens) {
      this.firstToken_ms ??= performance.now();
      this.lastToken_ms = performance.now();
      this.tokens.push(token);
      this.text += token.text;
    }
    return { steps, tokens };
  }

  /** Tokens a second: the service's word once there is one, until then by this page's clock. */
  get rate() {
    if (this.metrics) return this.metrics.tokens_per_second;
    const seconds = (this.lastToken_ms - this.firstToken_ms) / 1000;
    return seconds > 0 ? (this.tokens.length - 1) / seconds : null;
  }

  /** Of each place of a draft: how often it was drafted, and how often accepted. */
  get places() {
    const places = [];
    for (const step of this.steps) {
      const accepted = numAccepted(step);
      for (let place = 0; place < step.drafted.length; place++) {
        places[place] ??= { drafted: 0, accepted: 0 };
        places[place].drafted += 1;
        places[place].accepted += place < accepted;
      }
    }
    return places;
  }

  /** Milliseconds of a round: means over the rounds behind the first, which computes the prompt. */
  get times() {
    const later = this.steps.slice(1);
    if (!later.length) return null;
    const mean = (name) => later.reduce((sum, step) => sum + step[name], 0) / later.length / 1e6;
    const times = {
      draft: mean("speculation_ns"),
      verification: mean("verification_ns"),
      rejection: mean("rejection_ns"),
    };
    if (this.metrics) {
      const whole = this.metrics.generation_time_ms / later.length;
      times.rest = Math.max(whole - times.draft - times.verification - times.rejection, 0);
    }
    return times;
  }

  #placed(token) {
    const position = this.steps[0].position + token.index;
    const step = this.steps.findLast((each) => each.position <= position);
    return { ...token, step, kind: kindOf(token, step) };
  }
}

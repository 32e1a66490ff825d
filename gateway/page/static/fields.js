// The settings of a request, each field under the name that the API gives it.

import { byId } from "./dom.js";

const NUMBERS = ["temperature", "seed", "num_speculative_tokens", "max_tokens"];
const FIELDS = [...NUMBERS, "verification_mode"];

/** A field whose content is none that could be sent. */
export class FieldError extends Error {
  constructor(message, param) {
    super(message);
    this.param = param;
  }
}

/** What the fields ask for; what is left open is left out. Throws FieldError. */
export function readFields() {
  const read = {};
  for (const name of NUMBERS) {
    const field = byId(name);
    if (field.validity.badInput) throw new FieldError(`${name}: must be a number`, name);
    if (field.value === "") continue;
    read[name] = field.valueAsNumber;
    if (name !== "temperature" && !Number.isSafeInteger(read[name])) {
      throw new FieldError(`${name}: must be a whole number, of at most 15 digits`, name);
    }
  }
  if (byId("verification_mode").value) read.verification_mode = byId("verification_mode").value;
  return read;
}

/** Marks the field that is at fault, and goes there. */
export function blame(param) {
  if (!FIELDS.includes(param)) return;
  byId("settings").open = true;
  const field = byId(param);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "problem");
  field.focus();
}

/** Takes all marks away. */
export function blameNone() {
  for (const name of FIELDS) {
    byId(name).removeAttribute("aria-invalid");
    byId(name).removeAttribute("aria-describedby");
  }
}

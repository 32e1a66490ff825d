// Elements. Text is only ever put in as text, whoever wrote it.

/** The element with an id that index.html has. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is a string becomes a text node. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A token as it is shown by itself: what is no letter has a symbol. */
export function visible(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·");
}

/** Three decimals, and never a zero that is none. */
export function probability(value) {
  if (value === 0) return "0";
  return value >= 0.0005 ? value.toFixed(3) : value.toExponential(0);
}

/** A share as a percentage. */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** Keeps a scrolled element at the end of its content while that grows, unless its reader scrolls back. */
export function follow(scroller, content) {
  const NEAR_PX = 24;
  let follows = true;
  let last = 0;
  scroller.addEventListener("scroll", () => {
    if (scroller.scrollTop < last) follows = false;
    if (scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX) follows = true;
    last = scroller.scrollTop;
  });
  const observer = new ResizeObserver(() => {
    if (follows) scroller.scrollTop = scroller.scrollHeight;
  });
  observer.observe(scroller);
  observer.observe(content);
}

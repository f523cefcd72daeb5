// The instruction, with the agent's attention over its words at this step as the color behind them.

const NO_SPACE_BEFORE = /^[.,;:!?)\]}'’”%।。，、！？；：…]+$/;

/** Whether a language is written without spaces between words. */
function isUnspaced(language) {
  return /^(zh|ja|th)\b/i.test(language);
}

const MARKER = /^<[A-Za-z]+>$/; // <BOS>, <EOS>, <hi>: read by the agent, written by nobody

/** Letters, digits and vowel signs of a text, one by one, in a form that tokenizers do not change. */
function lettersOf(text) {
  return text.normalize("NFKD").toLowerCase().match(/[\p{L}\p{N}\p{M}]/gu) ?? [];
}

/** End of the instruction that the agent did not read, as long ones are cut off; "" where it read all. */
function unreadPart(instruction, words) {
  const read = lettersOf(words.filter((word) => !MARKER.test(word)).join(""));
  const whole = lettersOf(instruction);
  if (!read.length || read.length >= whole.length || read.some((letter, i) => letter !== whole[i])) return "";
  let [at, seen] = [0, 0];
  for (const character of instruction) {
    if (seen >= read.length) break;
    seen += lettersOf(character).length;
    at += character.length;
  }
  return instruction.slice(at).replace(/^[\p{M}\p{P}\s]+/u, "").trim();
}

/** Draw the instruction of the agent in focus into `root`. */
function drawWords(root) {
  const { episode } = state;
  const agent = walker(state.focus);
  const walk = walkOf(agent);
  const instruction = walk?.instruction ?? episode.instruction; // live: the walk that was kept had its own
  root.lang = languageTag(episode.language);
  root.className = `instruction agent-${agent}`;
  if (!walk?.words) {
    root.replaceChildren(el("span", {}, instruction || (isWaiting() ? "Type an instruction on the left, or take an episode." : "(no instruction)")));
    root.title = "";
    return;
  }
  const decision = decisionAt(currentScan(), walk, stepWithin(walk, state.step));
  const unknown = new Set(walk.unknown ?? []);
  const strongest = decision.words ? Math.max(...decision.words, 1e-9) : 1;
  const unspaced = isUnspaced(root.lang);
  const pieces = [];
  walk.words.forEach((word, i) => {
    if (i && !unspaced && !NO_SPACE_BEFORE.test(word)) pieces.push(" ");
    const weight = decision.words?.[i] ?? null;
    const facts = [weight === null ? "no attention at this step" : `attention ${number(weight, 3)}`];
    if (unknown.has(i)) facts.push("the agent had never seen this word in training");
    const marker = MARKER.test(word);
    const span = el("span", { class: `word${unknown.has(i) && !marker ? " is-unknown" : ""}${marker ? " is-marker" : ""}`, title: facts.join(" · ") }, word);
    if (weight !== null) span.style.setProperty("--weight", (weight / strongest).toFixed(3));
    pieces.push(span);
  });
  const unread = unreadPart(instruction, walk.words);
  if (unread) pieces.push(" ", el("span", { class: "unread", title: `not read: the agent takes ${walk.words.length} tokens at most` }, unread));
  root.replaceChildren(...pieces);
  if (decision.words) showWord(root, root.querySelectorAll(".word")[decision.words.indexOf(Math.max(...decision.words))]);
  root.title = unknown.size ? "" : instruction;
}

/** Scroll a long instruction so that a word is seen. */
function showWord(root, word) {
  if (!word || root.scrollHeight <= root.clientHeight) return;
  const top = word.offsetTop - root.offsetTop;
  if (top < root.scrollTop || top + word.offsetHeight > root.scrollTop + root.clientHeight) root.scrollTop = top - root.clientHeight / 2;
}

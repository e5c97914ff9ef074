/**
 * Names: what can be one, and the colour in which it appears.
 */

const NAME_LENGTH = 32; // characters
const COLOUR_COUNT = 12; // chat.css has as many

/** Why nobody can be called so; nothing if somebody can. The server has the last word, with the same rules. */
export function complaint(name) {
  if (!name) return "a name must not be empty";
  if ([...name].length > NAME_LENGTH) return `a name must not have more than ${NAME_LENGTH} characters`;
  if (/[\p{C}\p{Z}]/u.test(name.replaceAll(" ", ""))) return "a name must not have characters that cannot be seen";
  if (/[[\]():]/.test(name)) return "a name must not have [ ] ( ) : in it";
  return "";
}

/** The name, in its colour, the same wherever and whenever it appears. */
export function nameElement(name) {
  const element = document.createElement("bdi"); // so that a name cannot turn the text around it
  element.className = `name colour-${hash(name) % COLOUR_COUNT}`;
  element.textContent = name;
  return element;
}

/** FNV-1a, 32 bits. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

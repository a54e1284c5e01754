// Plays the recorded steps in Node.js: `node page/check.mjs` prints how far the page is from the run.
import { readFile } from "node:fs/promises";
import { open, compare } from "./player.mjs";

const load = async (name) => {
  const bytes = await readFile(new URL(name, import.meta.url));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};
console.log(JSON.stringify(await compare(await open(load))));

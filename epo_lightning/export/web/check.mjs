// Plays the recorded steps in Node.js: `node page/check.mjs` prints how far the page is from the run.
import { readFile } from "node:fs/promises";
import { open } from "./policy.mjs";
import { Task } from "./task.mjs";

const load = async (name) => {
  const bytes = await readFile(new URL(name, import.meta.url));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};
const player = await open(load);
const task = await Task.open(load, player.content);
console.log(JSON.stringify(await task.compare(player, true)));

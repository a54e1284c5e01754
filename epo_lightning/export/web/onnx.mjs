// Files of ONNX by onnxruntime; nothing here knows what they compute.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

export const floats = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);
export const row = (values) => floats(values, [1, values.length]);
export const whole = (values) => new ort.Tensor("int64", BigInt64Array.from(values.map(BigInt)), [values.length]);
export const session = async (bytes) => ort.InferenceSession.create(new Uint8Array(bytes));

/** The largest differences of what is noted, by name; NaN counts as infinitely far. */
export class Differences {
  constructor(...names) {
    for (const name of names) this[name] = 0;
  }

  note(name, value, wanted) {
    const off = Math.abs(value - wanted);
    this[name] = Math.max(this[name], Number.isNaN(off) ? Number.MAX_VALUE : off);
  }

  noteAll(name, values, wanted) {
    if (values.length !== wanted.length) this[name] = Number.MAX_VALUE;
    else for (let k = 0; k < wanted.length; k++) this.note(name, values[k], wanted[k]);
  }
}

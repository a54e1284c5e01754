// An Allegro-Kuka task: its rules are files of ONNX, its physics MuJoCo's build for browsers.
import loadMujoco from "./mujoco.js";
import { Differences, row, session } from "./onnx.mjs";
import { act, agentOf, noMemory } from "./policy.mjs";
import { View } from "./view.mjs";

const HORIZONS = [1, 10, 30, 60, 120];
const SPARE = new Array(16).fill(0.5); // for goals that this page reaches and the run does not
const numbers = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float64Array(bytes.buffer);
};
const wxyz = ([x, y, z, w]) => [w, x, y, z];

/** Random numbers as the rules ask for them. */
const random = (draws) =>
  draws.flatMap(({ kind, size }) =>
    Array.from({ length: size }, () =>
      kind === "uniform" ? Math.random() : Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())));

/** The next ones of a list. */
const from = (list) => {
  let place = 0;
  return (draws) => {
    const count = draws.reduce((sum, draw) => sum + draw.size, 0);
    place += count;
    if (place > list.length) throw new Error("the page draws more random numbers than the run");
    return list.slice(place - count, place);
  };
};

export class Task {
  static async open(load, content) {
    const mujoco = await loadMujoco();
    const rules = {};
    for (const name of Object.keys(content.rules)) rules[name] = await session(await load(`${name}.onnx`));
    const models = content.objects.map((object) => scene(mujoco, content, object));
    return new Task(content, mujoco, rules, models);
  }

  constructor(content, mujoco, rules, models) {
    Object.assign(this, { content, mujoco, rules, models });
    this.datas = models.map((model) => new mujoco.MjData(model));
  }

  get version() {
    return this.mujoco.mj_versionString();
  }

  /** A new episode with one of the objects; `draw` gives the random numbers. */
  async begin(draw = random, object = Math.floor(Math.random() * this.models.length), memory = null) {
    const model = this.models[object], data = this.datas[object];
    const episode = { object, model, data, memory: memory ?? this.content.objects[object].memory, due: false, near: 0 };
    await this.restart(episode, draw);
    return episode;
  }

  async restart(episode, draw) {
    const said = await this.run("begin", episode, {}, draw);
    const { model, data } = episode, joints = this.content.joints;
    this.mujoco.mj_resetData(model, data);
    data.qpos.set(said.joint_pos.data.slice(0, joints));
    data.qvel.set(said.joint_vel.data.slice(0, joints));
    this.placeObject(episode, said);
    this.mujoco.mj_step1(model, data);
    this.placeGoal(episode, said);
    episode.failed = 0;
    episode.due = false;
    episode.observation = Array.from((await this.run("first", episode, readout(episode))).obs.data);
  }

  placeObject({ data }, { object_pos, object_quat }) {
    const { joints } = this.content;
    data.qpos.set(object_pos.data, joints);
    data.qpos.set(wxyz(object_quat.data), joints + 3);
    data.qvel.fill(0, joints, joints + 6);
  }

  placeGoal({ data }, { goal_pos, goal_quat }) {
    data.mocap_pos.set(goal_pos.data);
    data.mocap_quat.set(wxyz(goal_quat.data));
  }

  /** One function of the rules; what it remembers stays with the episode. */
  async run(name, episode, feeds, draw) {
    const { inputs, draws } = this.content.rules[name];
    const given = { ...feeds, memory: episode.memory, scales: this.content.objects[episode.object].scales };
    if (draws.length) given.draws = draw(draws);
    const said = await this.rules[name].run(Object.fromEntries(inputs.map((each) => [each, row(given[each])])));
    if (said.memory_out) episode.memory = said.memory_out.data;
    return said;
  }

  /** Goals and objects where they are due, then what the drives and the object are told. */
  async before(episode, action, draw) {
    if (episode.due) {
      const said = await this.run("goal", episode, {}, draw);
      this.placeGoal(episode, said);
      if (this.content.replace_object) this.placeObject(episode, said);
    }
    return this.run("before", episode, { action, ...readout(episode) }, draw);
  }

  physics(episode, targets, force) {
    const { model, data } = episode, { decimation, object_body } = this.content;
    data.ctrl.set(targets);
    data.xfrc_applied.set(force, 6 * object_body);
    try {
      for (let k = 0; k < decimation; k++) this.mujoco.mj_step(model, data);
      this.mujoco.mj_step1(model, data);
    } catch {
      episode.failed = 1;
    }
    for (const kind of this.content.bad_state) if (data.warning.get(kind).number > 0) episode.failed = 1;
  }

  async after(episode) {
    const said = await this.run("after", episode, readout(episode));
    const value = (name) => said[name].data[0];
    episode.due = value("due") > 0;
    episode.observation = Array.from(said.obs.data);
    const over = value("terminated") > 0 || value("truncated") > 0;
    return { reward: value("reward"), success: value("success"), over };
  }

  /** One control step. */
  async step(episode, action, draw = random) {
    const told = await this.before(episode, action, draw);
    this.physics(episode, told.targets.data, told.force.data);
    return this.after(episode);
  }

  /**
   * How far this is from the recorded steps of the run: actions and rules on recorded states, and one control step of
   * the physics from each of them. Then how far observations are apart after some steps from the same start with the
   * same random numbers, with recorded actions and with its own, where `further` is wanted.
   */
  async compare(player, further = false) {
    const { content } = this;
    const far = new Differences("actions", "task", "physics");
    const apart = { with_the_same_actions: {}, left_to_itself: {} };
    let steps = 0;
    for (const clip of content.rehearsal) {
      const recorded = Object.fromEntries(Object.entries(clip.series).map(([name, text]) => [name, numbers(text)]));
      const at = (name, t) => recorded[name].subarray(t * content.sizes[name], (t + 1) * content.sizes[name]);
      const who = agentOf(content, clip.agent), length = clip.draws.length;
      const fresh = () => this.begin(from(clip.begin), clip.object, clip.memory);

      let episode = await fresh(), memory = noMemory(content);
      far.noteAll("task", episode.observation, at("observation", 0));
      for (let t = 0; t < length; t++) {
        const said = await act(player, at("observation", t), who, memory);
        memory = said.memory;
        far.noteAll("actions", said.action, at("action", t));
        const told = await this.before(episode, at("action", t), from(clip.draws[t]));
        far.noteAll("task", told.targets.data, at("targets", t));
        far.noteAll("task", told.force.data, at("force", t));
        this.physics(episode, at("targets", t), at("force", t));
        const { data } = episode, moved = [...data.qpos, ...data.qvel, ...data.sensordata];
        at("moved", t).forEach((value, k) => far.note("physics", moved[k] / Math.max(1, Math.abs(value)), value / Math.max(1, Math.abs(value))));
        data.qpos.set(at("moved", t).subarray(0, data.qpos.length));
        data.qvel.set(at("moved", t).subarray(data.qpos.length, data.qpos.length + data.qvel.length));
        data.sensordata.set(at("moved", t).subarray(data.qpos.length + data.qvel.length));
        data.qacc_warmstart.set(at("warmstart", t));
        const after = await this.after(episode);
        far.noteAll("task", episode.observation, at("observation", t + 1));
        const [reward, success, over] = at("outcome", t), size = Math.max(1, Math.abs(reward));
        far.noteAll("task", [after.reward / size, after.success, Number(after.over)], [reward / size, success, over]);
        steps++;
      }

      for (const [name, found] of further ? Object.entries(apart) : []) {
        episode = await fresh();
        memory = noMemory(content);
        for (let t = 0, most = 0; t < length; t++) {
          const said = await act(player, episode.observation, who, memory);
          memory = said.memory;
          const action = name === "left_to_itself" ? said.action : at("action", t);
          const { over } = await this.step(episode, action, from([...clip.draws[t], ...SPARE]));
          const wanted = at("observation", t + 1);
          episode.observation.forEach((value, k) => { most = Math.max(most, Math.abs(value - wanted[k])); });
          if (HORIZONS.includes(t + 1)) found[t + 1] = Math.max(found[t + 1] ?? 0, most);
          if (over) break;
        }
      }
    }
    return { steps, ...far, apart, mujoco: this.version, mujoco_of_the_run: content.mujoco };
  }

  draw(canvas, episode) {
    this.view ??= new View(canvas, this.content.camera);
    const { goal_radius, goal_field } = this.content;
    const spheres = goal_radius ? [{ centre: episode.memory.slice(goal_field, goal_field + 3), radius: goal_radius, colour: [0.1, 0.75, 0.35, 0.3] }] : [];
    this.mujoco.mj_kinematics(episode.model, episode.data);
    this.view.draw(episode.model, episode.data, spheres);
  }
}

const readout = ({ model, data, failed }) => ({
  position: data.qpos.slice(0, model.nu),
  velocity: data.qvel,
  sensors: data.sensordata,
  failed: [failed],
});

/** The model of the run, number for number: the text says what there is, the arrays how large it is. */
function scene(mujoco, content, object) {
  const model = mujoco.MjModel.from_xml_string(content.scene.xml);
  for (const [name, value] of Object.entries(content.scene.option)) model.opt[name] = value;
  for (const [name, text] of Object.entries({ ...content.scene.arrays, ...object.arrays })) {
    const values = numbers(text), own = model[name];
    if (own === undefined || own.length !== values.length) throw new Error(`the scene of the page has other ${name}`);
    // how geoms are nested into boxes depends on the last digits of their places, which the text lacks
    if (own instanceof Float64Array || own instanceof Float32Array || name.startsWith("bvh_")) own.set(values);
    else if (!own.every((value, k) => Number(value) === values[k])) throw new Error(`the scene of the page has other ${name}`);
  }
  return model;
}

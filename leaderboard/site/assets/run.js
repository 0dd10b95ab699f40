/* Show one run. Its data are in the script that is named after the first digits of its key. */
(() => {
  "use strict";
  const target = document.getElementById("run");
  const title = document.getElementById("run-title");
  const meanings = JSON.parse(document.getElementById("meanings").textContent);
  const prefixes = new Set(target.dataset.prefixes.split(" "));
  const digits = target.dataset.prefixes.split(" ")[0].length;
  const SVG = "http://www.w3.org/2000/svg";
  const loaded = new Map();
  let wanted = "";

  const make = (tag, text, ...children) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const shown = (value) => {
    if (value === null || value === undefined || value === "") return "–";
    if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
    return String(value);
  };

  // -- tables -------------------------------------------------------------------------------------
  const region = (label, table) => {
    const div = make("div", null, table);
    div.className = "scroll";
    div.tabIndex = 0;
    div.setAttribute("role", "region");
    div.setAttribute("aria-label", label);
    return div;
  };
  const row = (cells, tag, words) => {
    const line = document.createElement("tr");
    cells.forEach((text, at) => {
      const cell = make(at ? tag : "th", text);
      if (!at || tag === "th") cell.scope = tag === "th" ? "col" : "row";
      if (at && words) cell.className = "words";
      line.append(cell);
    });
    return line;
  };
  const table = (caption, head, rows, words = false) => {
    const element = make("table", null, make("caption", caption));
    element.append(make("thead", null, row(head, "th", words)), make("tbody", null, ...rows.map((cells) => row(cells, "td", words))));
    return region(caption, element);
  };
  const facts = (run, names, caption) => table(caption, ["field", "value", "meaning"],
    names.map((name) => [name, shown(run[name]), meanings[name] || ""]), true);
  const layers = (run) => {
    const rows = (run.layer_names || []).map((name, at) => {
      const [size, kept] = [run.layer_sizes[at], run.layer_kept[at]];
      const share = size ? `${(100 * (1 - kept / size)).toFixed(3)} %` : "–";
      return [name, size.toLocaleString("en"), kept.toLocaleString("en"), share];
    });
    return rows.length ? table("Weights of each prunable layer", ["layer", "weights", "kept", "sparsity"], rows)
      : make("p", "This record does not list its layers.");
  };

  // -- the curve ----------------------------------------------------------------------------------
  const curve = (data) => {
    if (!data) return make("p", "This site has no curve of this run.");
    const points = data.epoch.map((epoch, at) => [epoch ?? at + 1, data.accuracy[at]])
      .filter(([, accuracy]) => accuracy !== null);
    const [W, H, L, B, T, R] = [680, 260, 56, 36, 12, 16];
    const xs = points.map(([x]) => x), ys = points.map(([, y]) => 100 * y);
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const low = Math.min(...ys), high = Math.max(...ys), margin = Math.max((high - low) * 0.08, 0.1);
    const [y0, y1] = [low - margin, high + margin];
    const x = (v) => L + (W - L - R) * (x1 > x0 ? (v - x0) / (x1 - x0) : 0.5);
    const y = (v) => H - B - (H - B - T) * (v - y0) / (y1 - y0);
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, class: "curve", role: "img",
      "aria-label": `Accuracy by epoch: ${ys[0].toFixed(2)} % in epoch ${xs[0]}, ${ys.at(-1).toFixed(2)} % in epoch ${xs.at(-1)}` });
    const rough = (y1 - y0) / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    for (let v = Math.ceil(y0 / step) * step; v <= y1; v += step) {
      svg.append(draw("line", { class: "grid", x1: L, x2: W - R, y1: y(v), y2: y(v) }),
        draw("text", { x: L - 8, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0)));
    }
    const ticks = [...new Set([0, 1, 2, 3, 4].map((at) => Math.round(x0 + (x1 - x0) * at / 4)))];
    for (const v of ticks) svg.append(draw("text", { x: x(v), y: H - B + 18, "text-anchor": "middle" }, String(v)));
    svg.append(draw("text", { x: (L + W - R) / 2, y: H - 4, "text-anchor": "middle" }, "epoch"));
    svg.append(draw("polyline", { class: "line", points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(100 * b).toFixed(1)}`).join(" ") }));
    for (const [a, b] of points.length <= 60 ? points : []) {
      const dot = draw("circle", { class: "dot", cx: x(a), cy: y(100 * b), r: 3 });
      dot.append(draw("title", {}, `epoch ${a}: ${(100 * b).toFixed(2)} %`));
      svg.append(dot);
    }
    return region("Accuracy in percent by epoch", svg);
  };

  // -- the page -----------------------------------------------------------------------------------
  const command = (run) => {
    if (!run.command) return make("p", "An option of this run cannot be written on a command line. The record has the whole spec.");
    const device = run.cuda ? " --device cuda" : "";
    const threads = run.threads && run.threads !== 1 ? ` --threads ${run.threads}` : "";
    const text = `${run.command} --density ${run.density_asked} --seed ${run.seed}${device}${threads}`;
    const copy = make("button", "Copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; } catch { copy.textContent = "Copy failed; select the text"; }
    });
    const code = make("pre", null, make("code", text));
    code.tabIndex = 0;
    return make("div", null, code, copy);
  };
  const mask = (run) => {
    const list = make("dl");
    list.className = "facts";
    for (const name of ["mask_file", "mask_sha256"]) list.append(make("div", null, make("dt", name), make("dd", shown(run[name]))));
    if (!run.mask_offered) {
      const why = run.mask_file ? "This site does not offer this file. Its name has the first digits of its sha256." : "";
      return make("div", null, list, ...(why ? [make("p", why)] : []));
    }
    const link = make("a", `${run.key}.safetensors`);
    link.href = `masks/${run.key}.safetensors`;
    link.download = "";
    list.append(make("div", null, make("dt", "file"), make("dd", null, link)));
    list.append(make("div", null, make("dt", "sha256 of the file"), make("dd", run.mask_offered)));
    return list;
  };
  const show = (run) => {
    const control = run.control === "none" ? "" : `, ${run.control}`;
    const name = `${run.method_label}${control} at ${Number((100 * (1 - run.density_asked)).toPrecision(6))} % sparsity, seed ${run.seed}`;
    title.textContent = name;
    document.title = `${name} · paibench`;
    const accuracy = run.accuracy === undefined ? "no accuracy" : `accuracy ${(100 * run.accuracy).toFixed(2)} %`;
    const lead = make("p", `${run.status}, ${accuracy}, ${run.model} on ${run.dataset}${run.reason ? `: ${run.reason}` : ""}. Verification: ${run.mark}.`);
    lead.className = "lead";
    const key = make("p", "Key ", make("code", run.key));
    const asked = ["dataset", "model", "recipe", "init", "method_label", "control", "density_asked", "seed"];
    // Fields without a value are listed too, and shown as a dash.
    const rest = Object.keys(meanings).filter((each) => !asked.includes(each)
      && !/^layer_|_percent$|^(key|spec|compression|mask_file|mask_sha256)$/.test(each)).sort();
    target.replaceChildren(lead, key,
      make("h2", "Accuracy by epoch"), curve(run.curve),
      make("h2", "Reproduce this run"), command(run),
      make("h2", "Mask"), mask(run),
      make("h2", "Spec"), facts(run, asked, "The spec of this run"),
      make("h2", "Layers"), layers(run),
      make("h2", "Record"), facts(run, rest, "The results of this run"));
  };
  const fail = (text) => { title.textContent = "Run"; target.replaceChildren(make("p", text)); };
  const find = (runs) => {
    const keys = Object.keys(runs || {}).filter((key) => key.startsWith(wanted));
    if (!keys.length) { fail(`No run of this site has the key ${wanted}.`); return; }
    if (keys.length > 1) { fail(`${keys.length} runs have a key that begins with ${wanted}.`); return; }
    try { history.replaceState(null, "", `#${keys[0]}`); } catch { /* the short key works as well */ }
    show({ key: keys[0], ...runs[keys[0]] });
  };
  window.paibenchRuns = (runs) => { loaded.set(document.currentScript.dataset.prefix, runs); };
  const load = () => {
    if (location.hash === "#content") return;
    const asked = location.hash.slice(1);
    if (!/^[0-9a-f]{8,40}$/.test(asked)) { fail("Add the key of a run to the address: run.html#KEY. The pages of methods link to their runs."); return; }
    wanted = asked;
    const prefix = wanted.slice(0, digits);
    if (loaded.has(prefix)) { find(loaded.get(prefix)); return; }
    if (!prefixes.has(prefix)) { find(null); return; }
    const script = document.createElement("script");
    script.src = `data/runs/${prefix}.js`;
    script.dataset.prefix = prefix;
    script.addEventListener("load", () => find(loaded.get(prefix)));
    script.addEventListener("error", () => find(null));
    document.head.append(script);
  };
  window.addEventListener("hashchange", load);
  load();
})();

/* Draw the chart of a track from the specification in its page, in the colours of the theme. */
(() => {
  "use strict";
  const target = document.getElementById("chart");
  const source = document.getElementById("chart-spec");
  if (!target || !source || !window.vegaEmbed) return;
  const spec = JSON.parse(source.textContent);
  const whole = document.getElementById("whole");
  const picked = spec.params.find((param) => param.name === "picked");
  const highlighted = picked.value.map((each) => each.method);
  const densities = spec.datasets[spec.data.name].map((point) => point.density);
  const narrow = () => target.clientWidth < 560;
  let drawn = null, view = { kind: "", uses: "", q: "", lines: null, range: "" };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = () => {
    const [ink, faint, line] = ["--ink", "--soft", "--line"].map(color);
    const font = getComputedStyle(document.body).fontFamily;
    return { font, view: { stroke: null },
      axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: faint, tickColor: faint,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
      legend: { labelColor: ink, labelFontSize: 12, symbolOpacity: 1, orient: "bottom",
        columns: Math.max(1, Math.floor(target.clientWidth / 210)) } };
  };
  const change = (detail) => document.dispatchEvent(new CustomEvent("paibench-change", { detail }));
  const shown = () => {
    const copy = structuredClone(spec);
    copy.params.find((param) => param.name === "picked").value =
      (view.lines || highlighted).map((method) => ({ method }));
    copy.layer = copy.layer.filter((layer) => layer.mark.type !== "text" || !narrow());
    const enlarged = whole && view.range !== "all";
    for (const layer of copy.layer) {
      // the room at the right is for the labels
      if (narrow() && layer.encoding.x && layer.encoding.x.scale) layer.encoding.x.scale.domain = [Math.min(...densities), Math.max(...densities)];
      if (layer.mark.type === "point" && layer.mark.color === "white") layer.mark.color = color("--paper");
      if (!enlarged) continue;
      layer.mark.clip = layer.mark.type !== "text";
      if (layer.mark.type === "text") {
        layer.encoding.y.field = "label_near";
        for (const step of layer.transform) step.filter = step.filter.replace("datum.label", "datum.label_near");
      }
      if (layer.encoding.y) layer.encoding.y.scale = { domain: [Number(target.dataset.low), Number(target.dataset.high)] };
    }
    return copy;
  };
  const signal = () => {
    const kind = ["ranked", "elsewhere", "controls"].includes(view.kind) ? view.kind : "all";
    drawn.view.signal("kind", kind).signal("uses", view.uses || "all").signal("query", view.q).runAsync();
  };
  const draw = async () => {
    if (drawn) drawn.finalize();
    // `ast` avoids eval, which the policy of the page forbids. The styles are in site.css. A filter may
    // leave a layer without points, of which Vega would warn.
    drawn = await window.vegaEmbed(target, shown(), { ast: true, actions: false, renderer: "svg", mode: "vega-lite",
      logLevel: 1, defaultStyle: false, tooltip: { disableDefaultStyle: true }, config: config() });
    if (whole) whole.control.checked = view.range === "all";
    drawn.view.addSignalListener("picked", (_, value) => {
      const lines = value.method || [];
      const usual = lines.length === highlighted.length && highlighted.every((name) => lines.includes(name));
      view.lines = usual ? null : [...lines];
      change({ lines: view.lines });
    });
    target.dataset.drawn = "yes";
    signal();
  };
  if (whole) {
    whole.hidden = false;
    whole.control.addEventListener("change", () => change({ range: whole.control.checked ? "all" : "" }));
  }
  document.addEventListener("paibench-theme", draw);
  document.addEventListener("paibench-view", (event) => {
    const before = JSON.stringify([view.lines, view.range]);
    view = { ...event.detail };
    // a range and chosen lines need another specification, which loses the tooltip that is open
    if (!drawn) return;
    if (JSON.stringify([view.lines, view.range]) === before) signal();
    else draw();
  });
  document.dispatchEvent(new Event("paibench-ask"));
  draw();
})();

/* Draw the chart of a track from the specification in its page, in the colours of the theme. */
(() => {
  "use strict";
  const target = document.getElementById("chart");
  const source = document.getElementById("chart-spec");
  if (!target || !source || !window.vegaEmbed) return;
  const spec = JSON.parse(source.textContent);
  let drawn = null, kind = "all";
  const enlarge = document.getElementById("enlarge");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = () => {
    const [ink, faint, line] = ["--ink", "--soft", "--line"].map(color);
    const font = getComputedStyle(document.body).fontFamily;
    return { font, view: { stroke: null },
      axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: faint, tickColor: faint,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
      legend: { labelColor: ink, labelFontSize: 12, symbolOpacity: 1, orient: target.clientWidth < 560 ? "bottom" : "right",
        columns: target.clientWidth < 560 ? 2 : 1 } };
  };
  const filter = (chosen) => {
    kind = ["ranked", "elsewhere", "controls"].includes(chosen) ? chosen : "all";
    if (drawn) drawn.view.signal("kind", kind).runAsync();
  };
  const draw = async () => {
    if (drawn) drawn.finalize();
    const shown = structuredClone(spec);
    if (enlarge && enlarge.control.checked) {
      const domain = [Number(target.dataset.low), Number(target.dataset.high)];
      for (const layer of shown.layer) {
        layer.mark.clip = true;
        layer.encoding.y.scale = { domain };
      }
    }
    // `ast` avoids eval, which the policy of the page forbids. The styles are in site.css.
    drawn = await window.vegaEmbed(target, shown, { ast: true, actions: false, renderer: "svg", mode: "vega-lite",
      defaultStyle: false, tooltip: { disableDefaultStyle: true }, config: config() });
    target.dataset.drawn = "yes";
    filter(kind);
  };
  if (enlarge) {
    enlarge.hidden = false;
    enlarge.control.addEventListener("change", draw);
  }
  document.addEventListener("paibench-theme", draw);
  document.addEventListener("paibench-view", (event) => filter(event.detail.kind));
  draw().then(() => document.dispatchEvent(new Event("paibench-ask")));
})();

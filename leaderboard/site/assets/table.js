/* Search, sort, filter and save the tables of a page; the address keeps the view.
   DataTables does not do this: one search and one set of columns for all tables of a page, a sort
   that follows the numbers behind the text, and links to a view that work from a folder. */
(() => {
  "use strict";
  const tables = [...document.querySelectorAll("table[data-board]")];
  const tools = document.getElementById("tools");
  const KINDS = { ranked: "at initialization", elsewhere: "not at initialization",
    controls: "controls", supermasks: "supermasks before training",
    differences: "against random", "differences-erk": "against random with ERK quotas",
    verdicts: "what the controls say" };
  const HIDDEN = ["best", "seconds", "memory"];
  const REFERENCES = ["dense", "random", "random(layers=erk)"]; // they are shown with every class
  const START = { q: "", kind: "", uses: "", hide: null, sort: "", lines: null, range: "" };
  const view = { ...START };
  const boards = tables.map((table) => ({
    table, section: table.closest(".board"), body: table.tBodies[0],
    heads: [...table.tHead.rows[0].cells], rows: [...table.tBodies[0].rows],
    id: table.dataset.board,
  }));
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // -- the address --------------------------------------------------------------------------------
  const read = () => {
    const params = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    view.q = params.get("q") || "";
    view.kind = params.get("class") || "";
    view.hide = params.has("hide") ? params.get("hide").split(",").filter(Boolean) : null;
    view.sort = params.get("sort") || "";
    view.uses = params.get("uses") || "";
    view.lines = params.has("lines") ? params.getAll("lines").filter(Boolean) : null;
    view.range = params.get("range") || "";
  };
  const write = () => {
    const params = new URLSearchParams();
    if (view.q) params.set("q", view.q);
    if (view.kind) params.set("class", view.kind);
    if (view.hide) params.set("hide", view.hide.join(","));
    if (view.sort) params.set("sort", view.sort);
    if (view.uses) params.set("uses", view.uses);
    for (const line of view.lines ? [...view.lines, ""] : []) params.append("lines", line); // "": none is chosen
    if (view.range) params.set("range", view.range);
    const hash = params.toString();
    const url = hash ? `#${hash}` : `${location.pathname}${location.search}`;
    try { history.replaceState(null, "", url); } catch { location.hash = hash; }
  };
  const hidden = () => new Set(view.hide || HIDDEN);

  // -- the rows that are shown ---------------------------------------------------------------------
  const nameOf = (row) => row.cells[0].textContent;
  const usesOf = new Map(); // what the search of a method uses, by the name of its row
  for (const { heads, rows } of boards) {
    const column = heads.findIndex((head) => head.dataset.col === "uses");
    if (column >= 0) for (const row of rows) usesOf.set(nameOf(row), row.cells[column].textContent.trim());
  }
  const inClass = (row) => !view.uses || !usesOf.has(nameOf(row)) || REFERENCES.includes(nameOf(row))
    || usesOf.get(nameOf(row)) === view.uses;
  const matches = (row) => inClass(row) && nameOf(row).toLowerCase().includes(view.q.toLowerCase());
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.tagName === "TH") return cell.textContent;
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };
  const order = (board) => {
    const [id, key, direction] = view.sort.split(":");
    const column = board.heads.findIndex((head) => head.dataset.col === key);
    const sorted = id === board.id && column >= 0;
    board.heads.forEach((head, index) => {
      if (sorted && index === column) head.setAttribute("aria-sort", direction === "desc" ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    if (!sorted) return board.rows;
    const sign = direction === "desc" ? -1 : 1;
    const text = (row) => row.cells[column].textContent;
    return [...board.rows].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (typeof x === "string" || (x === null && y === null)) return sign * text(a).localeCompare(text(b));
      if (x === null) return 1; // cells without a number come last in both directions
      if (y === null) return -1;
      return sign * (x - y);
    });
  };
  const apply = () => {
    const hiddenKeys = hidden();
    let shown = 0, all = 0;
    for (const board of boards) {
      if (tools) board.section.hidden = Boolean(view.kind) && board.section.dataset.kind !== view.kind;
      board.body.replaceChildren(...order(board));
      for (const row of board.rows) {
        row.hidden = !matches(row);
        if (!board.section.hidden) { all += 1; shown += row.hidden ? 0 : 1; }
      }
      if (!tools) continue;
      const keys = board.heads.map((head) => head.dataset.col);
      for (const row of board.table.rows) {
        keys.forEach((key, at) => { row.cells[at].hidden = hiddenKeys.has(key); });
      }
    }
    if (tools) {
      tools.elements.q.value = view.q;
      if (tools.elements.kind) tools.elements.kind.value = view.kind;
      for (const tab of tools.querySelectorAll("[data-uses]")) tab.setAttribute("aria-pressed", tab.dataset.uses === view.uses);
      for (const box of tools.querySelectorAll("input[type=checkbox]")) box.checked = !hiddenKeys.has(box.value);
      tools.querySelector("output").textContent = `${shown} of ${all} rows`;
    }
    document.dispatchEvent(new CustomEvent("paibench-view", { detail: { ...view } }));
  };
  const change = (changes) => { Object.assign(view, changes); write(); apply(); };

  // -- saving -------------------------------------------------------------------------------------
  const safe = (text) => {
    // A spreadsheet reads a cell that starts with one of these characters as a formula.
    const plain = text.replace(/[\u0000-\u001f\u007f]+/g, " ").trim();
    return `"${(/^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain).replaceAll('"', '""')}"`;
  };
  const textOf = (cell) => [...cell.childNodes].map((node) => node.textContent.trim()).filter(Boolean).join("; ");
  const isNumber = (text) => /^[\d.,+−-]+( ?%)?$/.test(text);
  const fields = (cell, name, spread) => {
    const { v, l, h, n } = cell.dataset;
    const own = cell.firstChild ? cell.firstChild.textContent.trim() : "";
    // "at least 99 %" is more than its number
    const pairs = [[name, v !== undefined && (spread || isNumber(own)) ? v : safe(textOf(cell))]];
    if (spread) {
      pairs.push([`${name} low`, l ?? ""], [`${name} high`, h ?? ""], [`${name} n`, n ?? ""]);
      const small = cell.querySelector("small");
      pairs.push([`${name} note`, safe(small ? small.textContent : textOf(cell))]);
    }
    return pairs;
  };
  const shownRows = () => boards.filter(({ section }) => !section.hidden).map((board) => ({
    title: board.section.dataset.title,
    caption: board.table.caption.textContent.trim(),
    rows: [board.table.tHead.rows[0], ...board.body.rows].filter((row) => !row.hidden)
      .map((row) => [...row.cells].filter((cell) => !cell.hidden).map(plainCell)),
  }));
  const plainCell = (cell) => cell.dataset.title ?? (cell.firstChild ? cell.firstChild.textContent.trim() : "");
  const markdown = () => {
    const escape = (text) => text.replace(/[\\`*_{}[\]<>#|~]/g, "\\$&");
    return shownRows().map(({ title, caption, rows: [head, ...rows] }) => [
      `## ${escape(title)}`, "", escape(caption), "",
      ...[head, head.map((_, at) => (at ? "---:" : "---")), ...rows]
        .map((cells, line) => `| ${cells.map((text) => (line === 1 ? text : escape(text))).join(" | ")} |`),
      ""].join("\n")).join("\n");
  };
  const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "±": "$\\pm$", "−": "$-$", "–": "--", "↑": "$\\uparrow$", "◆": "$\\diamond$", "†": "$\\dagger$", "‡": "$\\ddagger$" };
  const latex = () => {
    const escape = (text) => text.replace(/[\\~^±−–↑◆†‡]|[&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);
    return shownRows().map(({ title, caption, rows: [head, ...rows] }) => [
      "\\begin{table}", "\\centering", "\\small", "\\setlength{\\tabcolsep}{3pt}", `\\caption{${escape(title)}. ${escape(caption)}}`,
      `\\begin{tabular}{l${"r".repeat(head.length - 1)}}`, "\\hline",
      `${head.map(escape).join(" & ")} \\\\`, "\\hline",
      ...rows.map((cells) => `${cells.map(escape).join(" & ")} \\\\`),
      "\\hline", "\\end{tabular}", "\\end{table}", ""].join("\n")).join("\n");
  };
  const copy = async (button, text) => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page that is opened from a folder may not use the clipboard
      const area = make("textarea", { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  };
  const csv = () => {
    const lines = [], names = new Map([["table", 0]]);
    for (const board of boards) {
      if (board.section.hidden) continue;
      const title = board.section.dataset.title;
      for (const row of board.body.rows) {
        if (row.hidden) continue;
        const line = new Map([["table", safe(title)]]);
        board.heads.forEach((head, at) => {
          if (row.cells[at].hidden) return;
          for (const [name, field] of fields(row.cells[at], head.dataset.title, head.dataset.spread)) {
            if (!names.has(name)) names.set(name, names.size);
            line.set(name, field);
          }
        });
        lines.push(line);
      }
    }
    const columns = [...names.keys()];
    const rows = lines.map((line) => columns.map((name) => line.get(name) ?? "").join(","));
    return [columns.map(safe).join(","), ...rows].join("\r\n") + "\r\n";
  };
  const save = () => {
    const link = make("a", { download: `${tools.dataset.file}.csv` });
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // -- controls -----------------------------------------------------------------------------------
  const columns = () => {
    const titles = new Map();
    for (const { heads } of boards) {
      for (const head of heads.slice(1)) {
        if (!/^w\d/.test(head.dataset.col)) titles.set(head.dataset.col, head.dataset.title); // not the columns of the win matrix
      }
    }
    const list = make("fieldset", {}, make("legend", { textContent: "Visible columns" }));
    for (const [key, title] of titles) {
      const box = make("input", { type: "checkbox", value: key });
      box.addEventListener("change", () => {
        const hiddenKeys = hidden();
        if (box.checked) hiddenKeys.delete(key); else hiddenKeys.add(key);
        change({ hide: [...hiddenKeys] });
      });
      list.append(make("label", {}, box, ` ${title}`));
    }
    return make("details", { className: "columns" }, make("summary", { textContent: "Columns" }), list);
  };
  const kinds = () => {
    const present = [...new Set(boards.map(({ section }) => section.dataset.kind))];
    if (present.length < 2) return [];
    const select = make("select", { name: "kind" }, make("option", { value: "", textContent: "all" }));
    for (const kind of present) {
      const { section } = boards.find((board) => board.section.dataset.kind === kind);
      const name = KINDS[kind] || section.dataset.title;
      select.append(make("option", { value: kind, textContent: name }));
    }
    select.addEventListener("change", () => change({ kind: select.value }));
    return [make("label", {}, "Show ", select)];
  };
  const classes = () => {
    const present = [...new Set([...usesOf.values()].filter((uses) => /[a-z]/.test(uses)))];
    if (present.length < 2) return [];
    const tab = (uses, text) => {
      const button = make("button", { type: "button", textContent: text });
      button.dataset.uses = uses;
      button.addEventListener("click", () => change({ uses }));
      return button;
    };
    const group = make("span", { className: "tabs" }, "Search uses ", tab("", "anything"), ...present.map((uses) => tab(uses, uses)));
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Methods by what their search uses");
    return [group];
  };
  const addControls = () => {
    const button = (text, act) => {
      const made = make("button", { type: "button", textContent: text });
      made.addEventListener("click", () => act(made));
      return made;
    };
    const search = make("input", { type: "search", name: "q", autocomplete: "off" });
    search.addEventListener("input", () => change({ q: search.value }));
    tools.append(...classes(), make("label", {}, "Search ", search), ...kinds(), columns(),
      button("Reset", () => change({ ...START })), button("Download as CSV", save),
      button("Copy as Markdown", (made) => copy(made, markdown())),
      button("Copy as LaTeX", (made) => copy(made, latex())), make("output"));
    tools.setAttribute("role", "search");
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.hidden = false;
  };
  // On a phone the sparse columns come first, because the others are outside of the screen; the
  // dense one stays.
  if (window.matchMedia("(max-width: 40rem)").matches) {
    for (const { table, heads } of boards) {
      const sparsities = heads.map((head, at) => [head.dataset.col, at]).filter(([key]) => /^d(0\.\d+|\d.*e-\d+)$/.test(key)).map(([, at]) => at);
      if (sparsities.length < 2) continue;
      for (const row of table.rows) {
        const cells = [...row.cells];
        const after = cells.find((_, at) => at > 0 && !sparsities.includes(at)) ?? null;
        for (const at of sparsities.toReversed()) row.insertBefore(cells[at], after);
      }
    }
    for (const board of boards) board.heads = [...board.table.tHead.rows[0].cells];
  }
  for (const board of boards) {
    board.heads.forEach((head) => {
      head.dataset.title = head.textContent;
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => {
        const number = head.dataset.col !== "name";
        const first = number ? "desc" : "asc", then = number ? "asc" : "desc";
        const current = view.sort.split(":");
        const same = current[0] === board.id && current[1] === head.dataset.col;
        const direction = !same ? first : current[2] === first ? then : null;
        change({ sort: direction ? [board.id, head.dataset.col, direction].join(":") : "" });
      });
      head.replaceChildren(button);
    });
  }
  if (tools) addControls();
  read();
  apply();
  window.addEventListener("hashchange", () => { read(); apply(); });
  document.addEventListener("paibench-ask", apply);
  document.addEventListener("paibench-change", (event) => change(event.detail));
})();
